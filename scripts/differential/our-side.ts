/**
 * Our cores, driven as the other side is: whatever a step leads to is written, applied and sent
 * before the next one, so that writes are as good as synchronous.
 */

import type { Entry, ReadState } from '../../server/raft/message.ts';
import type { RaftStatus } from '../../server/raft/raft.ts';
import { SimulatedNode, type Envelope, type State } from '../../server/testing/simulated-node.ts';
import { idOf, numberOf, serverOf } from './message.ts';
import type { NodeStatus, VoterSets } from './oracle.ts';
import { founders, type Scenario } from './step.ts';

/** Never in the way: limits that only one side has are not what is compared. */
const UNCOMMITTED_BYTES_MAX = 2 ** 40;

export type Outcome<T> = {
  readonly value: T;
  readonly envelopes: readonly Envelope[];
  readonly reads: readonly ReadState[];
};

export class OurSide {
  readonly nodes = new Map<number, SimulatedNode>();
  readonly #entries = new Map<string, Entry>();
  readonly #states = new Map<number, State>();

  constructor(scenario: Scenario) {
    const { spareCount, electionTicks, timeoutTicks, heartbeatTicks } = scenario;
    const { voters, learners } = founders(scenario);
    const servers = [
      ...voters.map((number) => serverOf(number, 'voter')),
      ...learners.map((number) => serverOf(number, 'learner')),
    ];
    const fraction = (timeoutTicks - electionTicks + 0.5) / electionTicks;
    for (let number = 1; number <= servers.length + spareCount; number += 1) {
      const node = new SimulatedNode(
        {
          id: idOf(number),
          electionTicks,
          heartbeatTicks,
          leaseMs: 0,
          random: () => fraction,
          commitNotify: { kind: 'push', isGathered: false },
          limits: {
            appendBytesMax: scenario.appendBytesMax,
            inflightAppendsMax: scenario.inflightAppendsMax,
            uncommittedBytesMax: UNCOMMITTED_BYTES_MAX,
          },
        },
        { servers },
      );
      this.nodes.set(number, node);
    }
  }

  node(number: number): SimulatedNode {
    const node = this.nodes.get(number);
    if (node === undefined) throw new RangeError(`Cannot find node ${number}`);
    return node;
  }

  raftStatus(number: number): RaftStatus {
    return this.node(number).raft.status();
  }

  entry(index: number, term: number): Entry | undefined {
    return this.#entries.get(`${index}/${term}`);
  }

  /** What every state machine holds that has applied `index` and no more. */
  stateAt(index: number): State | undefined {
    return this.#states.get(index);
  }

  act<T>(number: number, action: (node: SimulatedNode) => T): Outcome<T> {
    const node = this.node(number);
    const value = action(node);
    const envelopes: Envelope[] = [];
    const reads: ReadState[] = [];
    while (node.raft.hasReady()) {
      const ready = node.takeReady();
      for (const entry of ready.entries) this.#entries.set(`${entry.index}/${entry.term}`, entry);
      for (const message of ready.messages) envelopes.push(node.envelope(message));
      while (node.writeCount > 0) {
        for (const message of node.finishWrite()) envelopes.push(node.envelope(message));
      }
      while (node.applyCount > 0) node.finishApply();
      this.#states.set(node.state.index, node.state);
      reads.push(...ready.readStates);
    }
    return { value, envelopes, reads };
  }

  status(number: number): NodeStatus {
    const node = this.node(number);
    const status = node.raft.status();
    return {
      role: status.role,
      term: status.currentTerm,
      vote: status.votedFor === null ? 0 : numberOf(status.votedFor),
      leader: status.leaderId === null ? 0 : numberOf(status.leaderId),
      commit: status.commitIndex,
      applied: status.appliedIndex,
      firstIndex: status.firstIndex,
      log: node.disk.entries.map(formatEntry),
      configuration: voterSetsOf(status.configuration),
      transferTarget: status.transferTarget === null ? 0 : numberOf(status.transferTarget),
      match: Object.fromEntries(
        [...status.progress].map(([id, { matchIndex }]) => [numberOf(id), matchIndex]),
      ),
    };
  }
}

function formatEntry({ term, kind, command }: Entry): string {
  return `${term}:${kind === 'command' ? new TextDecoder().decode(command) : kind}`;
}

export function voterSetsOf({ servers, joint }: RaftStatus['configuration']): VoterSets {
  const outgoing = joint?.votersOutgoing ?? [];
  const learners = servers.filter(({ suffrage }) => suffrage === 'learner').map(({ id }) => id);
  return {
    voters: sorted(servers.filter(({ suffrage }) => suffrage === 'voter').map(({ id }) => id)),
    votersOutgoing: sorted(outgoing),
    learners: sorted(learners.filter((id) => !outgoing.includes(id))),
    learnersNext: sorted(learners.filter((id) => outgoing.includes(id))),
    autoLeave: joint?.autoLeave === true,
  };
}

function sorted(ids: readonly string[]): number[] {
  return ids.map(numberOf).toSorted((left, right) => left - right);
}
