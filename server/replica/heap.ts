/** A binary heap from which any item can be removed: for waits that end early or late. */

import assert from 'node:assert/strict';

/** Invariant: `#positions` holds for every item where it stands in `#items`. */
export class Heap<Item extends object> {
  readonly #keyOf: (item: Item) => number;
  readonly #items: Item[] = [];
  readonly #positions = new Map<Item, number>();

  constructor(keyOf: (item: Item) => number) {
    this.#keyOf = keyOf;
  }

  get size(): number {
    return this.#items.length;
  }

  /** The item with the least key. */
  first(): Item | undefined {
    return this.#items[0];
  }

  add(item: Item): void {
    assert(!this.#positions.has(item), 'an item is in a heap once');
    this.#items.push(item);
    this.#rise(this.#items.length - 1, item);
  }

  remove(item: Item): void {
    const position = this.#positions.get(item);
    if (position === undefined) return;
    this.#positions.delete(item);
    const last = this.#items.pop();
    assert(last !== undefined);
    if (last === item) return;
    this.#rise(position, last);
    this.#sink(this.#positions.get(last) ?? position, last);
  }

  /** Puts `item` at `position`, or above it where it belongs. */
  #rise(position: number, item: Item): void {
    let hole = position;
    while (hole > 0) {
      const above = (hole - 1) >> 1;
      const parent = this.#at(above);
      if (this.#keyOf(parent) <= this.#keyOf(item)) break;
      this.#place(hole, parent);
      hole = above;
    }
    this.#place(hole, item);
  }

  #sink(position: number, item: Item): void {
    let hole = position;
    for (;;) {
      const left = 2 * hole + 1;
      if (this.#items.length <= left) break;
      const right = left + 1;
      const isRightLess =
        right < this.#items.length && this.#keyOf(this.#at(right)) < this.#keyOf(this.#at(left));
      const least = isRightLess ? right : left;
      const child = this.#at(least);
      if (this.#keyOf(item) <= this.#keyOf(child)) break;
      this.#place(hole, child);
      hole = least;
    }
    this.#place(hole, item);
  }

  #at(position: number): Item {
    const item = this.#items[position];
    assert(item !== undefined);
    return item;
  }

  #place(position: number, item: Item): void {
    this.#items[position] = item;
    this.#positions.set(item, position);
  }
}
