/**
 * Both clusters at once: does the same to a node of ours and to etcd's node of that number, carries
 * the messages of one of them to both, and compares after every step.
 *
 * What is not given to either side, because they differ there on purpose, is counted by name
 * (`agreement.ts`). Losing a message or not proposing is always allowed, so nothing is assumed that
 * a network could not do.
 */

import type { Envelope, SimulatedNode } from '../../server/testing/simulated-node.ts';
import {
  compareMessages,
  compareStatus,
  Disagreement,
  isMember,
  mayLead,
  Parting,
  type Difference,
} from './agreement.ts';
import { CommittedLog, entryAt, isTruncated } from './committed-log.ts';
import { numberOf, toWire, type WireMessage } from './message.ts';
import type { NodeStatus, Oracle, OracleRequest, OracleResponse } from './oracle.ts';
import { OurSide, voterSetsOf, type Outcome } from './our-side.ts';
import { etcdPacket, ourPacket, type Packet } from './packet.ts';
import { ReadBook } from './read-book.ts';
import { checkRemoval, commitsForOthers, hasStoodAside } from './removed-leader.ts';
import { founders, type Scenario } from './step.ts';

/** Beyond it the oldest are lost. */
const IN_FLIGHT_MAX = 300;

/** What of the withheld is given to ours, which must be as before. */
const CHANGES_NOTHING: ReadonlySet<Difference> = new Set([
  'stale consent to a pre-vote',
  'question at who does not lead',
  'refusal of a question',
]);

export type Coverage = Record<string, number>;
type Request = Omit<OracleRequest, 'node'>;

export class Lockstep {
  readonly ours: OurSide;
  readonly scenario: Scenario;
  readonly coverage: Coverage = {};
  readonly differences = new Map<Difference, number>();
  inFlight: Packet[] = [];
  /** Whoever is in here hears only each other, and so do the others. */
  cut: ReadonlySet<number> = new Set();
  readonly #oracle: Oracle;
  readonly #trace: ((line: string) => void) | undefined;
  readonly #theirs = new Map<number, NodeStatus>();
  readonly #reads = new ReadBook();
  /** The last round of heartbeats of each of our leaders. */
  readonly #rounds = new Map<number, { readonly term: number; readonly round: number }>();
  /** How long each leader has led. */
  readonly #ticks = new Map<number, { readonly term: number; ticks: number }>();
  readonly #committed = new CommittedLog();

  constructor(scenario: Scenario, oracle: Oracle, trace?: (line: string) => void) {
    this.scenario = scenario;
    this.#oracle = oracle;
    this.#trace = trace;
    this.ours = new OurSide(scenario);
  }

  async begin(): Promise<void> {
    const { electionTicks, timeoutTicks, heartbeatTicks } = this.scenario;
    const { appendBytesMax, inflightAppendsMax } = this.scenario;
    await this.#oracle.begin({
      nodes: this.ours.nodes.size,
      ...founders(this.scenario),
      electionTicks,
      timeoutTicks,
      heartbeatTicks,
      appendBytesMax,
      inflightAppendsMax,
    });
    for (const number of this.ours.nodes.keys()) await this.both(number, { op: 'look' });
  }

  count = (difference: Difference): void => {
    this.differences.set(difference, (this.differences.get(difference) ?? 0) + 1);
  };

  get comparedReads(): number {
    return this.#reads.comparedCount;
  }

  get committedEntries(): number {
    return this.#committed.lastIndex;
  }

  cover(what: string): void {
    this.coverage[what] = (this.coverage[what] ?? 0) + 1;
  }

  theirStatus = (number: number): NodeStatus => {
    const status = this.#theirs.get(number);
    if (status === undefined) throw new RangeError(`Cannot find node ${number} of etcd`);
    return status;
  };

  leaders(): number[] {
    return [...this.#theirs].filter(([, { role }]) => role === 'leader').map(([number]) => number);
  }

  /** What ours refuses etcd's node is not asked for. Returns whether it was done. */
  async both(
    number: number,
    request: Request,
    action: (node: SimulatedNode) => boolean | void = () => undefined,
  ): Promise<boolean> {
    this.#trace?.(`${number} ${JSON.stringify(request)}`);
    const wasLed = this.ours.raftStatus(number).leaderId !== null;
    const outcome = this.#act(number, action);
    if (outcome.value === false) return false;
    this.cover('steps');
    const response = await this.#ask({ ...request, node: number });
    if (response.refused !== undefined) {
      throw new Disagreement(`only etcd's node ${number} refuses: ${response.refused}`);
    }
    await this.#level(number, response.status);
    compareMessages(
      { ours: outcome.envelopes.map(({ message }) => toWire(message)), theirs: response.messages },
      { ...request, isLed: wasLed, sender: this.theirStatus(number) },
      this.count,
    );
    this.#checkClaims(number, outcome.envelopes);
    this.#noteReads(number, outcome, response);
    this.#send(number, outcome, response.messages);
    return true;
  }

  async tick(number: number): Promise<void> {
    const { role, currentTerm: term } = this.ours.raftStatus(number);
    if (role === 'leader') {
      const led = this.#ticks.get(number);
      this.#ticks.set(number, { term, ticks: led?.term === term ? led.ticks + 1 : 1 });
    }
    await this.both(number, { op: 'tick' }, (node) => node.raft.tick());
  }

  /**
   * etcd counts the time of a transfer with the clock of its check for a quorum, and begins that
   * anew. Returns whether the node leads and has just had its check.
   */
  async tickToQuorumCheck(number: number): Promise<boolean> {
    for (;;) {
      const { role, currentTerm } = this.ours.raftStatus(number);
      if (role !== 'leader') return false;
      const led = this.#ticks.get(number);
      const ticks = led?.term === currentTerm ? led.ticks : 0;
      if (ticks % this.scenario.electionTicks === 0) return true;
      await this.tick(number);
    }
  }

  /** The highest commit index of any node when the question is asked bounds the answer. */
  expectRead(id: number): void {
    this.#reads.expect(id, this.#committed.lastIndex);
  }

  #act<T>(number: number, action: (node: SimulatedNode) => T): Outcome<T> {
    try {
      return this.ours.act(number, action);
    } catch (cause) {
      throw new Disagreement(`ours throws at node ${number}: ${String(cause)}`, { cause });
    }
  }

  async #ask(request: OracleRequest): Promise<OracleResponse> {
    const response = await this.#oracle.run(request);
    if (response.panic !== undefined) {
      throw new Disagreement(`etcd panics at node ${request.node}: ${response.panic}`);
    }
    return response;
  }

  /** Compares the node on both sides, once etcd's has been told what its release does not know. */
  async #level(number: number, status: NodeStatus): Promise<void> {
    const ours = this.ours.status(number);
    let theirs = status;
    if (hasStoodAside(number, ours, theirs)) {
      checkRemoval(number, this.ours);
      this.count('removed leader steps down');
      theirs = (await this.#ask({ op: 'restart', node: number })).status;
    }
    if (theirs.commit < ours.commit && ours.leader !== 0 && ours.leader !== number) {
      theirs = await this.#remindOfCommit(number, ours, theirs);
    }
    if (theirs.commit < ours.commit && commitsForOthers(number, ours, theirs)) {
      this.count('removed leader commits at once');
      throw new Parting();
    }
    this.#note(number, theirs);
    compareStatus(number, { ours, theirs }, this.count);
  }

  /** Ours keeps the leader's commit index until it holds the entries. A heartbeat could repeat it. */
  async #remindOfCommit(number: number, ours: NodeStatus, status: NodeStatus): Promise<NodeStatus> {
    for (let index = status.commit + 1; index <= ours.commit; index += 1) {
      if (!this.#committed.holds(index, entryAt(ours, index))) {
        throw new Disagreement(`only our node ${number} has committed ${index}`);
      }
    }
    this.count('commit index is remembered');
    const { leader: from, term, commit } = ours;
    const message: WireMessage = { kind: 'heartbeat', from, to: number, term, commit };
    return (await this.#ask({ op: 'step', node: number, message })).status;
  }

  #note(number: number, theirs: NodeStatus): void {
    const before = this.#theirs.get(number);
    if (before !== undefined) {
      const isJoint = theirs.configuration.votersOutgoing.length > 0;
      if (isTruncated(before, theirs)) this.cover('logs cut back');
      if (theirs.role === 'leader' && before.role !== 'leader') this.cover('elections');
      if (isJoint) this.cover('steps in a joint configuration');
      this.#committed.note(before.commit, theirs);
    }
    this.#theirs.set(number, theirs);
  }

  /** Of what a leader tells: others have it from a leader, and maybe one of the other side. */
  #noteReads(number: number, outcome: Outcome<unknown>, response: OracleResponse): void {
    const theirs = this.theirStatus(number);
    const isLeader = theirs.role === 'leader';
    const stale = this.#reads.note(
      { envelopes: outcome.envelopes, reads: isLeader ? outcome.reads : [] },
      { messages: response.messages, reads: isLeader ? response.reads : [] },
    );
    if (stale === 0) return;
    if (mayLead(theirs.configuration, number)) throw new Disagreement("etcd's read is stale");
    this.count('removed leader answers a read');
  }

  /** What a follower claims to hold is what its leader has there. */
  #checkClaims(number: number, envelopes: readonly Envelope[]): void {
    for (const { message } of envelopes) {
      if (message.kind !== 'appendEntriesResponse' || !message.success) continue;
      const leader = this.theirStatus(numberOf(message.to));
      if (leader.role !== 'leader' || leader.term !== message.term) continue;
      const held = entryAt(this.ours.status(number), message.matchIndex);
      const leading = entryAt(leader, message.matchIndex);
      if (held !== undefined && leading !== undefined && held !== leading) {
        throw new Disagreement(
          `node ${number} claims ${held} at ${message.matchIndex}, not ${leading}`,
        );
      }
    }
  }

  #send(number: number, outcome: Outcome<unknown>, theirs: readonly WireMessage[]): void {
    for (const { message } of outcome.envelopes) {
      if (message.kind === 'heartbeat') this.#rounds.set(number, message);
    }
    if (this.scenario.carried === 'ours') {
      for (const envelope of outcome.envelopes) this.#carry(ourPacket(envelope, theirs));
      return;
    }
    const term = this.ours.raftStatus(number).currentTerm;
    const last = this.#rounds.get(number);
    const round = last?.term === term ? last.round : 0;
    for (const wire of theirs) {
      const packet = etcdPacket(wire, { side: this.ours, sent: outcome.envelopes, round });
      if (packet === undefined) this.count('snapshot of a state in between');
      else this.#carry(packet);
    }
  }

  #carry(packet: Packet): void {
    this.inFlight.push(packet);
    if (IN_FLIGHT_MAX < this.inFlight.length) this.inFlight.shift();
  }

  isCut({ wire: { from, to } }: Packet): boolean {
    return this.cut.has(from) !== this.cut.has(to);
  }

  async deliver(packet: Packet): Promise<void> {
    const { wire, envelope } = packet;
    const { kind, from, to } = wire;
    const difference = this.#whyWithheld(packet);
    const isOnlyOurs = difference !== undefined && CHANGES_NOTHING.has(difference);
    if (difference !== undefined) this.count(difference);
    if (isOnlyOurs) await this.both(to, { op: 'look' }, (node) => node.step(envelope));
    if (difference === undefined) {
      this.cover(kind);
      await this.both(to, { op: 'step', message: wire }, (node) => node.step(envelope));
    }
    if (kind === 'installSnapshot') await this.endSnapshot(from, to, difference === undefined);
  }

  async endSnapshot(number: number, peer: number, ok: boolean): Promise<void> {
    const report = { op: 'snapshotEnded', peer, ok };
    await this.both(number, report, (node) => node.raft.reportSnapshot(`n${peer}`, ok));
  }

  /** Where the two differ on purpose in what they make of a message, etcd's is not given it. */
  #whyWithheld({
    wire: { kind, from, to, term, ...wire },
    envelope,
  }: Packet): Difference | undefined {
    const ours = this.ours.status(to);
    const isAnswer = kind.endsWith('Response') && kind !== 'readIndexResponse';
    if (isAnswer && !isMember(ours.configuration, from)) return 'answer of an outsider';
    const isRefusal = 'success' in envelope.message && !envelope.message.success;
    switch (kind) {
      case 'readIndexResponse':
        return isRefusal ? 'refusal of a question' : undefined;
      case 'readIndex':
        if (ours.term < term) return 'question of a later term';
        return ours.role === 'leader' ? undefined : 'question at who does not lead';
      case 'timeoutNow': {
        const takes = ours.role === 'follower' && mayLead(ours.configuration, to);
        return takes || term < ours.term ? undefined : 'timeoutNow at who does not follow';
      }
      case 'requestVote':
        if (term !== ours.term || ours.leader === this.theirStatus(to).leader) return undefined;
        return 'vote in a term with a forgotten leader';
      case 'requestVoteResponse':
        if (wire.isPreVote !== true || wire.granted !== true) return undefined;
        return term === ours.term + 1 ? undefined : 'stale consent to a pre-vote';
      case 'installSnapshot': {
        const state = this.ours.stateAt(wire.index ?? 0);
        if (state === undefined) return 'snapshot of a state in between';
        const { voters, learners } = voterSetsOf(state.configuration);
        const isIn = voters.includes(to) || learners.includes(to);
        return isIn ? undefined : 'snapshot for who leaves';
      }
      default:
        return undefined;
    }
  }
}
