/**
 * The session of this process with the active node: numbers what it forwards, and knows which
 * numbers it may ask for again (see `core/exactly-once.ts` for the other end). A number is given
 * up only once nobody here waits for its answer any more.
 */

import { randomBytes } from 'node:crypto';
import type { RequestStamp } from '../core/ports.ts';

const SESSION_BYTES = 16;

type Session = { readonly id: string; readonly openedIndex: number };

export class RequestStamps {
  readonly #appliedIndex: () => number;
  #session: Session | undefined;
  #lastSequence = 0;
  /** In the order in which they were given, hence ascending. */
  readonly #underWay = new Set<number>();

  constructor(appliedIndex: () => number) {
    this.#appliedIndex = appliedIndex;
  }

  /** To be given to `release`, sooner or later. */
  take(): RequestStamp {
    this.#session ??= {
      id: randomBytes(SESSION_BYTES).toString('hex'),
      openedIndex: this.#appliedIndex(),
    };
    this.#lastSequence += 1;
    this.#underWay.add(this.#lastSequence);
    return {
      session: this.#session.id,
      openedIndex: this.#session.openedIndex,
      sequence: this.#lastSequence,
      acknowledgedBelow: this.#lowest(),
    };
  }

  release({ sequence }: RequestStamp): void {
    this.#underWay.delete(sequence);
  }

  /** The active node has forgotten the session: what comes next belongs to a new one. */
  expire({ session }: RequestStamp): void {
    // Numbers count on, so that the two sessions cannot be confused here.
    if (this.#session?.id === session) this.#session = undefined;
  }

  /** Requests that may be asked again. */
  get underWay(): number {
    return this.#underWay.size;
  }

  #lowest(): number {
    const [lowest] = this.#underWay;
    return lowest ?? this.#lastSequence;
  }
}
