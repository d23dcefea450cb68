/**
 * The nodes of the node world across their processes: how they start, what runs on them and when,
 * and how they end, by the nemesis or by their own disk.
 */

import assert from 'node:assert/strict';

import type { NodeId } from '../../raft/message.ts';
import { Random } from '../random.ts';
import type { EventQueue } from './event-queue.ts';
import type { ActionOf } from './inflict.ts';
import { server } from './membership-changes.ts';
import { NodeClock } from './node-clock.ts';
import { NodeDisks } from './node-disks.ts';
import { isDamage, isOfDisk, type Member } from './node-member.ts';
import { NodeProcess, type ProcessWorld } from './node-process.ts';
import { nodeIds, type Plan } from './plan.ts';
import type { StreamHost } from './streams.ts';

const HEALTHY_DISK_US = 1_000;
/** A node that could not open its disk is tried again. */
const REOPEN_US = 100_000;
/** Somebody makes room on a full disk, if only one for snapshots. */
const FULL_DISK_US = 500_000;

/** What a process meets outside of its own node. */
export type Surroundings = Omit<ProcessWorld, 'plan' | 'clock' | 'jitter' | 'device' | 'onFatal'>;

export type MembersOptions = {
  readonly plan: Plan;
  readonly queue: EventQueue;
  surround(member: Member, host: StreamHost): Surroundings;
  onStarted(process: NodeProcess): void;
  onEnded(host: StreamHost): void;
  /** After its host was suspended. */
  onWoken(process: NodeProcess): void;
  onFailure(error: unknown): void;
  count(name: string): void;
};

export class NodeMembers {
  readonly #options: MembersOptions;
  readonly #queue: EventQueue;
  readonly #disk: Random;
  readonly #boot: Random;
  readonly #members = new Map<NodeId, Member>();
  #isHealthy = false;

  constructor(options: MembersOptions) {
    this.#options = options;
    const { plan, queue } = options;
    this.#queue = queue;
    this.#disk = new Random(plan.seed, 'disk');
    this.#boot = new Random(plan.seed, 'boot');
    const ids = nodeIds(plan);
    const founding = ids.slice(0, plan.voterCount).map((id) => server(id, 'voter'));
    for (const [position, id] of ids.entries()) {
      const wasMember = position < plan.voterCount;
      this.#add(id, { servers: wasMember ? founding : [] }, wasMember);
    }
  }

  #add(
    id: NodeId,
    configuration: { servers: ReturnType<typeof server>[] },
    wasMember: boolean,
  ): void {
    const member: Member = {
      id,
      disks: new NodeDisks(configuration),
      jitter: new Random(this.#options.plan.seed, id),
      clock: new NodeClock(this.#queue, 0, (run) => run()),
      host: undefined,
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
    this.#queue.after(this.#boot.between(0, 20_000), () => this.start(member));
  }

  get ids(): NodeId[] {
    return [...this.#members.keys()];
  }

  all(): Iterable<Member> {
    return this.#members.values();
  }

  of(id: NodeId): Member {
    const member = this.#members.get(id);
    assert(member !== undefined, 'a message from or to nobody');
    return member;
  }

  running(): Member[] {
    return [...this.#members.values()].filter(({ process }) => process !== undefined);
  }

  /** Of several that believe to lead, the one of the latest term. */
  leader(): NodeProcess | undefined {
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

  /** Runs something on a node: not if it has died since, and later if it is paused. */
  schedule(member: Member, delayUs: number, run: () => void): void {
    const { incarnation } = member;
    this.#queue.after(delayUs, () => {
      if (member.incarnation === incarnation) this.onNode(member, run);
    });
  }

  onNode(member: Member, run: () => void): void {
    if (this.#queue.nowUs < member.pausedUntilUs) {
      member.backlog.push(run);
      return;
    }
    try {
      run();
    } catch (error) {
      this.#options.onFailure(error);
    }
  }

  start(member: Member): void {
    if (member.process !== undefined || member.isStarting || member.isLost) return;
    member.isStarting = true;
    member.incarnation += 1;
    member.pausedUntilUs = 0;
    member.backlog = [];
    const { incarnation } = member;
    const startMs = this.#boot.between(0, 1_000_000);
    member.clock = new NodeClock(this.#queue, startMs, (run) => {
      if (member.incarnation === incarnation) this.onNode(member, run);
    });
    member.clock.drift(member.driftPpm);
    void this.#open(member, incarnation);
  }

  /** Never rejects. */
  async #open(member: Member, incarnation: number): Promise<void> {
    const { plan, surround, onStarted } = this.#options;
    const isCurrent = (): boolean => member.incarnation === incarnation;
    const host: StreamHost = {
      id: member.id,
      run: (callback) => {
        if (isCurrent()) this.onNode(member, callback);
      },
      accept: (socket) => member.process?.peers.accept(socket),
    };
    const onFatal = (error: unknown): void => {
      if (isCurrent()) this.#onFatal(member, error);
    };
    try {
      const process = await NodeProcess.start(member.id, member.disks, {
        ...surround(member, host),
        ...{ plan, clock: member.clock, jitter: member.jitter, onFatal },
        device: {
          isCurrent,
          afterDiskDelay: (run) => this.#afterDisk(member, run),
          onPowerLoss: () => this.#powerLoss(member),
        },
      });
      if (!isCurrent()) return;
      member.process = process;
      member.host = host;
      member.isStarting = false;
      onStarted(process);
      process.run();
    } catch (error) {
      onFatal(error);
    }
  }

  #afterDisk(member: Member, run: () => void): void {
    const usMax = this.#isHealthy ? HEALTHY_DISK_US : this.#options.plan.diskUsMax;
    const delayUs = Math.floor(this.#disk.next() * usMax);
    const endUs = Math.max(this.#queue.nowUs + delayUs, member.diskFreeAtUs);
    member.diskFreeAtUs = endUs;
    this.schedule(member, endUs - this.#queue.nowUs, run);
  }

  /** A disk that fails ends a node, as it should; everything else that does is a finding. */
  #onFatal(member: Member, error: unknown): void {
    const { count, onFailure } = this.#options;
    if (isDamage(error) && member.disks.rottenPath !== undefined) {
      count('node refused to start on a damaged log');
      this.#kill(member, 'nothing', 0);
      member.isLost = true;
      return;
    }
    if (!isOfDisk(error)) {
      onFailure(error);
      return;
    }
    count('node ended by its disk');
    this.#kill(member, 'suffix', 0.5);
    this.#queue.after(REOPEN_US, () => this.start(member));
  }

  #powerLoss(member: Member): void {
    const action = member.pendingCrash;
    assert(action !== undefined, 'power was lost without a cause');
    this.crashNow(member, action);
  }

  crashNow(member: Member, action: Pick<ActionOf<'crash'>, 'loss' | 'draw' | 'downUs'>): void {
    member.pendingCrash = undefined;
    this.#options.count(`crash losing ${action.loss}`);
    this.#kill(member, action.loss, action.draw);
    this.#queue.after(action.downUs, () => this.start(member));
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
    member.disks.snapshots.crash(loss, () => draws.next());
    const { host } = member;
    member.host = undefined;
    if (host !== undefined) this.#options.onEnded(host);
    for (const run of member.onDeath.splice(0)) run();
  }

  /** At once, or in the middle of what its log does next; at once, too, if it does nothing soon. */
  crash(member: Member, action: ActionOf<'crash'>): void {
    if (member.process === undefined || member.pendingCrash !== undefined) return;
    if (action.afterOperations > 8) return this.crashNow(member, action);
    member.pendingCrash = action;
    member.disks.log.crashAfter(action.afterOperations);
    this.schedule(member, 200_000, () => {
      if (member.pendingCrash === action) this.crashNow(member, action);
    });
  }

  /** Whatever is asked of the disks waits so long. */
  stallDisk(member: Member, forUs: number): void {
    member.diskFreeAtUs = Math.max(member.diskFreeAtUs, this.#queue.nowUs + Math.floor(forUs));
  }

  /** Of the disk for snapshots: the node lives on. */
  failSnapshots({ disks }: Member, fault: ActionOf<'transferFault'>['fault']): void {
    disks.snapshots.failNext(fault);
    this.#queue.after(FULL_DISK_US, () => disks.snapshots.failNext(undefined));
  }

  /** Rot takes a node out for good, so that there is one at most, and enough others. */
  diskFault({ disks }: Member, { fault, draw }: ActionOf<'diskFault'>): void {
    if (fault !== 'rot') return disks.log.failNext(fault);
    const { nemesis, voterCount } = this.#options.plan;
    const isBearable = voterCount >= 3 && nemesis.every(({ kind }) => kind !== 'configure');
    const others = [...this.#members.values()];
    if (!isBearable || others.some((each) => each.disks.rottenPath !== undefined)) return;
    const draws = new Random(Math.floor(draw * 2 ** 31), 'rot');
    disks.rottenPath = disks.log.rot(() => draws.next());
    if (disks.rottenPath !== undefined) this.#options.count('disk: rot in a closed segment');
  }

  pause(member: Member, { forUs, clockRuns }: ActionOf<'pause'>): void {
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
    const { process } = member;
    if (hasSlept && process !== undefined) this.#options.onWoken(process);
    for (const run of member.backlog.splice(0)) this.onNode(member, run);
  }

  heal(): void {
    this.#isHealthy = true;
    for (const member of this.#members.values()) {
      member.pausedUntilUs = 0;
      member.diskFreeAtUs = this.#queue.nowUs;
      member.disks.log.failNext(undefined);
      member.disks.snapshots.failNext(undefined);
      if (member.pendingCrash !== undefined) this.crashNow(member, member.pendingCrash);
      // Damage is found when a log is opened, so this one is.
      if (member.disks.rottenPath !== undefined) this.#kill(member, 'nothing', 0);
      this.#resume(member);
      this.start(member);
    }
  }
}
