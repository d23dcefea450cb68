/**
 * A cluster of whole nodes in simulated time: real core, driver, proposals, reads, state machine,
 * log and wire format, on simulated clocks, network and disks, with clients whose history is
 * checked. Same plans, nemeses, network and invariants as `core-world.ts`; slower, and deeper.
 *
 * The server's parts speak in promises. Nothing in here waits for anything but other promises and
 * the event queue, so after each event all of them run to their end before the next one.
 */

import assert from 'node:assert/strict';
import { setImmediate as afterOthers } from 'node:timers/promises';

import type { InstallSnapshot, Message, NodeId } from '../../raft/message.ts';
import type { RaftStatus } from '../../raft/raft.ts';
import { Random } from '../random.ts';
import { Clients, type Asked } from './clients.ts';
import type { RunOptions, RunReport } from './core-world.ts';
import { Transitions, type Coverage } from './coverage.ts';
import { EventQueue } from './event-queue.ts';
import { checkHistory } from './history-check.ts';
import { inflict, resolve, type ActionOf, type Victims } from './inflict.ts';
import { server, wantedServers } from './membership-changes.ts';
import { Network, type Sent } from './network.ts';
import { NodeClock } from './node-clock.ts';
import { NodeDisks } from './node-disks.ts';
import { isDamage, isOfDisk, type Member } from './node-member.ts';
import { NodeProcess } from './node-process.ts';
import { messageOf, packetOf, tryCorrupted, type Packet } from './packets.ts';
import { nodeIds, type Operation, type Plan } from './plan.ts';
import { SafetyChecker, type ObservedNode } from './safety-checker.ts';
import { Trace } from './trace.ts';
import { WholeNodeChecker } from './whole-node-checker.ts';

const HEALING_US = 60_000_000;
const AGREEMENT_CHECK_US = 50_000;
const HEALTHY_DISK_US = 1_000;
const EVENTS_MAX = 2_000_000;
/** A node that could not open its disk is tried again. */
const REOPEN_US = 100_000;

/** So many events, and whoever else lives in this process has a turn: a runner of tests, say. */
const EVENTS_A_BREATH = 1_000;

export async function runNodeWorld(plan: Plan, options: RunOptions = {}): Promise<RunReport> {
  return new NodeWorld(plan, options).run();
}

class NodeWorld {
  readonly #plan: Plan;
  readonly #queue = new EventQueue();
  readonly #disk: Random;
  readonly #boot: Random;
  readonly #members = new Map<NodeId, Member>();
  readonly #observed = new Map<NodeId, ObservedNode>();
  readonly #checker: WholeNodeChecker;
  readonly #network: Network<Packet>;
  readonly #trace: Trace;
  readonly #clients: Clients;
  readonly #transitions = new Transitions();
  readonly #counts: Record<string, number> = {};
  #isHealthy = false;
  #failure: { readonly error: unknown } | undefined;

  constructor(plan: Plan, { onEvent }: RunOptions) {
    this.#plan = plan;
    const { seed, electionTicks, limits } = plan;
    this.#disk = new Random(seed, 'disk');
    this.#boot = new Random(seed, 'boot');
    this.#trace = new Trace(onEvent);
    const safety = new SafetyChecker(this.#observed, {
      electionTicks,
      limits,
      // Stamps and fingerprints are in it, and several may be proposed in one turn.
      proposalBytesMax: 64 * 1024,
      serialOf: () => undefined,
    });
    this.#checker = new WholeNodeChecker(safety, () => this.#queue.nowUs / 1000);
    const world = { queue: this.#queue, random: new Random(seed, 'network') };
    this.#network = new Network(plan.network, world, {
      deliver: (sent) => this.#deliver(sent, false),
      deliverAgain: (sent) => this.#deliver(sent, true),
      lose: (sent, isNoticed) => this.#onLost(sent, isNoticed),
      isRunning: (id) => this.#member(id).process !== undefined,
      tryCorrupted: (packet, draw) => tryCorrupted(packet, draw, safety.ledger),
    });
    this.#clients = new Clients(
      {
        queue: this.#queue,
        choose: (operation, attempt) => this.#choose(operation, attempt),
        ask: (id, run) => this.#onNode(this.#member(id), run),
        onDeath: (id, run) => this.#member(id).onDeath.push(run),
        onFailure: (error) => this.#fail(error),
      },
      plan.workload,
    );
    const ids = nodeIds(plan);
    const founding = ids.slice(0, plan.voterCount).map((id) => server(id, 'voter'));
    for (const [position, id] of ids.entries()) {
      const wasMember = position < plan.voterCount;
      this.#addMember(id, { servers: wasMember ? founding : [] }, wasMember);
    }
    for (const action of plan.nemesis) {
      this.#queue.at(action.atUs, () => {
        if (!this.#isHealthy) inflict(action, this.#victims());
      });
    }
    for (const operation of plan.operations) {
      this.#queue.at(operation.atUs, () => this.#clients.operate(operation));
    }
  }

  #addMember(
    id: NodeId,
    configuration: { servers: ReturnType<typeof server>[] },
    wasMember: boolean,
  ): void {
    const member: Member = {
      id,
      disks: new NodeDisks(configuration),
      jitter: new Random(this.#plan.seed, id),
      clock: new NodeClock(this.#queue, 0, (run) => run()),
      process: undefined,
      isStarting: false,
      isLost: false,
      incarnation: 0,
      pausedUntilUs: 0,
      backlog: [],
      diskFreeAtUs: 0,
      driftPpm: 0,
      wasMember,
      onDeath: [],
      pendingCrash: undefined,
    };
    this.#members.set(id, member);
    this.#queue.after(this.#boot.between(0, 20_000), () => this.#start(member));
  }

  async run(): Promise<RunReport> {
    await this.#runUntil(this.#plan.chaosUs);
    this.#heal();
    await this.#awaitAgreement('no agreement after all faults ended');
    await this.#writeAfresh();
    await this.#awaitAgreement('a healthy cluster does not apply a write everywhere');
    await this.#checkEnd();
    return {
      traceHash: this.#trace.hash(),
      committedCount: this.#checker.safety.committedIndex,
      coverage: this.#coverage(),
    };
  }

  async #runUntil(endUs: number): Promise<void> {
    while (this.#queue.runNext(endUs)) {
      await afterPromises();
      if (this.#queue.eventCount % EVENTS_A_BREATH === 0) await afterOthers();
      if (this.#failure !== undefined) throw this.#failure.error;
      assert(this.#queue.eventCount < EVENTS_MAX, 'the simulation does not come to an end');
    }
    this.#queue.nowUs = endUs;
  }

  async #awaitAgreement(otherwise: string): Promise<void> {
    const endUs = this.#queue.nowUs + HEALING_US;
    while (!this.#hasAgreed() && this.#queue.nowUs < endUs) {
      await this.#runUntil(this.#queue.nowUs + AGREEMENT_CHECK_US);
    }
    this.#checker.ledger.check('I22', this.#hasAgreed(), otherwise);
  }

  async #writeAfresh(): Promise<void> {
    const before = this.#clients.history.length;
    const operation = { atUs: 0, client: 99, toLeader: true, pick: 0.1, isRead: false, sizes: [8] };
    const endUs = this.#queue.nowUs + HEALING_US;
    const isAcknowledged = (): boolean =>
      this.#clients.history
        .slice(before)
        .some(({ outcome, call }) => call.kind === 'write' && outcome.kind === 'ok');
    while (!isAcknowledged() && this.#queue.nowUs < endUs) {
      this.#clients.operate(operation);
      await this.#runUntil(this.#queue.nowUs + AGREEMENT_CHECK_US);
    }
    this.#checker.ledger.check('I22', isAcknowledged(), 'a healthy cluster takes no write');
  }

  async #checkEnd(): Promise<void> {
    const leader = this.#leader();
    assert(leader !== undefined);
    const hash = await leader.stateHash();
    for (const { id } of leader.raft.status().configuration.servers) {
      const { process, isLost } = this.#member(id);
      if (isLost) continue;
      const other = await process?.stateHash();
      this.#checker.ledger.check('I5', other === hash, 'two nodes with equal index hash unequally');
    }
    const { model, ledger } = this.#checker;
    Object.assign(this.#counts, checkHistory(this.#clients, model, ledger));
  }

  #coverage(): Coverage {
    const { committedIndex, electionCount, termMax, ledger } = this.#checker.safety;
    const prefixed = (prefix: string, counts: object): Record<string, number> =>
      Object.fromEntries(
        Object.entries(counts).map(([name, count]) => [`${prefix}${name}`, Number(count)]),
      );
    const disks: Record<string, number> = {};
    for (const { disks: each } of this.#members.values()) {
      for (const [name, count] of each.log.coverage) disks[name] = (disks[name] ?? 0) + count;
    }
    return {
      totals: {
        seeds: 1,
        events: this.#queue.eventCount,
        virtualHours: this.#queue.nowUs / 3.6e9,
        committed: committedIndex,
        elections: electionCount,
        termMax,
      },
      counts: {
        ...this.#counts,
        ...prefixed('packets: ', this.#network.counts),
        ...prefixed('client: ', this.#clients.counts),
        ...prefixed('disk: ', disks),
        ...prefixed('commands in chunks: ', this.#checker.model.counts),
      },
      evaluations: ledger.evaluations(),
      transitions: this.#transitions.counts(),
    };
  }

  #fail(error: unknown): void {
    this.#failure ??= { error };
  }

  #count(name: string): void {
    this.#counts[name] = (this.#counts[name] ?? 0) + 1;
  }

  /** Runs something on a node: not if it has died since, and later if it is paused. */
  #schedule(member: Member, delayUs: number, run: () => void): void {
    const { incarnation } = member;
    this.#queue.after(delayUs, () => {
      if (member.incarnation === incarnation) this.#onNode(member, run);
    });
  }

  #onNode(member: Member, run: () => void): void {
    if (this.#queue.nowUs < member.pausedUntilUs) {
      member.backlog.push(run);
      return;
    }
    try {
      run();
    } catch (error) {
      this.#fail(error);
    }
  }

  #diskUs(): number {
    const usMax = this.#isHealthy ? HEALTHY_DISK_US : this.#plan.diskUsMax;
    return Math.floor(this.#disk.next() * usMax);
  }

  #start(member: Member): void {
    if (member.process !== undefined || member.isStarting || member.isLost) return;
    member.isStarting = true;
    member.incarnation += 1;
    member.pausedUntilUs = 0;
    member.backlog = [];
    const { incarnation } = member;
    const startMs = this.#boot.between(0, 1_000_000);
    member.clock = new NodeClock(this.#queue, startMs, (run) => {
      if (member.incarnation === incarnation) this.#onNode(member, run);
    });
    member.clock.drift(member.driftPpm);
    void this.#open(member, incarnation);
  }

  /** Never rejects. */
  async #open(member: Member, incarnation: number): Promise<void> {
    const isCurrent = (): boolean => member.incarnation === incarnation;
    try {
      const process = await NodeProcess.start(member.id, member.disks, {
        plan: this.#plan,
        checker: this.#checker,
        clock: member.clock,
        jitter: member.jitter,
        device: {
          afterDiskDelay: (run) => this.#afterDisk(member, run),
          onPowerLoss: () => this.#powerLoss(member),
        },
        send: (message) => this.#send(message),
        sendSnapshot: (message, bytes) => this.#sendSnapshot(message, bytes),
        onTick: (status) => this.#checker.safety.contact.onTick(member.id, status),
        onMessage: (before, message, after) => {
          this.#checker.safety.onDeliver({ id: member.id } as ObservedNode, message);
          this.#transitions.record(before, message, after);
        },
        onTurn: (status) => this.#onTurn(member, status),
        onFatal: (error) => {
          if (isCurrent()) this.#onFatal(member, error);
        },
      });
      if (!isCurrent()) return;
      member.process = process;
      member.isStarting = false;
      this.#observed.set(member.id, process);
      this.#checker.safety.onStart(process);
      process.run();
    } catch (error) {
      if (isCurrent()) this.#onFatal(member, error);
    }
  }

  #afterDisk(member: Member, run: () => void): void {
    const endUs = Math.max(this.#queue.nowUs + this.#diskUs(), member.diskFreeAtUs);
    member.diskFreeAtUs = endUs;
    this.#schedule(member, endUs - this.#queue.nowUs, run);
  }

  #onTurn(member: Member, status: RaftStatus): void {
    this.#trace.event(this.#queue, member.id, status);
  }

  /** A disk that fails ends a node, as it should; everything else that does is a finding. */
  #onFatal(member: Member, error: unknown): void {
    if (isDamage(error) && member.disks.rottenPath !== undefined) {
      this.#count('node refused to start on a damaged log');
      this.#kill(member, 'nothing', 0);
      member.isLost = true;
      return;
    }
    if (!isOfDisk(error)) {
      this.#fail(error);
      return;
    }
    this.#count('node ended by its disk');
    this.#kill(member, 'suffix', 0.5);
    this.#queue.after(REOPEN_US, () => this.#start(member));
  }

  #powerLoss(member: Member): void {
    const action = member.pendingCrash;
    assert(action !== undefined, 'power was lost without a cause');
    this.#crashNow(member, action);
  }

  #crashNow(member: Member, action: ActionOf<'crash'>): void {
    member.pendingCrash = undefined;
    this.#count(`crash losing ${action.loss}`);
    this.#kill(member, action.loss, action.draw);
    this.#queue.after(action.downUs, () => this.#start(member));
  }

  #kill(member: Member, loss: ActionOf<'crash'>['loss'], drawn: number): void {
    member.incarnation += 1;
    member.isStarting = false;
    member.process?.kill();
    member.process = undefined;
    member.backlog = [];
    member.diskFreeAtUs = this.#queue.nowUs;
    const draws = new Random(Math.floor(drawn * 2 ** 31), 'crash');
    member.disks.log.crash(loss, () => draws.next());
    member.disks.store.endWriting(draws.chance(0.5));
    for (const run of member.onDeath.splice(0)) run();
  }

  #send(message: Message): void {
    const packet = packetOf(message);
    this.#network.send({ packet, from: message.from, to: message.to }, packet.frame.length);
  }

  #sendSnapshot(message: InstallSnapshot, bytes: Buffer): void {
    const packet = { kind: 'snapshot', message, bytes } as const;
    this.#network.send({ packet, from: message.from, to: message.to }, bytes.length);
  }

  #deliver({ packet, from, to }: Sent<Packet>, isAgain: boolean): void {
    const member = this.#member(to);
    const { process } = member;
    if (process === undefined) {
      if (packet.kind === 'snapshot' && !isAgain) this.#reportSnapshot(from, to, false);
      return;
    }
    if (packet.kind === 'message') {
      const message = messageOf({ packet, from, to });
      // See `core-world.ts`: what one process has taken does not come to another.
      if (message.kind === 'heartbeat') {
        packet.taker ??= member.incarnation;
        if (packet.taker !== member.incarnation) return;
      }
      this.#onNode(member, () => process.receive(message));
      return;
    }
    // A transfer has a connection of its own.
    if (isAgain) return;
    this.#count('snapshot delivered');
    this.#onNode(member, () =>
      process.receiveSnapshot(packet.message, packet.bytes, () =>
        this.#reportSnapshot(from, to, true),
      ),
    );
    member.onDeath.push(() => this.#reportSnapshot(from, to, false));
  }

  #onLost({ packet, from, to }: Sent<Packet>, isNoticed: boolean): void {
    if (packet.kind === 'snapshot') return this.#reportSnapshot(from, to, false);
    if (!isNoticed) return;
    const member = this.#member(from);
    this.#schedule(member, 1_000, () => {
      this.#checker.safety.windows.onNews(from, to);
      member.process?.enqueue({ kind: 'unreachable', id: to });
    });
  }

  #reportSnapshot(from: NodeId, to: NodeId, isComplete: boolean): void {
    const member = this.#member(from);
    this.#schedule(member, isComplete ? 1_000 : 50_000, () => {
      this.#checker.safety.windows.onNews(from, to);
      member.process?.enqueue({ kind: 'snapshotSent', id: to, isComplete });
    });
  }

  #choose({ toLeader, pick, isRead }: Operation, attempt: number): Asked | undefined {
    const reachable = this.#running().filter(({ id }) => this.#network.reachesClients(id));
    const leader = this.#leader();
    const byLeader = reachable.find(({ process }) => process === leader);
    const any = reachable[Math.floor(((pick * 7919 + attempt * 0.37) % 1) * reachable.length)];
    const deposed = isRead
      ? reachable.find(
          ({ process }) => process !== leader && process?.raft.status().role === 'leader',
        )
      : undefined;
    const chosen = deposed ?? (toLeader ? (byLeader ?? any) : any);
    return chosen?.process === undefined ? undefined : { process: chosen.process, id: chosen.id };
  }

  #running(): Member[] {
    return [...this.#members.values()].filter(({ process }) => process !== undefined);
  }

  #leader(): NodeProcess | undefined {
    let leader: NodeProcess | undefined;
    let leaderTerm = 0;
    for (const { process } of this.#members.values()) {
      if (process === undefined) continue;
      const { role, currentTerm } = process.raft.status();
      if (role !== 'leader' || currentTerm <= leaderTerm) continue;
      leader = process;
      leaderTerm = currentTerm;
    }
    return leader;
  }

  #victims(): Victims {
    const { nowUs } = this.#queue;
    const enqueue = (
      id: NodeId | undefined,
      input: Parameters<NodeProcess['enqueue']>[0],
    ): void => {
      const member = id === undefined ? undefined : this.#member(id);
      if (member !== undefined) this.#onNode(member, () => member.process?.enqueue(input));
    };
    return {
      ids: () => [...this.#members.keys()],
      leaderId: () => this.#leader()?.id,
      partition: (cuts) => this.#network.partition(cuts),
      clog: (from, to, forUs) => this.#network.clog(from, to, nowUs + forUs),
      crash: (id, action) => this.#crash(this.#member(id), action),
      transfer: (to) =>
        enqueue(this.#leader()?.id, { kind: 'transfer', to, answer: () => undefined }),
      campaign: (id) => enqueue(id, { kind: 'campaign' }),
      configure: (changes) => this.#configure(changes),
      compact: (id) => {
        const member = this.#member(id);
        this.#onNode(member, () => member.process?.compact(Infinity));
      },
      slowDisk: (id, forUs) => {
        const member = this.#member(id);
        member.diskFreeAtUs = Math.max(member.diskFreeAtUs, nowUs + forUs);
      },
      diskFault: (id, action) => this.#diskFault(this.#member(id), action),
      pause: (id, action) => this.#pause(this.#member(id), action),
      drift: (id, ppm) => {
        const member = this.#member(id);
        member.driftPpm = ppm;
        member.clock.drift(ppm);
      },
      clockJump: (id, byUs) => this.#member(id).clock.setWall(byUs / 1000),
      count: (name) => this.#count(name),
    };
  }

  /** Rot takes a node out for good, so that there is one at most, and enough others. */
  #diskFault({ disks }: Member, { fault, draw }: ActionOf<'diskFault'>): void {
    if (fault !== 'rot') return disks.log.failNext(fault);
    const { nemesis, voterCount } = this.#plan;
    const isBearable = voterCount >= 3 && nemesis.every(({ kind }) => kind !== 'configure');
    const others = [...this.#members.values()];
    if (!isBearable || others.some((each) => each.disks.rottenPath !== undefined)) return;
    const draws = new Random(Math.floor(draw * 2 ** 31), 'rot');
    disks.rottenPath = disks.log.rot(() => draws.next());
    if (disks.rottenPath !== undefined) this.#count('disk: rot in a closed segment');
  }

  /** At once, or in the middle of what its log does next; at once, too, if it does nothing soon. */
  #crash(member: Member, action: ActionOf<'crash'>): void {
    if (member.process === undefined || member.pendingCrash !== undefined) return;
    if (action.afterOperations > 8) return this.#crashNow(member, action);
    member.pendingCrash = action;
    member.disks.log.crashAfter(action.afterOperations);
    this.#schedule(member, 200_000, () => {
      if (member.pendingCrash === action) this.#crashNow(member, action);
    });
  }

  #pause(member: Member, { forUs, clockRuns }: ActionOf<'pause'>): void {
    const untilUs = this.#queue.nowUs + forUs;
    if (member.process === undefined || untilUs <= member.pausedUntilUs) return;
    member.pausedUntilUs = untilUs;
    if (!clockRuns) member.clock.stand();
    this.#queue.at(untilUs, () => this.#resume(member));
  }

  #resume(member: Member): void {
    if (this.#queue.nowUs < member.pausedUntilUs) return;
    const hasSlept = member.clock.isStanding;
    member.clock.go();
    const { process, id } = member;
    if (hasSlept && process !== undefined) this.#clients.askWoken({ process, id });
    for (const run of member.backlog.splice(0)) this.#onNode(member, run);
  }

  #configure(changes: ActionOf<'configure'>['changes']): void {
    const leader = this.#leader();
    if (leader === undefined) return;
    const member = this.#member(leader.id);
    const idOf = (target: ActionOf<'configure'>['changes'][number]['target']): NodeId =>
      resolve(target, this.#victims());
    const proposal = {
      command: Buffer.alloc(0),
      resolve: () => undefined,
      reject: () => undefined,
    };
    this.#onNode(member, () =>
      leader.enqueue({
        kind: 'configure',
        edit: (inForce) => {
          const wasMember = (id: NodeId): boolean => this.#member(id).wasMember;
          const servers = wantedServers(inForce, changes, { idOf, wasMember });
          for (const { id } of servers) this.#member(id).wasMember = true;
          return { servers };
        },
        proposal,
        refused: () => undefined,
      }),
    );
  }

  #heal(): void {
    this.#isHealthy = true;
    this.#network.heal();
    for (const member of this.#members.values()) {
      member.pausedUntilUs = 0;
      member.diskFreeAtUs = this.#queue.nowUs;
      member.disks.log.failNext(undefined);
      if (member.pendingCrash !== undefined) this.#crashNow(member, member.pendingCrash);
      // Damage is found when a log is opened, so this one is.
      if (member.disks.rottenPath !== undefined) this.#kill(member, 'nothing', 0);
      this.#resume(member);
      this.#start(member);
    }
  }

  #hasAgreed(): boolean {
    const leader = this.#leader();
    if (leader === undefined || this.#clients.underWay > 0) return false;
    const { commitIndex, lastIndex, configuration, currentTerm } = leader.raft.status();
    if (commitIndex !== lastIndex || leader.view.termAt(lastIndex) !== currentTerm) return false;
    return configuration.servers.every(({ id }) => {
      const { process, isLost } = this.#member(id);
      if (isLost) return true;
      return process?.state.index === lastIndex && process.durableIndex === lastIndex;
    });
  }

  #member(id: NodeId): Member {
    const member = this.#members.get(id);
    assert(member !== undefined, 'a message from or to nobody');
    return member;
  }
}

/**
 * Resolves when no promise has anything left to do: `nextTick` callbacks run when the queue of
 * promises has become empty, and unlike `setImmediate` they do not ask the kernel for news first.
 */
function afterPromises(): Promise<void> {
  return new Promise((run) => process.nextTick(run));
}
