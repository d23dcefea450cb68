/**
 * Lets a change of role happen between requests instead of within one (OpenBao's `stateLock`).
 *
 * A request that read as a standby and then wrote as the active node would write over what it has
 * not seen. So a promotion closes the gate: newcomers wait, those inside finish, and only then
 * does the barrier become writable. Losing leadership needs no gate, as it only takes away.
 */

export type DrainOptions = {
  /** After so long it is no longer waited for those who have not left. */
  readonly drainMsMax: number;
  /** Ends the waiting at once. */
  readonly signal: AbortSignal;
  readonly onOverdue: (inside: number) => void;
};

export class RequestGate {
  #inside = 0;
  #closers = 0;
  #opened: Promise<void> | undefined;
  #open: () => void = () => undefined;
  #onEmpty: (() => void) | undefined;
  #lastChange: Promise<void> = Promise.resolve();

  /** Resolves when the gate opens; undefined while it is open. */
  get opened(): Promise<void> | undefined {
    return this.#opened;
  }

  get inside(): number {
    return this.#inside;
  }

  enter(): void {
    this.#inside += 1;
  }

  leave(): void {
    this.#inside -= 1;
    if (this.#inside === 0) this.#onEmpty?.();
  }

  /**
   * Closes the gate in this turn, and runs `change` when nobody is inside. Changes that overlap run
   * one after another, with the gate closed throughout.
   */
  async closeWhile(options: DrainOptions, change: () => Promise<void>): Promise<void> {
    this.#closers += 1;
    this.#opened ??= new Promise((resolve) => (this.#open = resolve));
    const result = this.#drainAfter(this.#lastChange, options).then(change);
    this.#lastChange = result.then(
      () => undefined,
      () => undefined,
    );
    try {
      await result;
    } finally {
      this.#closers -= 1;
      if (this.#closers === 0) {
        this.#opened = undefined;
        this.#open();
      }
    }
  }

  async #drainAfter(before: Promise<void>, options: DrainOptions): Promise<void> {
    await before;
    await this.#drain(options);
  }

  async #drain({ drainMsMax, signal, onOverdue }: DrainOptions): Promise<void> {
    if (this.#inside === 0 || signal.aborted) return;
    await new Promise<void>((resolve) => {
      const finish = (): void => {
        clearTimeout(timer);
        signal.removeEventListener('abort', finish);
        this.#onEmpty = undefined;
        resolve();
      };
      const timer = setTimeout(() => {
        onOverdue(this.#inside);
        finish();
      }, drainMsMax);
      signal.addEventListener('abort', finish);
      this.#onEmpty = finish;
    });
  }
}
