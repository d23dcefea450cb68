/**
 * Whether a leader goes on leading although no majority answers it (check-quorum, thesis §6.2; the
 * ground on which leases stand). Time is counted in the leader's own ticks.
 */

import type { NodeId } from '../../raft/message.ts';
import type { RaftStatus } from '../../raft/raft.ts';
import { isMajority } from './configuration-history.ts';
import type { Ledger } from './invariants.ts';

type Contact = {
  ticks: number;
  electedAt: number;
  readonly heardAt: Map<NodeId, number>;
  configuration: RaftStatus['configuration'] | undefined;
};

export class LeaderContact {
  readonly #ledger: Ledger;
  readonly #patienceTicks: number;
  readonly #contacts = new Map<NodeId, Contact>();

  /** A check that has just been passed is the next one's beginning: two periods at most. */
  constructor(ledger: Ledger, electionTicks: number) {
    this.#ledger = ledger;
    this.#patienceTicks = 2 * electionTicks;
  }

  forget(id: NodeId): void {
    this.#contacts.delete(id);
  }

  onElected(id: NodeId): void {
    const contact = this.#contact(id);
    contact.electedAt = contact.ticks;
  }

  onDeliver(id: NodeId, from: NodeId): void {
    const contact = this.#contact(id);
    contact.heardAt.set(from, contact.ticks);
  }

  /** After a tick of the node. */
  onTick(id: NodeId, { role, configuration }: RaftStatus): void {
    const contact = this.#contact(id);
    contact.ticks += 1;
    if (role !== 'leader') return;
    if (contact.configuration !== configuration) {
      // Whoever is new counts as heard until it had time to answer.
      contact.configuration = configuration;
      contact.electedAt = contact.ticks;
    }
    const since = contact.ticks - this.#patienceTicks;
    if (since <= contact.electedAt) return;
    const isHeard = isMajority(
      configuration,
      (voter) => voter === id || since <= (contact.heardAt.get(voter) ?? -1),
    );
    this.#ledger.check('I15', isHeard, 'a leader leads on without a majority');
  }

  #contact(id: NodeId): Contact {
    let contact = this.#contacts.get(id);
    if (contact === undefined) {
      contact = { ticks: 0, electedAt: 0, heardAt: new Map(), configuration: undefined };
      this.#contacts.set(id, contact);
    }
    return contact;
  }
}
