/** What etcd's nodes have committed, by index: nobody may ever commit something else there. */

import { Disagreement } from './agreement.ts';
import type { NodeStatus } from './oracle.ts';

export class CommittedLog {
  readonly #entries = new Map<number, string>();
  #lastIndex = 0;

  get lastIndex(): number {
    return this.#lastIndex;
  }

  holds(index: number, entry: string | undefined): boolean {
    return entry !== undefined && this.#entries.get(index) === entry;
  }

  /** Takes what a node has committed since it had `before`. What came in a snapshot is not seen. */
  note(before: number, status: NodeStatus): void {
    for (let index = before + 1; index <= status.commit; index += 1) {
      const entry = entryAt(status, index);
      if (entry === undefined) continue;
      const known = this.#entries.get(index) ?? entry;
      if (known !== entry) throw new Disagreement(`both commit ${known} and ${entry} at ${index}`);
      this.#entries.set(index, entry);
    }
    this.#lastIndex = Math.max(this.#lastIndex, status.commit);
  }
}

export function entryAt({ firstIndex, log }: NodeStatus, index: number): string | undefined {
  return log[index - firstIndex];
}

export function isTruncated(before: NodeStatus, after: NodeStatus): boolean {
  const first = Math.max(before.firstIndex, after.firstIndex);
  const last = before.firstIndex + before.log.length - 1;
  for (let index = first; index <= last; index += 1) {
    if (entryAt(before, index) !== entryAt(after, index)) return true;
  }
  return false;
}
