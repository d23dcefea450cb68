/**
 * A leadership transfer under way (thesis §3.10): the target first gets the whole log, or it would
 * lose the election, and is then told once to campaign. After `electionTicks` it is given up.
 */

import type { NodeId } from './message.ts';

export class Transfer {
  readonly #electionTicks: number;
  #target: NodeId | null = null;
  #elapsedTicks = 0;
  #isCalled = false;

  constructor(electionTicks: number) {
    this.#electionTicks = electionTicks;
  }

  get target(): NodeId | null {
    return this.#target;
  }

  /** Does nothing if `to` is the target already. */
  begin(to: NodeId): void {
    if (this.#target === to) return;
    this.#target = to;
    this.#elapsedTicks = 0;
    this.#isCalled = false;
  }

  giveUp(): void {
    this.#target = null;
  }

  tick(): void {
    this.#elapsedTicks += 1;
    if (this.#electionTicks <= this.#elapsedTicks) this.#target = null;
  }

  /** Returns the target if it is to be told to campaign now; the next call returns nothing. */
  call(isCaughtUp: (target: NodeId) => boolean): NodeId | undefined {
    if (this.#target === null || this.#isCalled || !isCaughtUp(this.#target)) return undefined;
    this.#isCalled = true;
    return this.#target;
  }
}
