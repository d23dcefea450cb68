/**
 * A whole cluster of raft cores in one thread and in simulated time. Every choice is drawn from the
 * seed, so a run can be had again, event for event.
 *
 * A run has two phases: chaos, in which the network, the disks, the clocks and the nemesis do what
 * the plan says; then health, in which the cluster must elect a leader, agree, and take a fresh
 * proposal. `SafetyChecker` watches all the time.
 *
 * This world has the core, and a driver and a disk that are modelled (`simulated-node.ts`); it runs
 * hundreds of thousands of events in a second. `node-world.ts` has the real driver, log and state
 * machine, under the same plans, nemeses, network and checker.
 */

import assert from 'node:assert/strict';

import type { Message, NodeId, Server } from '../../raft/message.ts';
import type { RaftStatus } from '../../raft/raft.ts';
import { Random } from '../random.ts';
import { SimulatedNode, type Envelope } from '../simulated-node.ts';
import type { CoreMember as Member } from './core-member.ts';
import { Transitions, type Coverage } from './coverage.ts';
import { EventQueue } from './event-queue.ts';
import { inflict, resolve, type ActionOf, type Victims } from './inflict.ts';
import { server, wantedServers } from './membership-changes.ts';
import { Network, type Sent } from './network.ts';
import { nodeIds, PROPOSAL_BYTES_MAX, TICK_US, type Operation, type Plan } from './plan.ts';
import { ReadChecker } from './read-checker.ts';
import { SafetyChecker } from './safety-checker.ts';
import type { Script } from './script.ts';
import { Trace } from './trace.ts';

/** Healthy, a cluster gets this much time to agree: some forty elections. */
const HEALING_US = 20_000_000;
const AGREEMENT_CHECK_US = 20_000;
const HEALTHY_DISK_US = 1_000;
const EVENTS_MAX = 4_000_000;

export type RunReport = {
  readonly traceHash: string;
  readonly committedCount: number;
  readonly coverage: Coverage;
};

export type RunOptions = {
  /** Is told every event, for a person to read. */
  readonly onEvent?: (line: string) => void;
  /** Is told every input of every core, as a golden script. */
  readonly script?: Script;
};

/** Runs a plan to its end. Throws what a core asserts, or an `InvariantViolation`. */
export function runCoreWorld(plan: Plan, options: RunOptions = {}): RunReport {
  return new CoreWorld(plan, options).run();
}

class CoreWorld {
  readonly #plan: Plan;
  readonly #random: Readonly<Record<'disk' | 'faults' | 'driver', Random>>;
  readonly #queue = new EventQueue();
  readonly #nodes = new Map<NodeId, SimulatedNode>();
  readonly #members = new Map<NodeId, Member>();
  readonly #checker: SafetyChecker;
  readonly #reads: ReadChecker;
  readonly #network: Network<Envelope>;
  readonly #trace: Trace;
  readonly #script: Script | undefined;
  readonly #transitions = new Transitions();
  /** The incarnations that took heartbeats. */
  readonly #takers = new WeakMap<Envelope, number>();
  #isHealthy = false;
  /** The term in which the healthy cluster took a proposal; one is enough. */
  #freshTerm = 0;
  #proposalCount = 0;
  readonly #counts: Record<string, number> = {};

  constructor(plan: Plan, { onEvent, script }: RunOptions) {
    this.#plan = plan;
    const { seed, electionTicks, limits } = plan;
    this.#random = {
      disk: new Random(seed, 'disk'),
      faults: new Random(seed, 'faults'),
      driver: new Random(seed, 'driver'),
    };
    this.#trace = new Trace(onEvent);
    this.#script = script;
    this.#checker = new SafetyChecker(this.#nodes, {
      electionTicks,
      limits,
      proposalBytesMax: PROPOSAL_BYTES_MAX,
      serialOf: (command) => Buffer.from(command).toString('latin1').split('.')[0],
    });
    this.#reads = new ReadChecker(this.#checker.ledger);
    const world = { queue: this.#queue, random: new Random(seed, 'network') };
    this.#network = new Network(plan.network, world, {
      deliver: (sent) => this.#deliver(sent),
      deliverAgain: (sent) => this.#receive(sent),
      lose: (sent, isNoticed) => this.#onLost(sent, isNoticed),
      isRunning: (id) => this.#member(id).node.isRunning,
      // Messages are objects here. The node world hands bytes to the real decoder.
      tryCorrupted: () => undefined,
    });
    const ids = nodeIds(plan);
    const servers = ids.slice(0, plan.voterCount).map((id) => server(id, 'voter'));
    script?.begin(plan);
    for (const id of ids) this.#addMember(id, servers);
    for (const action of plan.nemesis) {
      this.#queue.at(action.atUs, () => {
        if (!this.#isHealthy) inflict(action, this.#victims());
      });
    }
    for (const operation of plan.operations) {
      this.#queue.at(operation.atUs, () => this.#operate(operation));
    }
  }

  #addMember(id: NodeId, servers: readonly Server[]): void {
    const { seed, electionTicks, heartbeatTicks, leaseMs, commitNotify, limits } = this.#plan;
    const jitter = new Random(seed, id);
    const wasMember = servers.some((founder) => founder.id === id);
    const node = new SimulatedNode(
      {
        ...{ id, electionTicks, heartbeatTicks, leaseMs, commitNotify, limits },
        random: () => jitter.next(),
      },
      { servers: wasMember ? servers : [] },
    );
    const member: Member = {
      node,
      incarnation: 0,
      pausedUntilUs: 0,
      clockStands: false,
      backlog: [],
      diskFreeAtUs: 0,
      tickPeriodUs: TICK_US * (0.95 + 0.1 * this.#random.driver.next()),
      isReadyScheduled: false,
      wasMember,
    };
    this.#nodes.set(id, node);
    this.#members.set(id, member);
    this.#checker.onStart(node);
    const tick = (): void => {
      if (!member.clockStands || member.pausedUntilUs <= this.#queue.nowUs) {
        this.#input(member, () => this.#tick(node));
      }
      this.#queue.after(member.tickPeriodUs, tick);
    };
    this.#queue.after(member.tickPeriodUs * this.#random.driver.next(), tick);
  }

  #tick(node: SimulatedNode): void {
    this.#script?.tick(node.id);
    node.raft.tick();
    this.#checker.contact.onTick(node.id, node.raft.status());
  }

  run(): RunReport {
    this.#runUntil(this.#plan.chaosUs);
    this.#heal();
    // What was lost must be found again without a write to carry it.
    this.#awaitAgreement('no agreement after all faults ended', () => this.#hasAgreed());
    this.#awaitAgreement('a healthy cluster takes no write', () => {
      this.#proposeAfresh();
      return (
        this.#hasAgreed() && this.#freshTerm === this.#leader()?.node.raft.status().currentTerm
      );
    });
    return {
      traceHash: this.#trace.hash(),
      committedCount: this.#checker.committedIndex,
      coverage: this.#coverage(),
    };
  }

  #awaitAgreement(otherwise: string, isReached: () => boolean): void {
    const endUs = this.#queue.nowUs + HEALING_US;
    while (!isReached() && this.#queue.nowUs < endUs) {
      this.#runUntil(this.#queue.nowUs + AGREEMENT_CHECK_US);
    }
    this.#checker.ledger.check('I22', isReached(), otherwise);
  }

  #coverage(): Coverage {
    const { committedIndex, electionCount, termMax, ledger } = this.#checker;
    const network = Object.fromEntries(
      Object.entries(this.#network.counts).map(([name, count]) => [`packets: ${name}`, count]),
    );
    const reads = Object.fromEntries(
      Object.entries(this.#reads.counts).map(([name, count]) => [`read index: ${name}`, count]),
    );
    return {
      totals: {
        seeds: 1,
        events: this.#queue.eventCount,
        virtualHours: this.#queue.nowUs / 3.6e9,
        committed: committedIndex,
        elections: electionCount,
        termMax,
      },
      counts: { ...this.#counts, ...network, ...reads },
      evaluations: ledger.evaluations(),
      transitions: this.#transitions.counts(),
    };
  }

  #count(name: string): void {
    this.#counts[name] = (this.#counts[name] ?? 0) + 1;
  }

  #runUntil(endUs: number): void {
    while (this.#queue.runNext(endUs)) {
      assert(this.#queue.eventCount < EVENTS_MAX, 'the simulation does not come to an end');
    }
    this.#queue.nowUs = endUs;
  }

  /** Gives a running node an input, then takes its output: now, or with what comes next. */
  #input(member: Member, run: () => void): void {
    const { node } = member;
    if (!node.isRunning) return;
    if (this.#queue.nowUs < member.pausedUntilUs) {
      member.backlog.push(run);
      return;
    }
    const { commitIndex, role } = node.raft.status();
    this.#advanceTime(node);
    if (node.raft.isCommitHeld) {
      this.#script?.push(node.id);
      node.raft.pushCommit();
    }
    run();
    if (node.raft.isCommitHeld) this.#scheduleReady(member);
    const status = node.raft.status();
    this.#reads.onFreshness(node.id, status.freshness);
    this.#checker.checkLease(status);
    this.#trace.event(this.#queue, node.id, status);
    if (!node.raft.hasReady()) return this.#checker.onChange(node, status);
    const mustCheckNow = status.commitIndex !== commitIndex || status.role !== role;
    if (mustCheckNow || this.#random.driver.chance(0.5)) this.#takeReady(member);
    else this.#scheduleReady(member);
  }

  /** All clocks show the same time, though they tick differently: that is within any drift. */
  #advanceTime(node: SimulatedNode): void {
    const nowMs = Math.floor(this.#queue.nowUs / 1000);
    if (this.#plan.leaseMs > 0) this.#script?.advanceTime(node.id, nowMs);
    node.raft.advanceTime(nowMs);
  }

  #scheduleReady(member: Member): void {
    if (member.isReadyScheduled) return;
    member.isReadyScheduled = true;
    this.#afterFor(member, this.#random.driver.between(0, 2_000), () => {
      member.isReadyScheduled = false;
      // What was held back leaves with the next turn, whatever that is about.
      if (member.node.raft.isCommitHeld) this.#input(member, () => undefined);
      if (member.node.raft.hasReady()) this.#takeReady(member);
    });
  }

  /** Schedules an event that a crash of the node makes void. */
  #afterFor(member: Member, delayUs: number, run: () => void): void {
    const { incarnation } = member;
    this.#queue.after(delayUs, () => {
      if (member.incarnation === incarnation && member.node.isRunning) run();
    });
  }

  #takeReady(member: Member): void {
    const { node } = member;
    this.#script?.ready(node.id);
    const ready = node.takeReady();
    this.#checker.onReady(node, ready);
    this.#checker.onChange(node);
    this.#reads.onCommitted(this.#checker.committedIndex, Math.floor(this.#queue.nowUs / 1000));
    this.#reads.onReadStates(ready.readStates);
    for (const message of ready.messages) this.#send(member, message);
    if (ready.appendToken !== 0) {
      // Writes end in order; one that comes early is merely shorter (group commit).
      const endUs = Math.max(this.#queue.nowUs + this.#diskUs(), member.diskFreeAtUs);
      member.diskFreeAtUs = endUs;
      this.#afterFor(member, endUs - this.#queue.nowUs, () => this.#finishWrite(member));
    }
    if (ready.committedEntries.length > 0) {
      this.#afterFor(member, this.#diskUs() / 2, () => this.#finishApply(member));
    }
    if (node.raft.hasReady()) this.#scheduleReady(member);
  }

  #diskUs(): number {
    const usMax = this.#isHealthy ? HEALTHY_DISK_US : this.#plan.diskUsMax;
    return Math.floor(this.#random.disk.next() * usMax);
  }

  #finishWrite(member: Member): void {
    this.#input(member, () => {
      const { node } = member;
      this.#script?.write(node.id);
      const messages = node.finishWrite();
      this.#checker.onDiskChange(node);
      for (const message of messages) this.#send(member, message);
    });
  }

  #finishApply(member: Member): void {
    this.#input(member, () => {
      const { node } = member;
      const { trailingEntries, compactsBySize } = this.#plan;
      this.#script?.apply(node.id);
      const applied = node.finishApply();
      this.#checker.onApply(node, applied);
      if (applied.some(({ kind }) => kind === 'configuration')) {
        const isJoint = node.state.configuration.joint !== undefined;
        this.#count(isJoint ? 'joint configuration applied' : 'configuration applied');
      }
      const isDue = node.view.index + 2 * trailingEntries < node.state.index;
      if (compactsBySize && isDue) this.#compact(node, node.state.index - trailingEntries);
    });
  }

  #compact(node: SimulatedNode, index: number): void {
    if (index <= node.view.index) return;
    this.#count('compaction');
    this.#script?.compact(node.id, index);
    node.compact(index);
  }

  #send(from: Member, message: Message): void {
    this.#checker.onSend(from.node, message);
    const packet = from.node.envelope(message);
    this.#script?.send(packet, this.#member(message.to).node.isRunning);
    const sent = { packet, from: message.from, to: message.to };
    this.#network.send(
      sent,
      message.kind === 'appendEntries' ? 100 + message.entries.length * 50 : 50,
    );
  }

  #deliver(sent: Sent<Envelope>): void {
    const { packet, from, to } = sent;
    const { isRunning } = this.#member(to).node;
    this.#receive(sent);
    if (packet.message.kind !== 'installSnapshot') return;
    if (isRunning) this.#count('snapshot delivered');
    this.#reportSnapshot(from, to, isRunning);
  }

  /**
   * Packets may come again, even to a process that was not there when they were sent. A heartbeat
   * that one process has taken no other one gets: freshness rests on that a server answers each of
   * them once, which a process that was started since cannot know. (TLS over TCP repeats nothing.)
   */
  #isTakenByAnother({ packet, to }: Sent<Envelope>): boolean {
    if (packet.message.kind !== 'heartbeat') return false;
    const { incarnation } = this.#member(to);
    const taker = this.#takers.get(packet);
    this.#takers.set(packet, taker ?? incarnation);
    return taker !== undefined && taker !== incarnation;
  }

  #receive(sent: Sent<Envelope>): void {
    const { packet, to } = sent;
    if (this.#isTakenByAnother(sent)) return;
    const member = this.#member(to);
    this.#input(member, () => {
      const { node } = member;
      const before = node.raft.status();
      this.#script?.deliver(packet);
      node.step(packet);
      this.#checker.onDeliver(node, packet.message);
      this.#transitions.record(before, packet.message, node.raft.status());
    });
  }

  #onLost({ packet, from, to }: Sent<Envelope>, isNoticed: boolean): void {
    if (packet.message.kind === 'installSnapshot') return this.#reportSnapshot(from, to, false);
    if (!isNoticed) return;
    const member = this.#member(from);
    this.#afterFor(member, 1_000, () =>
      this.#input(member, () => {
        this.#script?.unreachable(from, to);
        member.node.raft.reportUnreachable(to);
        this.#checker.windows.onNews(from, to);
      }),
    );
  }

  #reportSnapshot(from: NodeId, to: NodeId, ok: boolean): void {
    const member = this.#member(from);
    this.#afterFor(member, ok ? 1_000 : 50_000, () =>
      this.#input(member, () => {
        this.#script?.snapshotReport(from, to, ok);
        member.node.raft.reportSnapshot(to, ok);
        this.#checker.windows.onNews(from, to);
      }),
    );
  }

  #operate({ toLeader, pick, sizes, isRead }: Operation): void {
    const running = this.#running().filter(({ node }) => this.#network.reachesClients(node.id));
    const member = running[Math.floor(pick * running.length)];
    if (member === undefined) return;
    const leader = this.#leader();
    const isReached = leader !== undefined && running.includes(leader);
    const chosen = toLeader && isReached ? leader : member;
    if (isRead) this.#read(this.#deposed(running) ?? chosen);
    else this.#propose(chosen, sizes);
  }

  /** Who believes to lead and does not: nobody is as likely to answer a read too early. */
  #deposed(running: readonly Member[]): Member | undefined {
    const leaders = running.filter(({ node }) => node.raft.status().role === 'leader');
    return leaders.length < 2 ? undefined : leaders.find((each) => each !== this.#leader());
  }

  #read(member: Member): void {
    // From the moment in which the client asks, however long the node is paused.
    const id = this.#reads.ask(this.#checker.committedIndex);
    this.#input(member, () => {
      this.#script?.read(member.node.id, id);
      member.node.raft.readIndex(id);
    });
  }

  #propose(member: Member, sizes: readonly number[]): void {
    const commands = sizes.map((bytes) => {
      this.#proposalCount += 1;
      return new TextEncoder().encode(`${this.#proposalCount}`.padEnd(bytes, '.'));
    });
    this.#input(member, () => {
      this.#script?.propose(member.node.id, commands);
      const result = member.node.raft.propose(commands);
      this.#count(`proposal ${result.kind}`);
      if (this.#isHealthy && result.kind === 'accepted') this.#freshTerm = result.term;
    });
  }

  /** One in each term, so that a leader of a later one has something to commit, too. */
  #proposeAfresh(): void {
    const leader = this.#leader();
    if (leader === undefined || this.#freshTerm === leader.node.raft.status().currentTerm) return;
    this.#propose(leader, [8]);
  }

  #running(): Member[] {
    return [...this.#members.values()].filter((member) => member.node.isRunning);
  }

  /** Of several that believe to lead, the one of the latest term. */
  #leader(): Member | undefined {
    let leader: Member | undefined;
    let leaderTerm = 0;
    for (const member of this.#members.values()) {
      if (!member.node.isRunning) continue;
      const { role, currentTerm } = member.node.raft.status();
      if (role !== 'leader' || currentTerm <= leaderTerm) continue;
      leader = member;
      leaderTerm = currentTerm;
    }
    return leader;
  }

  #victims(): Victims {
    const { nowUs } = this.#queue;
    return {
      ids: () => [...this.#members.keys()],
      leaderId: () => this.#leader()?.node.id,
      partition: (cuts) => this.#network.partition(cuts),
      clog: (from, to, forUs) => this.#network.clog(from, to, nowUs + forUs),
      crash: (id, action) => this.#crash(this.#member(id), action),
      transfer: (to) =>
        this.#onLeader(({ node }) => {
          this.#script?.transfer(node.id, to);
          node.raft.transferLeadership(to);
        }),
      campaign: (id) => {
        const member = this.#member(id);
        this.#input(member, () => {
          this.#script?.campaign(id);
          member.node.raft.campaign();
        });
      },
      configure: (changes) =>
        this.#onLeader((leader) => this.#changeConfiguration(leader, changes)),
      compact: (id) => {
        const { node } = this.#member(id);
        if (node.isRunning) this.#compact(node, node.raft.status().appliedIndex);
      },
      slowDisk: (id, forUs) => {
        const member = this.#member(id);
        member.diskFreeAtUs = Math.max(member.diskFreeAtUs, nowUs + forUs);
      },
      pause: (id, { forUs, clockRuns }) => this.#pause(this.#member(id), forUs, clockRuns),
      drift: (id, ppm) => {
        this.#member(id).tickPeriodUs = Math.ceil(TICK_US * (1 + ppm / 1e6));
      },
      // Monotonic ticks are all that a core knows of time, and its disk cannot fail.
      diskFault: () => undefined,
      clockJump: () => undefined,
      // States go from node to node at once.
      transferFault: () => undefined,
      count: (name) => this.#count(name),
    };
  }

  #onLeader(run: (leader: Member) => void): void {
    const leader = this.#leader();
    if (leader !== undefined) this.#input(leader, () => run(leader));
  }

  #crash(member: Member, { loss, draw, downUs }: ActionOf<'crash'>): void {
    if (!member.node.isRunning) return;
    member.incarnation += 1;
    member.isReadyScheduled = false;
    member.backlog = [];
    const keptFraction = loss === 'nothing' ? 1 : loss === 'everything' ? 0 : draw;
    this.#script?.crash(member.node.id, keptFraction);
    member.node.crash(keptFraction);
    const { incarnation } = member;
    this.#queue.after(downUs, () => {
      if (member.incarnation === incarnation) this.#restart(member);
    });
  }

  #restart(member: Member): void {
    if (member.node.isRunning) return;
    member.incarnation += 1;
    member.pausedUntilUs = 0;
    member.diskFreeAtUs = this.#queue.nowUs;
    this.#script?.start(member.node.id);
    member.node.start();
    this.#checker.onStart(member.node);
    if (member.node.raft.hasReady()) this.#takeReady(member);
  }

  #pause(member: Member, forUs: number, clockRuns: boolean): void {
    const untilUs = this.#queue.nowUs + forUs;
    if (untilUs <= member.pausedUntilUs) return;
    member.pausedUntilUs = untilUs;
    member.clockStands = !clockRuns;
    this.#queue.at(untilUs, () => this.#resume(member));
  }

  #resume(member: Member): void {
    if (this.#queue.nowUs < member.pausedUntilUs) return;
    const backlog = member.backlog;
    member.backlog = [];
    for (const run of backlog) this.#input(member, run);
  }

  #changeConfiguration(leader: Member, changes: ActionOf<'configure'>['changes']): void {
    const servers = wantedServers(leader.node.raft.status().configuration, changes, {
      idOf: (target) => resolve(target, this.#victims()),
      wasMember: (id) => this.#member(id).wasMember,
    });
    this.#script?.configure(leader.node.id, servers);
    const result = leader.node.raft.proposeConfiguration({ servers });
    this.#count(`configuration ${changes.length === 1 ? 'one' : 'several'} ${result.kind}`);
    if (result.kind !== 'accepted') return;
    for (const { id } of servers) this.#member(id).wasMember = true;
  }

  #heal(): void {
    this.#isHealthy = true;
    this.#network.heal();
    for (const member of this.#members.values()) {
      member.pausedUntilUs = 0;
      this.#resume(member);
      this.#restart(member);
    }
  }

  /** All servers of the leader's configuration have applied its whole log, to the same state. */
  #hasAgreed(): boolean {
    const leader = this.#leader();
    if (leader === undefined) return false;
    const status: RaftStatus = leader.node.raft.status();
    const { commitIndex, lastIndex, configuration, currentTerm } = status;
    if (commitIndex !== lastIndex || leader.node.view.termAt(lastIndex) !== currentTerm) {
      return false;
    }
    return configuration.servers.every(({ id }) => {
      const state = this.#members.get(id)?.node.state;
      return state?.index === lastIndex && state.digest === leader.node.state.digest;
    });
  }

  #member(id: NodeId): Member {
    const member = this.#members.get(id);
    assert(member !== undefined, 'a message from or to nobody');
    return member;
  }
}
