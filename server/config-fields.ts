/**
 * Reads blocks of a configuration by a table of fields. Every mistake names its place: an unknown
 * key with the nearest known one, a value of the wrong kind, a value out of bounds.
 */

import { HclError, isHclObject, type HclItem, type HclObject, type HclValue } from './hcl.ts';

export type Field<Value> = {
  readonly byDefault: Value;
  /** Throws an `Error` that says what is expected. */
  readonly read: (value: HclValue) => Value;
};

export type FieldTable = { readonly [key: string]: Field<unknown> };

export type FieldValues<Table extends FieldTable> = {
  readonly [Key in keyof Table]: Table[Key] extends Field<infer Value> ? Value : never;
};

/**
 * Every key of `body` must be a field, or one of the `blocks` that the caller reads itself. Where
 * a key repeats, the last one counts.
 */
export function readFields<Table extends FieldTable>(
  body: HclObject,
  table: Table,
  blocks: readonly string[],
): FieldValues<Table> {
  const values: Record<string, unknown> = {};
  for (const [key, field] of Object.entries(table)) values[key] = field.byDefault;
  for (const item of body.items) {
    if (blocks.includes(item.key)) continue;
    const field = Object.hasOwn(table, item.key) ? table[item.key] : undefined;
    if (field === undefined) throw unknownKey(item, [...Object.keys(table), ...blocks]);
    values[item.key] = readField(item, field);
  }
  return values as FieldValues<Table>;
}

export function boolean(byDefault: boolean): Field<boolean> {
  return {
    byDefault,
    read: (value) => {
      if (value === true || value === 'true' || value === 1) return true;
      if (value === false || value === 'false' || value === 0) return false;
      throw new Error('expected true or false');
    },
  };
}

export function text(byDefault: string): Field<string>;
export function text(byDefault: undefined): Field<string | undefined>;
export function text(byDefault: string | undefined): Field<string | undefined> {
  return {
    byDefault,
    read: (value) => {
      if (typeof value === 'string') return value;
      throw new Error('expected a string');
    },
  };
}

export function oneOf<const Choice extends string | number>(
  choices: readonly Choice[],
  byDefault: NoInfer<Choice>,
): Field<Choice> {
  return {
    byDefault,
    read: (value) => {
      const choice = choices.find((each) => String(each) === String(value));
      if (choice === undefined) throw new Error(`expected one of ${choices.join(', ')}`);
      return choice;
    },
  };
}

type Bounds = { readonly min: number; readonly max: number };

export function integer(byDefault: number, { min, max }: Bounds): Field<number> {
  return {
    byDefault,
    read: (value) => {
      const number = typeof value === 'string' && /^\d+$/.test(value) ? Number(value) : value;
      if (
        typeof number === 'number' &&
        Number.isInteger(number) &&
        number >= min &&
        number <= max
      ) {
        return number;
      }
      throw new Error(`expected an integer from ${min} to ${max}`);
    },
  };
}

/** Milliseconds, of `"50ms"`, `"1h30m"`, or a bare number of seconds, as OpenBao reads it. */
export function durationMs(byDefault: number, { min, max }: Bounds): Field<number> {
  return {
    byDefault,
    read: (value) => {
      const ms = parseDurationMs(value);
      if (ms === undefined) throw new Error('expected a duration like "50ms" or "1h30m"');
      if (ms < min || ms > max) throw new Error(`expected a duration from ${min} ms to ${max} ms`);
      return ms;
    },
  };
}

const MS_BY_UNIT: { readonly [unit: string]: number } = {
  ms: 1,
  s: 1000,
  m: 60_000,
  h: 3_600_000,
  d: 86_400_000,
};

function parseDurationMs(value: HclValue): number | undefined {
  if (typeof value === 'number') return value * 1000;
  if (typeof value !== 'string') return undefined;
  if (/^\d+$/.test(value)) return Number(value) * 1000;
  if (!/^(?:\d+(?:\.\d+)?(?:ms|s|m|h|d))+$/.test(value)) return undefined;
  let total = 0;
  for (const [, amount, unit] of value.matchAll(/(\d+(?:\.\d+)?)(ms|s|m|h|d)/g)) {
    total += Number(amount) * (MS_BY_UNIT[unit ?? ''] ?? Number.NaN);
  }
  return total;
}

function readField(item: HclItem, field: Field<unknown>): unknown {
  if (item.labels.length > 0 || (isHclObject(item.value) && item.value.items.length > 0)) {
    throw new HclError(item, `"${item.key}" is not a block`);
  }
  try {
    return field.read(item.value);
  } catch (error) {
    throw new HclError(item, `${item.key}: ${error instanceof Error ? error.message : ''}`);
  }
}

export function unknownKey(item: HclItem, known: readonly string[]): HclError {
  const nearest = nearestOf(item.key, known);
  const hint = nearest === undefined ? '' : `, did you mean "${nearest}"?`;
  return new HclError(item, `unknown key "${item.key}"${hint}`);
}

/** Undefined where nothing is near enough to be a misspelling. */
function nearestOf(key: string, known: readonly string[]): string | undefined {
  let nearest: string | undefined;
  let least = Math.max(2, Math.floor(key.length / 3)) + 1;
  for (const candidate of known) {
    const distance = editDistance(key, candidate);
    if (distance < least) {
      least = distance;
      nearest = candidate;
    }
  }
  return nearest;
}

/** Levenshtein, one row at a time. */
function editDistance(a: string, b: string): number {
  let row = Array.from({ length: b.length + 1 }, (_, at) => at);
  for (let i = 1; i <= a.length; i += 1) {
    const next = [i];
    for (let j = 1; j <= b.length; j += 1) {
      const substitution = (row[j - 1] ?? 0) + (a[i - 1] === b[j - 1] ? 0 : 1);
      next.push(Math.min(substitution, (row[j] ?? 0) + 1, (next[j - 1] ?? 0) + 1));
    }
    row = next;
  }
  return row[b.length] ?? 0;
}
