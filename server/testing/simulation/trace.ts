/**
 * What makes two runs the same: every event, with what it changed, in a 64-bit hash. Whether
 * somebody reads along makes no difference to it.
 */

import type { NodeId } from '../../raft/message.ts';
import type { RaftStatus } from '../../raft/raft.ts';
import type { EventQueue } from './event-queue.ts';

export class Trace {
  readonly #onEvent: ((line: string) => void) | undefined;
  #low = 0x811c9dc5;
  #high = 0x01000193;

  constructor(onEvent: ((line: string) => void) | undefined) {
    this.#onEvent = onEvent;
  }

  event(queue: EventQueue, id: NodeId, status: RaftStatus): void {
    const { role, currentTerm, commitIndex, lastIndex, appliedIndex } = status;
    this.number(queue.nowUs);
    this.number(id.charCodeAt(id.length - 1) * 8 + role.length);
    this.number(currentTerm);
    this.number(commitIndex * 4096 + (lastIndex - appliedIndex));
    if (this.#onEvent === undefined) return;
    this.#onEvent(
      `${queue.nowUs} ${id} ${role} term=${currentTerm} commit=${commitIndex} ` +
        `last=${lastIndex} applied=${appliedIndex}`,
    );
  }

  number(value: number): void {
    this.#low = Math.imul(this.#low ^ value, 0x01000193);
    this.#low ^= this.#low >>> 13;
    this.#high = Math.imul(this.#high ^ (value + this.#low), 0x85ebca6b);
    this.#high ^= this.#high >>> 15;
  }

  hash(): string {
    return [this.#high, this.#low]
      .map((half) => (half >>> 0).toString(16).padStart(8, '0'))
      .join('');
  }
}
