import assert from 'node:assert/strict';

/** Counts the time without a leader's sign of life, against a limit drawn anew in each term. */
export class ElectionTimer {
  readonly #electionTicks: number;
  readonly #random: () => number;
  #elapsedTicks = 0;
  #timeoutTicks: number;

  constructor(electionTicks: number, random: () => number) {
    this.#electionTicks = electionTicks;
    this.#random = random;
    this.#timeoutTicks = this.#draw();
  }

  /** In `[electionTicks, 2 * electionTicks)`, so that votes seldom split (Raft §5.2). */
  #draw(): number {
    const fraction = this.#random();
    assert(0 <= fraction && fraction < 1, 'random() left [0, 1)');
    return this.#electionTicks + Math.floor(fraction * this.#electionTicks);
  }

  /** Returns whether the timeout has passed; it stays so until a restart. */
  tick(): boolean {
    this.#elapsedTicks += 1;
    return this.#timeoutTicks <= this.#elapsedTicks;
  }

  restart(): void {
    this.#elapsedTicks = 0;
  }

  /** Begins a new term: the same server shall not be the first again. */
  redraw(): void {
    this.#elapsedTicks = 0;
    this.#timeoutTicks = this.#draw();
  }

  /** No other server has had reason to replace a leader that was heard from so recently. */
  get isWithinLease(): boolean {
    return this.#elapsedTicks < this.#electionTicks;
  }
}
