/**
 * Keeps the log back while a follower gets a snapshot. The snapshot is old when it is installed; if
 * the log had gone on without it meanwhile, the follower would need another one, and under load yet
 * another, for ever. So what follows the snapshot stays until the follower has caught up, within a
 * bound: a follower that cannot keep up with what is written shall not fill this node's memory.
 */

import type { Entry, NodeId } from '../raft/message.ts';
import type { RaftStatus } from '../raft/raft.ts';

export class CatchUpHold {
  readonly #bytesMax: number;
  /** What each follower will need next is behind this index. */
  readonly #heldIndexes = new Map<NodeId, number>();
  #heldBytes = 0;
  /** How far the log could be forgotten if nothing were held. */
  #wantedIndex = 0;

  constructor(bytesMax: number) {
    this.#bytesMax = bytesMax;
  }

  /** A snapshot of `index` is on its way or will be built, perhaps not for the first time. */
  begin(id: NodeId, index: number): void {
    if (this.#heldIndexes.size === 0) this.#heldBytes = 0;
    this.#heldIndexes.set(id, index);
  }

  /** How far the log may be forgotten, of what it could be. */
  limit(index: number | undefined): number | undefined {
    if (index === undefined) return undefined;
    this.#wantedIndex = index;
    return Math.min(index, ...this.#heldIndexes.values());
  }

  /** Entries are kept in addition while anything is held; too many end that. */
  count(entries: readonly Entry[]): void {
    if (this.#heldIndexes.size === 0) return;
    for (const { command } of entries) this.#heldBytes += command.length;
    if (this.#bytesMax < this.#heldBytes) this.#heldIndexes.clear();
  }

  /** Returns up to which index the log may be forgotten, if that has changed. */
  observe({ role, progress }: RaftStatus): number | undefined {
    if (this.#heldIndexes.size === 0) return undefined;
    for (const id of this.#heldIndexes.keys()) {
      const peer = role === 'leader' ? progress.get(id) : undefined;
      if (peer === undefined) this.#heldIndexes.delete(id);
      else if (peer.kind !== 'snapshot' && this.#wantedIndex <= peer.matchIndex) {
        this.#heldIndexes.delete(id);
      }
    }
    return this.#heldIndexes.size === 0 && this.#wantedIndex > 0 ? this.#wantedIndex : undefined;
  }
}
