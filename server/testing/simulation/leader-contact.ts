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
  transferTarget: NodeId | null;
  transferTicks: number;
};

export class LeaderContact {
  readonly #ledger: Ledger;
  readonly #patienceTicks: number;
  readonly #electionTicks: number;
  readonly #contacts = new Map<NodeId, Contact>();

  /** A check that has just been passed is the next one's beginning: two periods at most. */
  constructor(ledger: Ledger, electionTicks: number) {
    this.#ledger = ledger;
    this.#electionTicks = electionTicks;
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
  onTick(id: NodeId, { role, configuration, transferTarget }: RaftStatus): void {
    const contact = this.#contact(id);
    contact.ticks += 1;
    // No write is taken while leadership is being handed over, so that must end.
    const isSame = transferTarget !== null && transferTarget === contact.transferTarget;
    contact.transferTicks = isSame ? contact.transferTicks + 1 : 0;
    contact.transferTarget = transferTarget;
    const isBrief = contact.transferTicks <= 2 * this.#electionTicks;
    this.#ledger.check('I22', isBrief, 'a transfer of leadership has no end');
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
      contact = {
        ticks: 0,
        electedAt: 0,
        heardAt: new Map(),
        configuration: undefined,
        transferTarget: null,
        transferTicks: 0,
      };
      this.#contacts.set(id, contact);
    }
    return contact;
  }
}
