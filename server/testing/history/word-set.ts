/**
 * A set of sequences of 32-bit words, for search states: millions of short ones, added one by one
 * and never removed. The words lie one after the other in an arena, found by open addressing.
 */

/** Most histories need few: a simulation has several of them in every seed. */
const SLOTS_MIN = 256;
const ARENA_WORDS_MIN = 2 * 1024;

export class WordSet {
  /** Offset into the arena plus one; 0 is free. */
  #slots = new Int32Array(SLOTS_MIN);
  /** Each sequence is preceded by its length. */
  #arena = new Int32Array(ARENA_WORDS_MIN);
  #arenaEnd = 0;
  size = 0;

  /** Adds the first `length` words; false if the sequence is there already. */
  add(words: Int32Array, length: number): boolean {
    if (2 * this.size >= this.#slots.length) this.#growSlots();
    const mask = this.#slots.length - 1;
    let slot = hash(words, 0, length) & mask;
    for (;;) {
      const entry = this.#slots[slot] ?? 0;
      if (entry === 0) break;
      if (this.#equals(entry - 1, words, length)) return false;
      slot = (slot + 1) & mask;
    }
    this.#slots[slot] = this.#store(words, length) + 1;
    this.size += 1;
    return true;
  }

  #equals(offset: number, words: Int32Array, length: number): boolean {
    if (this.#arena[offset] !== length) return false;
    for (let at = 0; at < length; at += 1) {
      if (this.#arena[offset + 1 + at] !== words[at]) return false;
    }
    return true;
  }

  #store(words: Int32Array, length: number): number {
    const offset = this.#arenaEnd;
    if (this.#arena.length < offset + length + 1) {
      const larger = new Int32Array(2 * (this.#arena.length + length + 1));
      larger.set(this.#arena);
      this.#arena = larger;
    }
    this.#arena[offset] = length;
    for (let at = 0; at < length; at += 1) this.#arena[offset + 1 + at] = words[at] ?? 0;
    this.#arenaEnd = offset + length + 1;
    return offset;
  }

  #growSlots(): void {
    const slots = new Int32Array(2 * this.#slots.length);
    const mask = slots.length - 1;
    for (let offset = 0; offset < this.#arenaEnd;) {
      const length = this.#arena[offset] ?? 0;
      let slot = hash(this.#arena, offset + 1, length) & mask;
      while (slots[slot] !== 0) slot = (slot + 1) & mask;
      slots[slot] = offset + 1;
      offset += length + 1;
    }
    this.#slots = slots;
  }
}

/** FNV-1a by words, with the finish of MurmurHash3 so that low bits depend on all. */
function hash(words: Int32Array, start: number, length: number): number {
  let value = 0x811c9dc5;
  for (let at = start; at < start + length; at += 1) {
    value = Math.imul(value ^ (words[at] ?? 0), 0x01000193);
    value ^= value >>> 15;
  }
  value = Math.imul(value ^ (value >>> 16), 0x85ebca6b);
  value = Math.imul(value ^ (value >>> 13), 0xc2b2ae35);
  return (value ^ (value >>> 16)) >>> 0;
}
