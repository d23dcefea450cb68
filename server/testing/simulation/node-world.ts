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

import type { Message, NodeId } from '../../raft/message.ts';
import { Random } from '../random.ts';
import { Clients, type Asked } from './clients.ts';
import type { RunOptions, RunReport } from './core-world.ts';
import { Transitions, type Coverage } from './coverage.ts';
import { EventQueue } from './event-queue.ts';
import { checkHistory } from './history-check.ts';
import { inflict, resolve, type ActionOf, type Victims } from './inflict.ts';
import { wantedServers } from './membership-changes.ts';
import { Network, type Sent } from './network.ts';
import type { Member } from './node-member.ts';
import { NodeMembers, type Surroundings } from './node-members.ts';
import type { NodeProcess } from './node-process.ts';
import { messageOf, packetOf, tryCorrupted, type Packet } from './packets.ts';
import type { Operation, Plan } from './plan.ts';
import { SafetyChecker, type ObservedNode } from './safety-checker.ts';
import { Streams, type StreamHost } from './streams.ts';
import { Trace } from './trace.ts';
import { TransferChecker } from './transfer-checker.ts';
import { TransferFaults } from './transfer-faults.ts';
import type { TransferFault } from './transfer-plan.ts';
import { WholeNodeChecker } from './whole-node-checker.ts';

const HEALING_US = 60_000_000;
const AGREEMENT_CHECK_US = 50_000;
const EVENTS_MAX = 2_000_000;
const STALL_US_MAX = 500_000;

/** So many events, and whoever else lives in this process has a turn: a runner of tests, say. */
const EVENTS_A_BREATH = 1_000;

export async function runNodeWorld(plan: Plan, options: RunOptions = {}): Promise<RunReport> {
  return new NodeWorld(plan, options).run();
}

class NodeWorld {
  readonly #plan: Plan;
  readonly #queue = new EventQueue();
  readonly #members: NodeMembers;
  readonly #observed = new Map<NodeId, ObservedNode>();
  readonly #checker: WholeNodeChecker;
  readonly #transfers: TransferChecker;
  readonly #faults: TransferFaults<Member>;
  readonly #network: Network<Packet>;
  readonly #streams: Streams;
  readonly #ids: Random;
  readonly #trace: Trace;
  readonly #clients: Clients;
  readonly #transitions = new Transitions();
  readonly #counts: Record<string, number> = {};
  #isHealthy = false;
  #failure: { readonly error: unknown } | undefined;

  constructor(plan: Plan, { onEvent }: RunOptions) {
    this.#plan = plan;
    const { seed, electionTicks, limits } = plan;
    const queue = this.#queue;
    this.#ids = new Random(seed, 'ids');
    this.#trace = new Trace(onEvent);
    const safety = new SafetyChecker(this.#observed, {
      electionTicks,
      limits,
      // Stamps and fingerprints are in it, and several may be proposed in one turn.
      proposalBytesMax: 64 * 1024,
      serialOf: () => undefined,
    });
    this.#checker = new WholeNodeChecker(safety, () => queue.nowUs / 1000);
    this.#transfers = new TransferChecker(safety.ledger);
    this.#faults = new TransferFaults({
      strike: (member, fault) => this.#strike(member, fault),
      count: (name) => this.#count(name),
    });
    this.#network = new Network(
      plan.network,
      { queue, random: new Random(seed, 'network') },
      {
        deliver: (sent) => this.#deliver(sent),
        deliverAgain: (sent) => this.#deliver(sent),
        lose: (sent, isNoticed) => this.#onLost(sent, isNoticed),
        isRunning: (id) => this.#members.of(id).process !== undefined,
        tryCorrupted: (packet, draw) => tryCorrupted(packet, draw, safety.ledger),
      },
    );
    this.#streams = new Streams({
      ...{ plan: plan.transfers.streams, queue, network: this.#network },
      random: new Random(seed, 'streams'),
      hostOf: (id) => this.#members.of(id).host,
    });
    this.#members = new NodeMembers({
      ...{ plan, queue },
      surround: (member, host) => this.#surround(member, host),
      onStarted: (process) => {
        this.#observed.set(process.id, process);
        safety.onStart(process);
      },
      onEnded: (host) => this.#streams.end(host),
      onWoken: (process) => this.#clients.askWoken({ process, id: process.id }),
      onFailure: (error) => this.#fail(error),
      count: (name) => this.#count(name),
    });
    this.#clients = new Clients(
      {
        queue,
        choose: (operation, attempt) => this.#choose(operation, attempt),
        ask: (id, run) => this.#members.onNode(this.#members.of(id), run),
        onDeath: (id, run) => this.#members.of(id).onDeath.push(run),
        onFailure: (error) => this.#fail(error),
      },
      plan.workload,
    );
    for (const action of plan.nemesis) {
      queue.at(action.atUs, () => {
        if (!this.#isHealthy) inflict(action, this.#victims());
      });
    }
    for (const operation of plan.operations) {
      queue.at(operation.atUs, () => this.#clients.operate(operation));
    }
  }

  #surround(member: Member, host: StreamHost): Surroundings {
    const { id } = member;
    const { safety } = this.#checker;
    const onNews = (about: NodeId): void => safety.windows.onNews(id, about);
    return {
      ...{ checker: this.#checker, transfers: this.#transfers, ids: this.#ids, onNews },
      sendPacket:
        this.#plan.transfers.carrier === 'lanes'
          ? undefined
          : (message) => this.#sendPacket(message),
      dial: (to) => this.#streams.dial(host, to),
      reached: (point) => this.#faults.reached(member, point),
      onInstalled: (message) => {
        this.#count('snapshot delivered');
        this.#transfers.onInstalled(message, this.#members.of(message.to));
      },
      onTick: (status) => safety.contact.onTick(id, status),
      onMessage: (before, message, after) => {
        safety.onDeliver({ id } as ObservedNode, message);
        this.#transitions.record(before, message, after);
      },
      onTurn: (status) => this.#trace.event(this.#queue, id, status),
    };
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
    const leader = this.#members.leader();
    assert(leader !== undefined);
    const hash = await leader.stateHash();
    for (const { id } of leader.raft.status().configuration.servers) {
      const { process, isLost } = this.#members.of(id);
      if (isLost) continue;
      const other = await process?.stateHash();
      this.#checker.ledger.check('I5', other === hash, 'two nodes with equal index hash unequally');
    }
    for (const { process, disks } of this.#members.running()) {
      this.#transfers.onRest(disks.snapshots, process?.peers.underWay ?? 0);
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
    for (const { disks: each } of this.#members.all()) {
      for (const [name, count] of [...each.log.coverage, ...each.snapshots.coverage]) {
        disks[name] = (disks[name] ?? 0) + count;
      }
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
        ...prefixed('streams: ', this.#streams.counts),
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

  #sendPacket(message: Message): void {
    const packet = packetOf(message);
    this.#network.send({ packet, from: message.from, to: message.to }, packet.frame.length);
  }

  #deliver({ packet, from, to }: Sent<Packet>): void {
    const member = this.#members.of(to);
    const { process } = member;
    if (process === undefined) return;
    const message = messageOf({ packet, from, to });
    // See `core-world.ts`: what one process has taken does not come to another.
    if (message.kind === 'heartbeat') {
      packet.taker ??= member.incarnation;
      if (packet.taker !== member.incarnation) return;
    }
    this.#members.onNode(member, () => process.receive(message));
  }

  #onLost({ from, to }: Sent<Packet>, isNoticed: boolean): void {
    if (!isNoticed) return;
    const member = this.#members.of(from);
    this.#members.schedule(member, 1_000, () => {
      this.#checker.safety.windows.onNews(from, to);
      member.process?.enqueue({ kind: 'unreachable', id: to });
    });
  }

  /** A transfer has come to where trouble waits for it. */
  #strike(member: Member, fault: TransferFault): void {
    const { host, id } = member;
    switch (fault.trouble) {
      case 'crash':
        return this.#members.crashNow(member, fault);
      case 'reset':
        // Whoever dials anew finds that the disk is not done with what came before.
        this.#members.stallDisk(member, fault.draw * STALL_US_MAX);
        if (host !== undefined) this.#streams.reset(host);
        return;
      case 'diskFault':
        return this.#members.failSnapshots(member, fault.fault);
      case 'compact':
        return this.#members.schedule(member, 0, () => member.process?.compact(Infinity));
      case 'depose': {
        const others = this.#members.running().filter((other) => other.id !== id);
        const other = others[Math.floor(fault.draw * others.length)];
        if (other === undefined) return;
        const campaign = (): void => other.process?.enqueue({ kind: 'campaign' });
        return this.#members.schedule(other, 0, campaign);
      }
    }
  }

  #choose({ toLeader, pick, isRead }: Operation, attempt: number): Asked | undefined {
    const reachable = this.#members.running().filter(({ id }) => this.#network.reachesClients(id));
    const leader = this.#members.leader();
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

  #victims(): Victims {
    const { nowUs } = this.#queue;
    const members = this.#members;
    const enqueue = (
      id: NodeId | undefined,
      input: Parameters<NodeProcess['enqueue']>[0],
    ): void => {
      const member = id === undefined ? undefined : members.of(id);
      if (member !== undefined) members.onNode(member, () => member.process?.enqueue(input));
    };
    return {
      ids: () => members.ids,
      leaderId: () => members.leader()?.id,
      partition: (cuts) => this.#network.partition(cuts),
      clog: (from, to, forUs) => this.#network.clog(from, to, nowUs + forUs),
      crash: (id, action) => members.crash(members.of(id), action),
      transfer: (to) =>
        enqueue(this.#members.leader()?.id, { kind: 'transfer', to, answer: () => undefined }),
      campaign: (id) => enqueue(id, { kind: 'campaign' }),
      configure: (changes) => this.#configure(changes),
      compact: (id) => {
        const member = this.#members.of(id);
        this.#members.onNode(member, () => member.process?.compact(Infinity));
      },
      slowDisk: (id, forUs) => members.stallDisk(members.of(id), forUs),
      diskFault: (id, action) => members.diskFault(members.of(id), action),
      pause: (id, action) => members.pause(members.of(id), action),
      drift: (id, ppm) => {
        const member = this.#members.of(id);
        member.driftPpm = ppm;
        member.clock.drift(ppm);
      },
      clockJump: (id, byUs) => this.#members.of(id).clock.setWall(byUs / 1000),
      transferFault: (fault) => this.#faults.arm(fault),
      count: (name) => this.#count(name),
    };
  }

  #configure(changes: ActionOf<'configure'>['changes']): void {
    const leader = this.#members.leader();
    if (leader === undefined) return;
    const member = this.#members.of(leader.id);
    const idOf = (target: ActionOf<'configure'>['changes'][number]['target']): NodeId =>
      resolve(target, this.#victims());
    const proposal = {
      command: Buffer.alloc(0),
      resolve: () => undefined,
      reject: () => undefined,
    };
    this.#members.onNode(member, () =>
      leader.enqueue({
        kind: 'configure',
        edit: (inForce) => {
          const wasMember = (id: NodeId): boolean => this.#members.of(id).wasMember;
          const servers = wantedServers(inForce, changes, { idOf, wasMember });
          for (const { id } of servers) this.#members.of(id).wasMember = true;
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
    this.#faults.disarm();
    this.#members.heal();
  }

  #hasAgreed(): boolean {
    const leader = this.#members.leader();
    if (leader === undefined || this.#clients.underWay > 0) return false;
    const { commitIndex, lastIndex, configuration, currentTerm } = leader.raft.status();
    if (commitIndex !== lastIndex || leader.view.termAt(lastIndex) !== currentTerm) return false;
    return configuration.servers.every(({ id }) => {
      const { process, isLost } = this.#members.of(id);
      if (isLost) return true;
      return process?.state.index === lastIndex && process.durableIndex === lastIndex;
    });
  }
}

/**
 * Resolves when no promise has anything left to do: `nextTick` callbacks run when the queue of
 * promises has become empty, and unlike `setImmediate` they do not ask the kernel for news first.
 */
function afterPromises(): Promise<void> {
  return new Promise((run) => process.nextTick(run));
}
