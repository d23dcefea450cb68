/**
 * Log lines about what strangers do. Whoever can reach the port decides how often it happens, so
 * the same line is said once a minute, and no more than a few different ones; how many were left
 * out is said with the next.
 */

export type RefusalSink = (fields: object, event: string) => void;

const WINDOW_MS = 60_000;
const LINES_PER_WINDOW_MAX = 8;

export class RefusalLog {
  readonly #sink: RefusalSink;
  readonly #now: () => number;
  readonly #said = new Set<string>();
  #windowStartMs = -Infinity;
  #suppressed = 0;

  constructor(sink: RefusalSink, now: () => number = () => performance.now()) {
    this.#sink = sink;
    this.#now = now;
  }

  say(
    event: string,
    fields: { readonly remoteAddress?: string | undefined; readonly reason: string },
  ): void {
    const nowMs = this.#now();
    if (WINDOW_MS <= nowMs - this.#windowStartMs) {
      this.#windowStartMs = nowMs;
      this.#said.clear();
    }
    const line = `${event} ${fields.remoteAddress} ${fields.reason}`;
    if (this.#said.has(line) || this.#said.size === LINES_PER_WINDOW_MAX) {
      this.#suppressed += 1;
      return;
    }
    this.#said.add(line);
    const suppressed = this.#suppressed;
    this.#suppressed = 0;
    this.#sink(suppressed === 0 ? fields : { ...fields, suppressed }, event);
  }
}
