/**
 * Revokes tokens when their time has come. Runs on the active node only; that an expired token is
 * refused does not depend on it, since every use judges the time itself.
 *
 * On start it reads all expirations from storage, in pages. Due tokens are revoked in batches of
 * bounded size. What fails is tried again later, each time twice as late, and given up until the
 * next start after a bounded number of attempts (openbao internal/vault/expiration.go,
 * `maxRevokeAttempts`). After `stop()` returns no further revocation begins.
 *
 * Each token has one moment, the earliest that was ever said: a renewal changes nothing, as storage
 * is asked when the moment has come. So memory is bounded by the number of tokens, and not by how
 * often they are renewed, or by how many were revoked before their time.
 */

import assert from 'node:assert/strict';

/** Calls back once after a delay, unless the returned function is called before. */
export type SetTimer = (delayMs: number, callback: () => void) => () => void;

export type Expiration = { readonly saltedId: string; readonly dueMs: number };

export type TokenExpiryOptions = {
  readonly clock: () => number;
  readonly setTimer: SetTimer;
  /** All tokens that expire, page by page. */
  readonly restore: () => AsyncIterable<readonly Expiration[]>;
  /** Revokes the token if it is due; else returns when it will be, or null if it is gone. */
  readonly expire: (saltedId: string) => Promise<number | null>;
  /** Told of each failure, and of the end of a restore that failed (without a token). */
  readonly onFailure: (error: unknown, saltedId: string | undefined) => void;
};

const BATCH_MAX = 64;
const ATTEMPTS_MAX = 6;
const RETRY_FIRST_MS = 1000;
const RETRY_MAX_MS = 60_000;
/** Timers do not count further than 2^31 ms; waking up once an hour costs nothing. */
const SLEEP_MAX_MS = 3_600_000;
/** So many moments of tokens that are gone, and as many as there are tokens, are put up with. */
const FORGOTTEN_MAX = 1024;

type Pending = Expiration & { readonly attempts: number };

export class TokenExpiry {
  readonly #options: TokenExpiryOptions;
  #heap = new MinHeap();
  /** The moment of each token; what else the heap holds has been overtaken. */
  readonly #due = new Map<string, Pending>();
  #isStopped = false;
  #isSweeping = false;
  #wakeMs = Number.POSITIVE_INFINITY;
  #cancelTimer: (() => void) | undefined;

  constructor(options: TokenExpiryOptions) {
    this.#options = options;
  }

  /** Resolves when all expirations are known; revoking goes on in the background. */
  async start(): Promise<void> {
    try {
      for await (const page of this.#options.restore()) {
        if (this.#isStopped) return;
        for (const { saltedId, dueMs } of page) this.schedule(saltedId, dueMs);
      }
    } catch (error) {
      if (!this.#isStopped) this.#options.onFailure(error, undefined);
    }
  }

  stop(): void {
    this.#isStopped = true;
    this.#cancelTimer?.();
    this.#cancelTimer = undefined;
  }

  schedule(saltedId: string, dueMs: number): void {
    if (this.#isStopped) return;
    const known = this.#due.get(saltedId);
    if (known !== undefined && known.dueMs <= dueMs) return;
    this.#push({ saltedId, dueMs, attempts: 0 });
    this.#arm();
  }

  /** The token is gone. */
  forget(saltedId: string): void {
    if (!this.#due.delete(saltedId)) return;
    if (this.#heap.size <= 2 * this.#due.size + FORGOTTEN_MAX) return;
    this.#heap = new MinHeap();
    for (const pending of this.#due.values()) this.#heap.push(pending);
  }

  /** How many moments are held in memory. */
  get size(): number {
    return this.#heap.size;
  }

  #push(pending: Pending): void {
    this.#due.set(pending.saltedId, pending);
    this.#heap.push(pending);
  }

  #arm(): void {
    const next = this.#heap.peek();
    if (this.#isStopped || this.#isSweeping || next === undefined) return;
    const nowMs = this.#options.clock();
    const wakeMs = Math.min(next.dueMs + 1, nowMs + SLEEP_MAX_MS);
    if (this.#cancelTimer !== undefined && this.#wakeMs <= wakeMs) return;
    this.#cancelTimer?.();
    this.#wakeMs = wakeMs;
    this.#cancelTimer = this.#options.setTimer(Math.max(0, wakeMs - nowMs), () => {
      this.#cancelTimer = undefined;
      // Failures are told to onFailure; nothing else can reject.
      void this.#sweep();
    });
  }

  async #sweep(): Promise<void> {
    if (this.#isSweeping) return;
    this.#isSweeping = true;
    for (let batch = this.#takeDue(); batch.length > 0; batch = this.#takeDue()) {
      await Promise.all(batch.map((pending) => this.#expire(pending)));
    }
    this.#isSweeping = false;
    this.#arm();
  }

  #takeDue(): Pending[] {
    const batch: Pending[] = [];
    const nowMs = this.#options.clock();
    while (!this.#isStopped && batch.length < BATCH_MAX) {
      const next = this.#heap.peek();
      if (next === undefined || nowMs <= next.dueMs) break;
      this.#heap.pop();
      if (this.#due.get(next.saltedId) !== next) continue;
      this.#due.delete(next.saltedId);
      batch.push(next);
    }
    return batch;
  }

  async #expire(pending: Pending): Promise<void> {
    try {
      const dueMs = await this.#options.expire(pending.saltedId);
      if (dueMs !== null) this.schedule(pending.saltedId, dueMs);
    } catch (error) {
      if (this.#isStopped) return;
      this.#options.onFailure(error, pending.saltedId);
      const attempts = pending.attempts + 1;
      if (attempts >= ATTEMPTS_MAX) return;
      const delayMs = Math.min(RETRY_FIRST_MS * 2 ** pending.attempts, RETRY_MAX_MS);
      const dueMs = this.#options.clock() + delayMs;
      this.#push({ saltedId: pending.saltedId, dueMs, attempts });
    }
  }
}

/** A binary heap by `dueMs`. */
class MinHeap {
  readonly #items: Pending[] = [];

  get size(): number {
    return this.#items.length;
  }

  peek(): Pending | undefined {
    return this.#items[0];
  }

  push(item: Pending): void {
    let index = this.#items.length;
    this.#items.push(item);
    while (index > 0) {
      const parent = (index - 1) >> 1;
      if (this.#at(parent).dueMs <= item.dueMs) break;
      this.#items[index] = this.#at(parent);
      index = parent;
    }
    this.#items[index] = item;
  }

  pop(): void {
    const last = this.#items.pop();
    const size = this.#items.length;
    if (last === undefined || size === 0) return;
    let index = 0;
    for (;;) {
      let child = 2 * index + 1;
      if (child >= size) break;
      if (child + 1 < size && this.#at(child + 1).dueMs < this.#at(child).dueMs) child += 1;
      if (last.dueMs <= this.#at(child).dueMs) break;
      this.#items[index] = this.#at(child);
      index = child;
    }
    this.#items[index] = last;
  }

  #at(index: number): Pending {
    const item = this.#items[index];
    assert(item !== undefined, 'index within the heap');
    return item;
  }
}
