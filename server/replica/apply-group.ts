/** One group of committed entries on its way to the store: what it does, and where that leads. */

import assert from 'node:assert/strict';
import { decodeConfiguration } from '../raft/configuration.ts';
import type { Configuration, Entry } from '../raft/message.ts';
import { commandAt } from '../storage/chunking.ts';
import type { Store, StoreOperation, StorePosition } from '../storage/store.ts';
import { GroupEffect } from './state-machine.ts';
import type { Refusal } from './state-machine.ts';

export class ApplyGroup {
  readonly entries: readonly Entry[];
  /** By index: those of the entries that had no effect, and why. */
  readonly refusals = new Map<number, Refusal>();
  readonly #effect: GroupEffect;
  readonly #first: Entry;
  readonly #last: Entry;
  #configuration: Configuration;

  /** `store` and `configuration` are as of just before. */
  constructor(store: Store, entries: readonly Entry[], configuration: Configuration) {
    const [first, last] = [entries[0], entries.at(-1)];
    assert(first !== undefined && last !== undefined, 'a group has entries');
    this.entries = entries;
    this.#first = first;
    this.#last = last;
    this.#effect = new GroupEffect(store);
    this.#configuration = configuration;
  }

  get firstIndex(): number {
    return this.#first.index;
  }

  get hasConfiguration(): boolean {
    return this.entries.some((entry) => entry.kind === 'configuration');
  }

  /** Must have ended before anything else is asked; without a promise it has. */
  evaluate(from = 0): Promise<void> | undefined {
    for (let i = from; i < this.entries.length; i += 1) {
      const entry = this.entries[i];
      assert(entry?.index === this.#first.index + i, 'entries are applied in order, each once');
      if (entry.kind === 'configuration') this.#configuration = decodeConfiguration(entry.command);
      const command = commandAt(this.entries, i);
      if (command === undefined) continue;
      const decided = this.#effect.execute(entry.index, command);
      if (decided instanceof Promise) {
        return decided.then((refusal) => {
          this.#note(entry.index, refusal);
          return this.evaluate(i + 1);
        });
      }
      this.#note(entry.index, decided);
    }
    return undefined;
  }

  #note(index: number, refusal: Refusal | undefined): void {
    if (refusal !== undefined) this.refusals.set(index, refusal);
  }

  operations(): readonly StoreOperation[] {
    return this.#effect.operations();
  }

  position(): StorePosition {
    return {
      lastIncludedIndex: this.#last.index,
      lastIncludedTerm: this.#last.term,
      configuration: this.#configuration,
    };
  }
}
