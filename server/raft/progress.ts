/**
 * What a leader knows of one other server, and what it may send next.
 *
 * ```
 *            acknowledged                    refused, unreachable
 *   probe ─────────────────▶ replicate ──────────────────────────▶ probe
 *     │  log compacted there     │ log compacted there
 *     ▼                          ▼
 *   snapshot ── acknowledged ──▶ replicate        snapshot ── reported ──▶ probe
 * ```
 *
 * - `probe`: where the logs meet is unknown; one append at a time, then wait for an answer or for
 *   the next heartbeat's.
 * - `replicate`: appends follow each other without waiting, within a window by count and by bytes.
 * - `snapshot`: the server needs a state from before the log begins; nothing else is sent.
 */

import assert from 'node:assert/strict';

/** The window in bytes, as a number of full appends: enough to keep a disk busy in each round. */
const WINDOW_FULL_APPENDS = 8;

export type ProgressLimits = {
  readonly appendBytesMax: number;
  readonly inflightAppendsMax: number;
};

export type ProgressStatus = {
  readonly matchIndex: number;
  readonly nextIndex: number;
  readonly kind: 'probe' | 'replicate' | 'snapshot';
  readonly appliedIndex: number;
  readonly recentActive: boolean;
  /** Since the server was last heard, or since it is known in this term. */
  readonly quietTicks: number;
};

/**
 * Invariants:
 * - `matchIndex < nextIndex`; `matchIndex` never goes back.
 * - `inflight` is empty but in `replicate`; its indexes ascend within `(matchIndex, nextIndex)`.
 * - `pendingSnapshotIndex` is non-zero exactly in `snapshot`.
 */
export class Progress {
  readonly #limits: ProgressLimits;
  #kind: 'probe' | 'replicate' | 'snapshot' = 'probe';
  #matchIndex = 0;
  #nextIndex: number;
  #isProbeSent = false;
  #isNudgeDue = false;
  #inflight: { readonly lastIndex: number; readonly bytes: number }[] = [];
  #inflightBytes = 0;
  #pendingSnapshotIndex = 0;
  #sentCommit = 0;
  #appliedIndex = 0;
  #recentActive: boolean;
  #quietTicks = 0;

  constructor(start: {
    readonly nextIndex: number;
    readonly recentActive: boolean;
    readonly limits: ProgressLimits;
  }) {
    assert(0 < start.nextIndex);
    this.#nextIndex = start.nextIndex;
    this.#recentActive = start.recentActive;
    this.#limits = start.limits;
  }

  get kind(): 'probe' | 'replicate' | 'snapshot' {
    return this.#kind;
  }

  /** The server has shown to hold this durably, and equal to the leader's log. */
  get matchIndex(): number {
    return this.#matchIndex;
  }

  get nextIndex(): number {
    return this.#nextIndex;
  }

  /** The highest commit index sent in an append that has not been refused. */
  get sentCommit(): number {
    return this.#sentCommit;
  }

  get appliedIndex(): number {
    return this.#appliedIndex;
  }

  get recentActive(): boolean {
    return this.#recentActive;
  }

  /** An append should go out even if it carries nothing: its answer is what is wanted. */
  get isAnswerWanted(): boolean {
    return this.#kind === 'probe' ? !this.#isProbeSent : this.#isNudgeDue;
  }

  get isPaused(): boolean {
    switch (this.#kind) {
      case 'probe':
        return this.#isProbeSent;
      case 'replicate':
        return (
          this.#limits.inflightAppendsMax <= this.#inflight.length ||
          WINDOW_FULL_APPENDS * this.#limits.appendBytesMax <= this.#inflightBytes
        );
      case 'snapshot':
        return true;
    }
  }

  status(): ProgressStatus {
    return {
      matchIndex: this.#matchIndex,
      nextIndex: this.#nextIndex,
      kind: this.#kind,
      appliedIndex: this.#appliedIndex,
      recentActive: this.#recentActive,
      quietTicks: this.#quietTicks,
    };
  }

  tick(): void {
    this.#quietTicks += 1;
  }

  /** The server has answered something. Answers can overtake each other, so the index may be old. */
  hear(appliedIndex: number): void {
    this.#recentActive = true;
    this.#quietTicks = 0;
    this.#appliedIndex = Math.max(this.#appliedIndex, appliedIndex);
  }

  /** Begins a new period of the leader's check for a live quorum. */
  forgetActivity(): void {
    this.#recentActive = false;
  }

  /** A heartbeat was answered: whatever is still unanswered by now may be lost. */
  hearHeartbeat(lastIndex: number): void {
    this.#isProbeSent = false;
    this.#isNudgeDue = this.#kind === 'replicate' && this.#matchIndex < lastIndex;
  }

  /** The server has not applied what it was told to be committed: the append may have been lost. */
  doubtSentCommit(): void {
    this.#sentCommit = Math.min(this.#sentCommit, this.#appliedIndex);
  }

  sendAppend(sent: {
    readonly entryCount: number;
    readonly bytes: number;
    readonly leaderCommit: number;
  }): void {
    assert(this.#kind !== 'snapshot');
    this.#sentCommit = Math.max(this.#sentCommit, sent.leaderCommit);
    this.#isNudgeDue = false;
    if (this.#kind === 'probe') {
      this.#isProbeSent = true;
    } else if (sent.entryCount > 0) {
      assert(!this.isPaused, 'append beyond the window');
      this.#nextIndex += sent.entryCount;
      this.#inflight.push({ lastIndex: this.#nextIndex - 1, bytes: sent.bytes });
      this.#inflightBytes += sent.bytes;
    }
  }

  sendCommit(leaderCommit: number): void {
    this.#sentCommit = Math.max(this.#sentCommit, leaderCommit);
  }

  sendSnapshot(lastIncludedIndex: number): void {
    assert(this.#matchIndex < lastIncludedIndex, 'snapshot of what the server holds');
    this.#become('snapshot', Math.max(this.#nextIndex, this.#matchIndex + 1));
    this.#pendingSnapshotIndex = lastIncludedIndex;
  }

  /** `firstIndex` is where the leader's log begins. Returns whether anything was learned. */
  acknowledge(matchIndex: number, firstIndex: number): boolean {
    const isNews = this.#matchIndex < matchIndex;
    if (isNews) {
      this.#matchIndex = matchIndex;
      this.#nextIndex = Math.max(this.#nextIndex, matchIndex + 1);
      let freed = 0;
      for (const append of this.#inflight) {
        if (matchIndex < append.lastIndex) break;
        this.#inflightBytes -= append.bytes;
        freed += 1;
      }
      this.#inflight.splice(0, freed);
    }
    const isSnapshotDone =
      this.#kind === 'snapshot' &&
      (this.#pendingSnapshotIndex <= this.#matchIndex || firstIndex <= this.#matchIndex + 1);
    const isProbeDone = this.#kind === 'probe' && matchIndex === this.#matchIndex;
    if (isSnapshotDone || isProbeDone) this.#become('replicate', this.#matchIndex + 1);
    return isNews || isSnapshotDone || isProbeDone;
  }

  /**
   * The append after `rejectedIndex` was refused; the logs meet at `hintIndex` at the latest. An
   * answer that an acknowledgement or another refusal has overtaken changes nothing.
   */
  refuse(rejectedIndex: number, hintIndex: number): void {
    switch (this.#kind) {
      case 'replicate':
        // `nextIndex` ran ahead of what is known, so the hint is not needed.
        if (this.#matchIndex < rejectedIndex) this.#become('probe', this.#matchIndex + 1);
        return;
      case 'probe': {
        if (this.#nextIndex - 1 !== rejectedIndex) return;
        const nextIndex = Math.min(rejectedIndex, hintIndex + 1);
        this.#become('probe', Math.max(nextIndex, this.#matchIndex + 1));
        return;
      }
      case 'snapshot':
        return;
    }
  }

  /** What is in flight is likely lost. Waits for a sign of life instead of sending at once. */
  reportUnreachable(): void {
    if (this.#kind !== 'replicate') return;
    this.#become('probe', this.#matchIndex + 1);
    this.#isProbeSent = true;
  }

  reportSnapshot(ok: boolean): void {
    if (this.#kind !== 'snapshot') return;
    const heldIndex = ok
      ? Math.max(this.#matchIndex, this.#pendingSnapshotIndex)
      : this.#matchIndex;
    this.#become('probe', heldIndex + 1);
    this.#isProbeSent = true;
  }

  #become(kind: 'probe' | 'replicate' | 'snapshot', nextIndex: number): void {
    assert(this.#matchIndex < nextIndex);
    this.#kind = kind;
    this.#nextIndex = nextIndex;
    this.#isProbeSent = false;
    this.#isNudgeDue = false;
    this.#inflight = [];
    this.#inflightBytes = 0;
    this.#pendingSnapshotIndex = 0;
    // An append that carried a later commit index may have been lost; one that ended a probe was not.
    if (kind !== 'replicate') this.#sentCommit = Math.min(this.#sentCommit, this.#matchIndex);
  }
}
