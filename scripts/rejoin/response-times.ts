/** An open loop of one request at a time each so many milliseconds, and how long each took. */

import { Histogram } from '../../bench/load/histogram.ts';

export type Summary = {
  readonly count: number;
  readonly failures: number;
  readonly p50Ms: number;
  readonly p99Ms: number;
  readonly maxMs: number;
};

type Phase = { readonly histogram: Histogram; failures: number };

export class ResponseTimes {
  readonly #rate: number;
  readonly #request: (number: number) => Promise<void>;
  readonly #phases = new Map<string, Phase>();
  readonly #underWay = new Set<Promise<void>>();
  readonly #timer: NodeJS.Timeout;
  readonly #startMs = performance.now();
  #phase: Phase | undefined;
  #sent = 0;

  constructor(rate: number, request: (number: number) => Promise<void>) {
    this.#rate = rate;
    this.#request = request;
    this.#timer = setInterval(() => this.#sendDue(), 1);
  }

  /** What is due from now on counts for the phase. */
  start(name: string): void {
    this.#sendDue();
    this.#phase = { histogram: new Histogram(), failures: 0 };
    this.#phases.set(name, this.#phase);
  }

  summary(name: string): Summary {
    const phase = this.#phases.get(name);
    if (phase === undefined) throw new Error(`no phase ${name}`);
    const { histogram, failures } = phase;
    const ms = (quantile: number): number => histogram.valueAtQuantile(quantile) / 1_000;
    return {
      ...{ count: histogram.count, failures },
      ...{ p50Ms: ms(0.5), p99Ms: ms(0.99), maxMs: ms(1) },
    };
  }

  async stop(): Promise<void> {
    clearInterval(this.#timer);
    await Promise.all(this.#underWay);
    for (const { histogram } of this.#phases.values()) histogram.destroy();
  }

  #sendDue(): void {
    const due = Math.floor(((performance.now() - this.#startMs) / 1_000) * this.#rate);
    for (; this.#sent < due; this.#sent += 1) this.#send(this.#sent);
  }

  #send(number: number): void {
    const phase = this.#phase;
    if (phase === undefined) return;
    const intendedMs = this.#startMs + (number * 1_000) / this.#rate;
    const done = this.#request(number).then(
      () => phase.histogram.recordUs((performance.now() - intendedMs) * 1_000),
      () => {
        phase.failures += 1;
      },
    );
    const settled = done.finally(() => this.#underWay.delete(settled));
    this.#underWay.add(settled);
  }
}
