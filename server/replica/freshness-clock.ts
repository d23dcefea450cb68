/**
 * How old what this node has applied can be at most, without any clock but its own. Evidence is a
 * pair: a state that has applied `index` holds all that was acknowledged before `asOfMs`. It counts
 * from when this node has applied that index.
 */

import type { Freshness } from '../raft/message.ts';
import type { Clock } from './clock.ts';
import { SleepWatch } from './sleep-watch.ts';

/** Evidence that waits to be applied. Beyond it the newest replaces the last. */
const EVIDENCE_MAX = 16;

export class FreshnessClock {
  readonly #clock: Clock;
  readonly #appliedIndex: () => number;
  readonly #sleep: SleepWatch;
  #asOfMs: number | undefined;
  #evidence: Freshness[] = [];
  /** Evidence from before this moment may be older than the clock says. */
  #trustedFromMs = -Infinity;

  constructor(clock: Clock, appliedIndex: () => number) {
    this.#clock = clock;
    this.#appliedIndex = appliedIndex;
    this.#sleep = new SleepWatch(clock);
  }

  learn(evidence: Freshness): void {
    if (this.#hasLostTrust(evidence.asOfMs) || evidence.asOfMs <= (this.#asOfMs ?? -Infinity))
      return;
    const isNews = this.#evidence.every(
      ({ asOfMs, index }) => asOfMs < evidence.asOfMs || evidence.index < index,
    );
    if (!isNews) return;
    if (this.#evidence.length === EVIDENCE_MAX) this.#evidence.pop();
    this.#evidence.push(evidence);
  }

  /** Undefined as long as there is no evidence. */
  stalenessMs(): number | undefined {
    if (this.#sleep.hasSlept()) this.#forget();
    if (this.#evidence.length > 0) this.#weigh(this.#appliedIndex());
    return this.#asOfMs === undefined ? undefined : this.#clock.nowMs() - this.#asOfMs;
  }

  #hasLostTrust(asOfMs: number): boolean {
    if (this.#sleep.hasSlept()) this.#forget();
    return asOfMs < this.#trustedFromMs;
  }

  #weigh(appliedIndex: number): void {
    const isApplied = ({ index }: Freshness): boolean => index <= appliedIndex;
    for (const { asOfMs } of this.#evidence.filter(isApplied)) {
      this.#asOfMs = Math.max(asOfMs, this.#asOfMs ?? -Infinity);
    }
    this.#evidence = this.#evidence.filter((each) => !isApplied(each));
  }

  #forget(): void {
    this.#trustedFromMs = this.#clock.nowMs();
    this.#asOfMs = undefined;
    this.#evidence = [];
  }
}
