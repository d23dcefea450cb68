/** Which configuration the cluster was in after each committed entry, and majorities in one. */

import { decodeConfiguration } from '../../raft/configuration.ts';
import type { Configuration, Entry, NodeId } from '../../raft/message.ts';
import type { RaftStatus } from '../../raft/raft.ts';
import type { LogImage } from '../simulated-node.ts';
import type { Ledger } from './invariants.ts';

type Step = { readonly index: number; readonly text: string };

export class ConfigurationHistory {
  readonly #ledger: Ledger;
  /** By index, ascending. The founding one is not here: it is whatever the first nodes began with. */
  readonly #steps: Step[] = [];
  #founding: string | undefined;

  constructor(ledger: Ledger) {
    this.#ledger = ledger;
  }

  onCommit(entry: Entry): void {
    if (entry.kind !== 'configuration') return;
    const text = textOf(decodeConfiguration(entry.command));
    this.#steps.push({ index: entry.index, text });
  }

  /** Whether a configuration was committed within `(before, appliedIndex]`. */
  isPassed(before: number, appliedIndex: number): boolean {
    if (before === appliedIndex || this.#steps.length === 0) return false;
    return this.#steps.some(({ index }) => before < index && index <= appliedIndex);
  }

  /** A configuration is in force from the moment in which it is applied. */
  checkInForce({ configuration, appliedIndex }: RaftStatus): void {
    // A server that has yet to join knows of none.
    if (configuration.servers.length === 0) return;
    const text = textOf(configuration);
    this.#founding ??= text;
    const step = this.#steps.findLast(({ index }) => index <= appliedIndex);
    const next = this.#steps.find(({ index }) => appliedIndex < index);
    // While a snapshot is installed, its configuration is in force and its index is not applied.
    const isRight = text === (step?.text ?? this.#founding) || text === next?.text;
    const isAhead = this.#steps.some((each) => appliedIndex < each.index && each.text === text);
    this.#ledger.check(
      'I11',
      isRight || isAhead,
      'a configuration is in force that is not applied',
    );
  }

  /** The next configuration is proposed only when the one before it is committed. */
  checkEarlier(view: LogImage, last: Entry, committedIndex: number): void {
    for (let index = committedIndex + 1; index < last.index; index += 1) {
      const isOther = view.entryAt(index)?.kind !== 'configuration';
      this.#ledger.check('I11', isOther, 'two configurations wait to be committed');
    }
    this.#ledger.check('I11', true, 'two configurations wait to be committed');
  }
}

/**
 * Whether `holds` is true of a majority of the voters, in a joint configuration of each half.
 * Learners count for nothing. Counted here anew: the core's own arithmetic is what is checked.
 */
export function isMajority(
  { servers, joint }: Configuration,
  holds: (id: NodeId) => boolean,
): boolean {
  const incoming = servers.filter(({ suffrage }) => suffrage === 'voter').map(({ id }) => id);
  const halves = joint === undefined ? [incoming] : [incoming, joint.votersOutgoing];
  return halves.every((voters) => voters.length < 2 * voters.filter(holds).length);
}

function textOf({ servers, joint }: Configuration): string {
  const incoming = servers.map(({ id, suffrage, address }) => `${id} ${suffrage} ${address}`);
  return [...incoming, ...(joint === undefined ? [] : ['&', ...joint.votersOutgoing])].join();
}
