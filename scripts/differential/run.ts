/** Runs a scenario, step by step: what each step draws, and what it does to both sides. */

import { planChange, type Transition } from '../../server/raft/configuration.ts';
import type { Configuration } from '../../server/raft/message.ts';
import type { Random } from '../../server/testing/random.ts';
import { Random as Stream } from '../../server/testing/random.ts';
import { Disagreement, mayLead, Parting } from './agreement.ts';
import { changesOf } from './changes.ts';
import {
  isChanging,
  isHandingOver,
  mustTakeCommands,
  mustTakeConfigurations,
  willLeaveJoint,
} from './guards.ts';
import { Lockstep } from './lockstep.ts';
import { idOf, serverOf } from './message.ts';
import type { Oracle } from './oracle.ts';
import type { Packet } from './packet.ts';
import type { Scenario, Step } from './step.ts';

const DELIVERIES_MAX = 6;
const SETTLE_DELIVERIES_MAX = 40;

/** Throws a `Disagreement`, with the step in its message. Ends early where the two part on purpose. */
export async function runScenario(
  scenario: Scenario,
  oracle: Oracle,
  trace?: (line: string) => void,
): Promise<Lockstep> {
  const lockstep = new Lockstep(scenario, oracle, trace);
  await lockstep.begin();
  for (const [position, step] of scenario.steps.entries()) {
    try {
      await runStep(lockstep, step, position);
    } catch (error) {
      if (error instanceof Parting) return lockstep;
      if (error instanceof Disagreement) error.message += `, at step ${position} (${step.kind})`;
      throw error;
    }
  }
  return lockstep;
}

async function runStep(lockstep: Lockstep, step: Step, position: number): Promise<void> {
  const random = new Stream(step.seed, step.kind);
  const { ours, inFlight, scenario } = lockstep;
  const anyone = random.pick([...ours.nodes.keys()]);
  const leaders = lockstep.leaders();
  const leader = leaders.length > 0 ? random.pick(leaders) : anyone;
  switch (step.kind) {
    case 'deliver':
      return await deliver(lockstep, random, random.between(1, DELIVERIES_MAX));
    case 'settle':
      return await settle(lockstep);
    case 'silence':
      return await silence(lockstep, random);
    case 'cut':
      return await cut(lockstep, leader, random);
    case 'tick':
      return await tick(lockstep, random.chance(0.6) ? leader : anyone, random);
    case 'propose':
      for (let count = random.between(1, 3); count > 0; count -= 1) {
        await propose(lockstep, leader, `p${position}.${count}`);
      }
      return;
    case 'campaign':
      return await campaign(lockstep, anyone);
    case 'read':
      return await read(lockstep, random.chance(0.5) ? leader : anyone, position);
    case 'configure':
      return await configure(lockstep, leader, random);
    case 'compact':
      return await compact(lockstep, random.chance(0.6) ? leader : anyone, random);
    case 'restart':
      return await restart(lockstep, anyone);
    case 'transfer':
      return await transfer(lockstep, leader, anyone);
    case 'drop':
      return await drop(lockstep, random);
    case 'duplicate': {
      if (inFlight.length === 0) return;
      const packet = random.pick(inFlight);
      // A question that comes twice is asked twice: its answers cannot be told apart.
      if (!scenario.isOrdered && packet.wire.kind !== 'readIndex') inFlight.push(packet);
      return;
    }
    case 'unreachable':
      await lockstep.both(leader, { op: 'unreachable', peer: anyone }, (node) =>
        node.raft.reportUnreachable(idOf(anyone)),
      );
      return;
  }
}

async function deliver(lockstep: Lockstep, random: Random, count: number): Promise<void> {
  for (let turn = 0; turn < count; turn += 1) {
    const open = lockstep.inFlight.filter((each) => !lockstep.isCut(each));
    if (open.length === 0) return;
    const picked = random.pick(open);
    const isOnTheWay = ({ wire }: typeof picked): boolean =>
      wire.from === picked.wire.from && wire.to === picked.wire.to;
    const isOrdered = lockstep.scenario.isOrdered;
    await take(lockstep, isOrdered ? (open.find(isOnTheWay) ?? picked) : picked);
  }
}

async function take(lockstep: Lockstep, packet: Packet): Promise<void> {
  lockstep.inFlight.splice(lockstep.inFlight.indexOf(packet), 1);
  await lockstep.deliver(packet);
}

/** Everything that is not cut off, in the order in which it was sent. */
async function settle(lockstep: Lockstep): Promise<void> {
  for (let turn = 0; turn < SETTLE_DELIVERIES_MAX; turn += 1) {
    const packet = lockstep.inFlight.find((each) => !lockstep.isCut(each));
    if (packet === undefined) return;
    await take(lockstep, packet);
  }
}

/** One side, or everyone, hears nothing for an election timeout; then someone there may stand. */
async function silence(lockstep: Lockstep, random: Random): Promise<void> {
  const isAmongCut = random.chance(0.4);
  const side = [...lockstep.ours.nodes.keys()].filter(
    (number) => lockstep.cut.size === 0 || lockstep.cut.has(number) === isAmongCut,
  );
  for (const number of side) {
    if (lockstep.ours.raftStatus(number).role === 'leader' && random.chance(0.8)) continue;
    const count = lockstep.scenario.electionTicks + random.between(-1, 1);
    for (let turn = 0; turn < count; turn += 1) await lockstep.tick(number);
  }
  if (side.length === 0 || random.chance(0.2)) return;
  await campaign(lockstep, random.pick(side));
  await settle(lockstep);
}

async function campaign(lockstep: Lockstep, number: number): Promise<void> {
  await lockstep.both(number, { op: 'campaign' }, (node) => node.raft.campaign());
}

/** A leader that is cut off, and does not know, is given something to lose. */
async function cut(lockstep: Lockstep, leader: number, random: Random): Promise<void> {
  if (lockstep.cut.size > 0 && random.chance(0.6)) {
    lockstep.cut = new Set();
    return;
  }
  const isLeaderAlone = random.chance(0.5);
  const numbers = [...lockstep.ours.nodes.keys()];
  lockstep.cut = new Set(isLeaderAlone ? [leader] : numbers.filter(() => random.chance(0.4)));
  for (let count = random.between(0, 3); count > 0; count -= 1) {
    await propose(lockstep, leader, `c${count}`);
  }
}

async function tick(lockstep: Lockstep, number: number, random: Random): Promise<void> {
  const { electionTicks } = lockstep.scenario;
  const count = random.chance(0.3) ? random.between(1, electionTicks) : 1;
  for (let turn = 0; turn < count; turn += 1) await lockstep.tick(number);
}

async function propose(lockstep: Lockstep, number: number, text: string): Promise<void> {
  if (isHandingOver(lockstep, number)) return lockstep.count('proposal during a transfer');
  if (willLeaveJoint(lockstep, number))
    return lockstep.count('proposal beside a joint configuration');
  const isTaken = await lockstep.both(number, { op: 'propose', text }, (node) => {
    return node.raft.propose([new TextEncoder().encode(text)]).kind === 'accepted';
  });
  if (!isTaken && mustTakeCommands(lockstep, number)) {
    throw new Disagreement(`only our node ${number} refuses a proposal`);
  }
}

async function read(lockstep: Lockstep, number: number, id: number): Promise<void> {
  lockstep.expectRead(id);
  await lockstep.both(number, { op: 'read', text: String(id) }, (node) => node.raft.readIndex(id));
}

async function configure(lockstep: Lockstep, number: number, random: Random): Promise<void> {
  const current = lockstep.ours.raftStatus(number).configuration;
  const target = draw(current, lockstep.ours.nodes.size, random);
  const changes = changesOf(current, target);
  const count = changes === '' ? 0 : changes.split(' ').length;
  let transition: Transition = random.pick(['auto', 'auto', 'implicit', 'explicit']);
  const plan = planChange(current, { target, transition });
  // One change at a time is all that etcd knows a direct way for.
  const isDirect = plan.kind === 'next' && plan.next.joint === undefined;
  if (isDirect && current.joint === undefined && count > 1) transition = 'implicit';
  const request =
    current.joint === undefined ? { changes, transition } : { changes: '', transition: 'auto' };
  const isDone = await lockstep.both(number, { op: 'configure', ...request }, (node) => {
    return node.raft.proposeConfiguration(target, transition).kind === 'accepted';
  });
  if (isDone) return lockstep.cover('configurations proposed');
  if (plan.kind === 'refused') return;
  if (mustTakeConfigurations(lockstep, number)) {
    throw new Disagreement(`only our node ${number} refuses a configuration`);
  }
  lockstep.count('configuration that must wait');
}

/** Some other configuration; of a joint one, its end. */
function draw(current: Configuration, size: number, random: Random): Configuration {
  if (current.joint !== undefined) {
    return { servers: current.servers.filter(({ suffrage }) => suffrage !== 'leaving') };
  }
  const servers = new Map(current.servers.map((server) => [server.id, server]));
  for (let count = random.between(1, 3); count > 0; count -= 1) {
    const number = random.between(1, size);
    const id = idOf(number);
    const suffrage = random.pick(['voter', 'voter', 'learner', 'none'] as const);
    if (suffrage === 'none') servers.delete(id);
    else servers.set(id, serverOf(number, suffrage));
  }
  return { servers: [...servers.values()] };
}

async function compact(lockstep: Lockstep, number: number, random: Random): Promise<void> {
  const { firstIndex, appliedIndex } = lockstep.ours.raftStatus(number);
  if (appliedIndex < firstIndex) return;
  const index = random.between(firstIndex, appliedIndex);
  await lockstep.both(number, { op: 'compact', index }, (node) => node.compact(index));
}

async function restart(lockstep: Lockstep, number: number): Promise<void> {
  await lockstep.both(number, { op: 'restart' }, (node) => {
    node.crash(1);
    node.start();
  });
  lockstep.cover('restarts');
}

async function transfer(lockstep: Lockstep, number: number, to: number): Promise<void> {
  if (!(await lockstep.tickToQuorumCheck(number))) return;
  if (isChanging(lockstep, number)) return lockstep.count('proposal beside a joint configuration');
  const isDone = await lockstep.both(number, { op: 'transfer', peer: to }, (node) =>
    node.raft.transferLeadership(idOf(to)),
  );
  if (isDone) return lockstep.cover('transfers');
  const { configuration } = lockstep.theirStatus(number);
  if (to !== number && mustTakeCommands(lockstep, number) && mayLead(configuration, to)) {
    throw new Disagreement(`only our node ${number} refuses a transfer`);
  }
}

async function drop(lockstep: Lockstep, random: Random): Promise<void> {
  const count = random.chance(0.2) ? lockstep.inFlight.length : random.between(1, 4);
  for (let turn = 0; turn < count && lockstep.inFlight.length > 0; turn += 1) {
    const { wire } = random.pick(lockstep.inFlight);
    lockstep.inFlight = lockstep.inFlight.filter((packet) => packet.wire !== wire);
    if (wire.kind === 'installSnapshot') await lockstep.endSnapshot(wire.from, wire.to, false);
  }
}
