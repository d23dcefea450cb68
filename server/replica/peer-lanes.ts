/**
 * Two connections to one peer, so that what is large never delays what is urgent:
 *
 * - `control`: votes, heartbeats, answers, reads, and small appends;
 * - `bulk`: large appends, and catching up.
 *
 * Appends must not overtake each other, or the peer refuses the one that came first. So while one
 * on `bulk` is unanswered, those after it follow it there.
 */

import type { AppendEntriesResponse, Message } from '../raft/message.ts';
import type { Clock } from './clock.ts';
import { PeerLane } from './peer-lane.ts';
import type { PeerSocket } from './peer-socket.ts';
import { encodeMessage } from './wire.ts';

export type Lane = 'control' | 'bulk';

export type LaneLimits = {
  /** Takes under a millisecond on a slow network; a heartbeat may wait behind some of them. */
  readonly controlAppendBytesMax: number;
  /** With so much waiting on `control` already, appends have no business there. */
  readonly controlBacklogBytesMax: number;
  readonly controlBytesMax: number;
  /** The largest frame, and about the window that raft keeps in flight. */
  readonly bulkBytesMax: number;
};

export const LANE_LIMITS: LaneLimits = {
  controlAppendBytesMax: 64 * 1024,
  controlBacklogBytesMax: 256 * 1024,
  controlBytesMax: 1024 * 1024,
  bulkBytesMax: 16 * 1024 * 1024,
};

export class PeerLanes {
  readonly #limits: LaneLimits;
  readonly #control: PeerLane;
  readonly #bulk: PeerLane;
  /** The last append on `bulk` that may be unanswered. */
  #bulkTail: { readonly term: number; readonly lastIndex: number } | undefined;

  constructor(options: {
    readonly clock: Clock;
    readonly limits: LaneLimits;
    dial(lane: Lane): Promise<PeerSocket>;
    onLoss(): void;
  }) {
    const { clock, limits } = options;
    this.#limits = limits;
    this.#control = new PeerLane({
      bytesMax: limits.controlBytesMax,
      clock,
      dial: () => options.dial('control'),
      onLoss: options.onLoss,
    });
    this.#bulk = new PeerLane({
      bytesMax: limits.bulkBytesMax,
      clock,
      dial: () => options.dial('bulk'),
      onLoss: () => {
        this.#bulkTail = undefined;
        options.onLoss();
      },
    });
  }

  get backlogBytes(): number {
    return this.#control.backlogBytes + this.#bulk.backlogBytes;
  }

  enqueue(message: Message): void {
    const parts = encodeMessage(message);
    const bytes = parts.reduce((sum, part) => sum + part.length, 0);
    const isAppend = message.kind === 'appendEntries';
    const frame = { parts, bytes, isAppend };
    if (!isAppend || !this.#isBulk(message.term, bytes)) {
      this.#control.enqueue(frame);
      return;
    }
    const { term, prevLogIndex, entries } = message;
    const lastIndex = Math.max(prevLogIndex + entries.length, this.#bulkTail?.lastIndex ?? 0);
    this.#bulkTail = { term, lastIndex };
    this.#bulk.enqueue(frame);
  }

  #isBulk(term: number, bytes: number): boolean {
    if (this.#bulkTail !== undefined && this.#bulkTail.term !== term) this.#bulkTail = undefined;
    return (
      this.#bulkTail !== undefined ||
      this.#limits.controlAppendBytesMax < bytes ||
      this.#limits.controlBacklogBytesMax < this.#control.backlogBytes
    );
  }

  /** The peer's answer to an append. */
  heard(answer: AppendEntriesResponse): void {
    const tail = this.#bulkTail;
    if (tail === undefined) return;
    // After a refusal raft begins anew, and nothing on its way can still be of use.
    if (!answer.success || tail.lastIndex <= answer.matchIndex) this.#bulkTail = undefined;
  }

  flush(): void {
    this.#control.flush();
    if (this.#bulkTail !== undefined || this.#bulk.backlogBytes > 0) this.#bulk.flush();
  }

  /** The other side has shown to be alive. */
  forgetBackoff(): void {
    this.#control.forgetBackoff();
    this.#bulk.forgetBackoff();
  }

  close(): void {
    this.#control.close();
    this.#bulk.close();
  }
}
