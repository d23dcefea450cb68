/**
 * A whole cluster in one thread and in simulated time. Every choice is drawn from the seed, so a
 * run can be had again, event for event.
 *
 * A run has two phases: chaos, in which messages are lost, doubled, delayed and reordered, links
 * are cut (one way too), nodes crash, stall and change their roles and membership; then health, in
 * which the cluster must elect a leader, agree, and take a fresh proposal. `SafetyChecker` watches
 * all the time.
 */

import assert from 'node:assert/strict';

import type { Message, NodeId, Server } from '../raft/message.ts';
import { planCluster, type ClusterPlan } from './cluster-plan.ts';
import { EventQueue } from './event-queue.ts';
import { Random } from './random.ts';
import { SafetyChecker } from './safety-checker.ts';
import { SimulatedNode, type Envelope } from './simulated-node.ts';

const TICK_MS = 10;
/** Healthy, a cluster gets this much time to agree: some forty elections. */
const HEALING_MS = 20_000;
const AGREEMENT_CHECK_MS = 20;
const EVENTS_MAX = 2_000_000;

export type ClusterReport = {
  readonly eventCount: number;
  readonly simulatedMs: number;
  readonly committedCount: number;
  readonly electionCount: number;
  readonly crashCount: number;
  readonly snapshotCount: number;
  readonly configurationCount: number;
  readonly traceHash: string;
};

/** Runs one seed to its end. Throws what a core or the checker asserts. */
export function simulateCluster(seed: number): ClusterReport {
  return new Cluster(seed, planCluster(seed)).run();
}

type Member = {
  readonly node: SimulatedNode;
  /** Events of an earlier incarnation are void. */
  incarnation: number;
  pausedUntilMs: number;
  diskFreeAtMs: number;
  isReadyScheduled: boolean;
  /** A server that was removed is never added again: its id is spent. */
  wasMember: boolean;
};

class Cluster {
  readonly #plan: ClusterPlan;
  readonly #random: Readonly<Record<'network' | 'disk' | 'faults' | 'load' | 'driver', Random>>;
  readonly #queue = new EventQueue();
  readonly #nodes = new Map<NodeId, SimulatedNode>();
  readonly #members = new Map<NodeId, Member>();
  readonly #checker = new SafetyChecker(this.#nodes);
  readonly #cutLinks = new Set<string>();
  #isHealthy = false;
  /** The term in which the healthy cluster took a proposal; one is enough. */
  #freshTerm = 0;
  #proposalCount = 0;
  #crashCount = 0;
  #snapshotCount = 0;
  #configurationCount = 0;
  #traceHash = 0;

  constructor(seed: number, plan: ClusterPlan) {
    this.#plan = plan;
    this.#random = {
      network: new Random(seed, 'network'),
      disk: new Random(seed, 'disk'),
      faults: new Random(seed, 'faults'),
      load: new Random(seed, 'load'),
      driver: new Random(seed, 'driver'),
    };
    const ids = Array.from({ length: plan.voterCount + plan.spareCount }, (_, i) => `n${i + 1}`);
    const servers = ids.slice(0, plan.voterCount).map((id) => server(id, 'voter'));
    for (const id of ids) this.#addMember(seed, id, servers);
  }

  #addMember(seed: number, id: NodeId, servers: readonly Server[]): void {
    const { electionTicks, heartbeatTicks, commitNotify, limits } = this.#plan;
    const jitter = new Random(seed, id);
    const wasMember = servers.some((founder) => founder.id === id);
    const node = new SimulatedNode(
      { id, electionTicks, heartbeatTicks, commitNotify, limits, random: () => jitter.next() },
      { servers: wasMember ? servers : [] },
    );
    const member: Member = {
      node,
      incarnation: 0,
      pausedUntilMs: 0,
      diskFreeAtMs: 0,
      isReadyScheduled: false,
      wasMember,
    };
    this.#nodes.set(id, node);
    this.#members.set(id, member);
    this.#checker.onStart(node);
    const periodMs = TICK_MS * (0.95 + 0.1 * this.#random.driver.next());
    const tick = (): void => {
      this.#input(member, () => node.raft.tick());
      this.#queue.after(periodMs, tick);
    };
    this.#queue.after(periodMs * this.#random.driver.next(), tick);
  }

  run(): ClusterReport {
    this.#every(this.#plan.proposalMs, () => this.#propose());
    this.#every(this.#plan.faultMs, () => {
      if (!this.#isHealthy) this.#injectFault();
    });
    this.#runUntil(this.#plan.chaosMs);
    this.#heal();
    const endMs = this.#queue.nowMs + HEALING_MS;
    while (!this.#hasAgreed() && this.#queue.nowMs < endMs) {
      this.#runUntil(this.#queue.nowMs + AGREEMENT_CHECK_MS);
    }
    assert(
      this.#hasAgreed(),
      `no agreement ${HEALING_MS} ms after all faults ended: ${this.#describe()}`,
    );
    return {
      eventCount: this.#queue.eventCount,
      simulatedMs: Math.round(this.#queue.nowMs),
      committedCount: this.#checker.committedIndex,
      electionCount: this.#checker.electionCount,
      crashCount: this.#crashCount,
      snapshotCount: this.#snapshotCount,
      configurationCount: this.#configurationCount,
      traceHash: (this.#traceHash >>> 0).toString(16).padStart(8, '0'),
    };
  }

  #every(periodMs: number, run: () => void): void {
    this.#queue.after(periodMs * (0.5 + this.#random.load.next()), () => {
      run();
      this.#every(periodMs, run);
    });
  }

  #runUntil(endMs: number): void {
    while (this.#queue.runNext(endMs)) {
      assert(this.#queue.eventCount < EVENTS_MAX, 'the simulation does not come to an end');
    }
    this.#queue.nowMs = endMs;
  }

  /** Gives a running node an input, then takes its output: now, or with what comes next. */
  #input(member: Member, run: () => void): void {
    const { node } = member;
    if (!node.isRunning) return;
    if (this.#queue.nowMs < member.pausedUntilMs) {
      const { incarnation } = member;
      this.#queue.after(member.pausedUntilMs - this.#queue.nowMs, () => {
        if (member.incarnation === incarnation) this.#input(member, run);
      });
      return;
    }
    const { commitIndex, role } = node.raft.status();
    run();
    if (!node.isRunning) return;
    const status = node.raft.status();
    this.#trace(member, status.currentTerm, status.commitIndex, status.lastIndex);
    if (!node.raft.hasReady()) return this.#checker.onChange(node);
    const mustCheckNow = status.commitIndex !== commitIndex || status.role !== role;
    if (mustCheckNow || this.#random.driver.chance(0.5)) this.#takeReady(member);
    else this.#scheduleReady(member);
  }

  #trace(member: Member, ...numbers: number[]): void {
    const { eventCount, nowMs } = this.#queue;
    let hash = this.#traceHash;
    for (const number of [eventCount, Math.floor(nowMs * 1000), member.incarnation, ...numbers]) {
      hash = Math.imul(hash ^ number, 0x01000193);
    }
    for (const character of member.node.id) {
      hash = Math.imul(hash ^ (character.codePointAt(0) ?? 0), 0x01000193);
    }
    this.#traceHash = hash ^ (hash >>> 13);
  }

  #scheduleReady(member: Member): void {
    if (member.isReadyScheduled) return;
    member.isReadyScheduled = true;
    this.#afterFor(member, this.#random.driver.between(0, 2), () => {
      member.isReadyScheduled = false;
      if (member.node.raft.hasReady()) this.#takeReady(member);
    });
  }

  /** Schedules an event that a crash of the node makes void. */
  #afterFor(member: Member, delayMs: number, run: () => void): void {
    const { incarnation } = member;
    this.#queue.after(delayMs, () => {
      if (member.incarnation === incarnation && member.node.isRunning) run();
    });
  }

  #takeReady(member: Member): void {
    const { node } = member;
    const ready = node.takeReady();
    this.#checker.onReady(node, ready);
    this.#checker.onChange(node);
    for (const message of ready.messages) this.#send(member, message);
    if (ready.appendToken !== 0) {
      // Writes end in order; one that comes early is merely shorter (group commit).
      const endMs = Math.max(this.#queue.nowMs + this.#diskMs(), member.diskFreeAtMs);
      member.diskFreeAtMs = endMs;
      this.#afterFor(member, endMs - this.#queue.nowMs, () => this.#finishWrite(member));
    }
    if (ready.committedEntries.length > 0) {
      this.#afterFor(member, this.#diskMs() / 2, () => this.#finishApply(member));
    }
    if (node.raft.hasReady()) this.#scheduleReady(member);
  }

  #diskMs(): number {
    return this.#random.disk.next() * (this.#isHealthy ? 1 : this.#plan.diskMsMax);
  }

  #finishWrite(member: Member): void {
    this.#input(member, () => {
      const messages = member.node.finishWrite();
      this.#checker.onDiskChange(member.node);
      for (const message of messages) this.#send(member, message);
    });
  }

  #finishApply(member: Member): void {
    this.#input(member, () => {
      const { node } = member;
      const applied = node.finishApply();
      this.#checker.onApply(node, applied);
      this.#configurationCount += applied.filter((e) => e.kind === 'configuration').length;
      const compactTo = node.state.index - this.#plan.trailingEntries;
      const isDue = node.view.index + 2 * this.#plan.trailingEntries < node.state.index;
      if (this.#plan.faults.compaction && isDue) node.compact(compactTo);
    });
  }

  #send(from: Member, message: Message): void {
    this.#checker.onSend(from.node, message);
    const to = this.#members.get(message.to);
    assert(to !== undefined, 'a message to nobody');
    const envelope = from.node.envelope(message);
    const { network } = this.#plan;
    const random = this.#random.network;
    const isCut = this.#cutLinks.has(`${message.from}>${message.to}`);
    const isDropped = !this.#isHealthy && random.chance(network.dropProbability);
    if (isCut || isDropped) {
      if (message.kind === 'installSnapshot') this.#reportSnapshot(from, message.to, false);
      else if (random.chance(0.1)) {
        this.#afterFor(from, 1, () =>
          this.#input(from, () => from.node.raft.reportUnreachable(message.to)),
        );
      }
      return;
    }
    const delayMs = random.next() * (this.#isHealthy ? 1 : network.delayMsMax);
    this.#queue.after(delayMs, () => this.#deliver(from, to, envelope));
    if (!this.#isHealthy && random.chance(network.duplicateProbability)) {
      const lateMs = delayMs + random.next() * network.replayMsMax;
      this.#queue.after(lateMs, () => this.#input(to, () => to.node.step(envelope)));
    }
  }

  #deliver(from: Member, to: Member, envelope: Envelope): void {
    const isRunning = to.node.isRunning;
    this.#input(to, () => to.node.step(envelope));
    if (envelope.message.kind !== 'installSnapshot') return;
    if (isRunning) this.#snapshotCount += 1;
    this.#reportSnapshot(from, to.node.id, isRunning);
  }

  #reportSnapshot(from: Member, to: NodeId, ok: boolean): void {
    this.#afterFor(from, ok ? 1 : 50, () =>
      this.#input(from, () => from.node.raft.reportSnapshot(to, ok)),
    );
  }

  #propose(): void {
    const random = this.#random.load;
    const running = this.#running();
    if (
      running.length === 0 ||
      this.#freshTerm === this.#leader()?.node.raft.status().currentTerm
    ) {
      return;
    }
    const member = random.pick(running);
    const leader = random.chance(0.8) ? (this.#leader() ?? member) : member;
    const commands = Array.from({ length: random.between(1, 3) }, () => {
      this.#proposalCount += 1;
      return new TextEncoder().encode(
        `${this.#proposalCount}`.padEnd(random.pick([1, 8, 100]), '.'),
      );
    });
    this.#input(leader, () => {
      const result = leader.node.raft.propose(commands);
      if (this.#isHealthy && result.kind === 'accepted') this.#freshTerm = result.term;
    });
  }

  #running(): Member[] {
    return [...this.#members.values()].filter((member) => member.node.isRunning);
  }

  /** Of several that believe to lead, the one of the latest term. */
  #leader(): Member | undefined {
    return this.#running()
      .map((member) => ({ member, status: member.node.raft.status() }))
      .filter(({ status }) => status.role === 'leader')
      .toSorted((left, right) => right.status.currentTerm - left.status.currentTerm)
      .at(0)?.member;
  }

  #injectFault(): void {
    const { faults } = this.#plan;
    const names = Object.entries(faults).flatMap(([name, isOn]) => (isOn ? [name] : []));
    if (names.length === 0) return;
    const random = this.#random.faults;
    const member = random.pick([...this.#members.values()]);
    switch (random.pick(names) as keyof typeof faults) {
      case 'crash':
        return member.node.isRunning ? this.#crash(member) : this.#restart(member);
      case 'partition':
        return this.#partition();
      case 'transfer':
        return this.#onLeader((leader) => leader.node.raft.transferLeadership(member.node.id));
      case 'campaign':
        return this.#input(member, () => member.node.raft.campaign());
      case 'configuration':
        return this.#onLeader((leader) => this.#changeConfiguration(leader, member));
      case 'compaction':
        if (member.node.isRunning) member.node.compact(member.node.raft.status().appliedIndex);
        return;
      case 'slowDisk':
        member.diskFreeAtMs = Math.max(member.diskFreeAtMs, this.#queue.nowMs + 200);
        return;
      case 'pause':
        member.pausedUntilMs = this.#queue.nowMs + random.between(10, 1000);
        return;
    }
  }

  #onLeader(run: (leader: Member) => void): void {
    const leader = this.#leader();
    if (leader !== undefined) this.#input(leader, () => run(leader));
  }

  #crash(member: Member): void {
    this.#crashCount += 1;
    member.incarnation += 1;
    member.isReadyScheduled = false;
    member.node.crash(this.#random.disk.next());
    if (this.#random.faults.chance(0.5)) {
      const { incarnation } = member;
      this.#queue.after(this.#random.faults.between(0, 500), () => {
        if (member.incarnation === incarnation) this.#restart(member);
      });
    }
  }

  #restart(member: Member): void {
    if (member.node.isRunning) return;
    member.incarnation += 1;
    member.pausedUntilMs = 0;
    member.diskFreeAtMs = this.#queue.nowMs;
    member.node.start();
    this.#checker.onStart(member.node);
    if (member.node.raft.hasReady()) this.#takeReady(member);
  }

  /** Replaces all cuts: two sides, one lone server, single links one way, or none. */
  #partition(): void {
    const random = this.#random.faults;
    this.#cutLinks.clear();
    const kind = random.pick(['sides', 'sides', 'deaf', 'mute', 'links', 'none'] as const);
    const lone = random.pick([...this.#members.keys()]);
    const side = new Map([...this.#members.keys()].map((id) => [id, random.chance(0.5)]));
    for (const from of this.#members.keys()) {
      for (const to of this.#members.keys()) {
        const isCut =
          (kind === 'sides' && side.get(from) !== side.get(to)) ||
          (kind === 'deaf' && to === lone) ||
          (kind === 'mute' && from === lone) ||
          (kind === 'links' && random.chance(0.3));
        if (isCut) this.#cutLinks.add(`${from}>${to}`);
      }
    }
  }

  #changeConfiguration(leader: Member, subject: Member): void {
    const { configuration } = leader.node.raft.status();
    const { id } = subject.node;
    const others = configuration.servers.filter((entry) => entry.id !== id);
    const current = configuration.servers.find((entry) => entry.id === id);
    const suffrage = this.#random.faults.pick(['voter', 'learner', 'removed'] as const);
    if (current === undefined && subject.wasMember) return;
    const servers = suffrage === 'removed' ? others : [...others, server(id, suffrage)];
    const result = leader.node.raft.proposeConfiguration({ servers });
    if (result.kind === 'accepted') subject.wasMember = true;
  }

  #heal(): void {
    this.#isHealthy = true;
    this.#cutLinks.clear();
    for (const member of this.#members.values()) {
      member.pausedUntilMs = 0;
      this.#restart(member);
    }
  }

  /** All servers of the leader's configuration have applied its whole log, of which one is fresh. */
  #hasAgreed(): boolean {
    const leader = this.#leader();
    if (leader === undefined) return false;
    const { commitIndex, lastIndex, configuration, currentTerm } = leader.node.raft.status();
    if (commitIndex !== lastIndex || leader.node.view.termAt(lastIndex) !== currentTerm)
      return false;
    return configuration.servers.every(({ id }) => {
      const member = this.#members.get(id);
      return member?.node.state.index === lastIndex && isSame(member, leader);
    });
  }

  #describe(): string {
    return [...this.#members.values()]
      .map(({ node }) => {
        const { role, currentTerm, commitIndex, lastIndex } = node.raft.status();
        return `${node.id} ${role} term=${currentTerm} commit=${commitIndex} last=${lastIndex}`;
      })
      .join('; ');
  }
}

function isSame(left: Member, right: Member): boolean {
  return left.node.state.digest === right.node.state.digest;
}

function server(id: NodeId, suffrage: Server['suffrage']): Server {
  return { id, address: `${id}:8201`, suffrage };
}
