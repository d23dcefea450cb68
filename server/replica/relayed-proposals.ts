/** The driver's view of proposals whose callers wait in another thread. */

import assert from 'node:assert/strict';
import type { ServerError } from '../errors.ts';
import type { DriverProposals } from './driver.ts';
import type { Proposal } from './proposals.ts';
import { packError } from '../threads/packed-error.ts';
import type { FromRaft } from './thread-protocol.ts';

export class RelayedProposals implements DriverProposals {
  readonly #post: (message: FromRaft) => void;
  #waiting: Proposal[][] = [];
  /** Under which number a batch came, by its first proposal. */
  readonly #numbers = new WeakMap<Proposal, number>();

  constructor(post: (message: FromRaft) => void) {
    this.#post = post;
  }

  add(batch: number, commands: readonly Uint8Array[]): void {
    const proposals = commands.map(proposalOf);
    const [first] = proposals;
    assert(first !== undefined, 'a batch is never empty');
    this.#numbers.set(first, batch);
    this.#waiting.push(proposals);
  }

  /** A proposal that stands for a change of the configuration, as a batch of its own. */
  claim(batch: number): Proposal {
    const proposal = proposalOf(new Uint8Array(0));
    this.#numbers.set(proposal, batch);
    return proposal;
  }

  takeBatches(): Proposal[][] {
    const batches = this.#waiting;
    this.#waiting = [];
    return batches;
  }

  accepted(batch: readonly Proposal[], firstIndex: number, term: number): void {
    this.#post({ kind: 'accepted', batch: this.#numberOf(batch), firstIndex, term });
  }

  refused(batch: readonly Proposal[], error: ServerError): void {
    this.#post({ kind: 'refused', batch: this.#numberOf(batch), error: packError(error) });
  }

  leadershipLost(): void {
    this.#post({ kind: 'leadershipLost' });
  }

  /** The other thread has a clock of its own. */
  expire(): void {}

  #numberOf([first]: readonly Proposal[]): number {
    const batch = first && this.#numbers.get(first);
    assert(batch !== undefined, 'a batch that nobody gave');
    return batch;
  }
}

/** Its callers are told by the other thread, which knows them. */
function proposalOf(command: Uint8Array): Proposal {
  return { command, resolve: ignore, reject: ignore };
}

function ignore(): void {}
