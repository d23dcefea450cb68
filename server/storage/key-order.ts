/**
 * The order of keys, and what a listing makes of it.
 *
 * Keys are ordered by their UTF-8 bytes, as LevelDB and Go order them. JavaScript compares UTF-16
 * code units instead, which puts a surrogate pair (U+10000 and above) before U+E000..U+FFFF.
 */

/** The character that follows `/`: all keys below directory `d/` are before `d` + this. */
const AFTER_SLASH = '0';

export function compareKeys(a: string, b: string): number {
  const length = Math.min(a.length, b.length);
  for (let i = 0; i < length; i += 1) {
    const left = a.charCodeAt(i);
    const right = b.charCodeAt(i);
    if (left !== right) return rank(left) - rank(right);
  }
  return a.length - b.length;
}

/** Moves surrogates behind all other code units, which is where their code points belong. */
function rank(unit: number): number {
  return 0xd800 <= unit && unit <= 0xdfff ? unit + 0x10000 : unit;
}

/** The child of `prefix` that `key` is, or lies below; a directory keeps its slash. */
export function childOf(prefix: string, key: string): string {
  const slash = key.indexOf('/', prefix.length);
  return slash < 0 ? key.slice(prefix.length) : key.slice(prefix.length, slash + 1);
}

/** The first possible key that is not the child itself and not below it. */
export function keyAfterChild(prefix: string, child: string): string {
  return child.endsWith('/')
    ? `${prefix}${child.slice(0, -1)}${AFTER_SLASH}`
    : `${prefix}${child}\u0000`;
}
