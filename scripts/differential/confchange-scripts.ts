/**
 * etcd-io/raft's tables of configuration changes, `confchange/testdata`, put to
 * `server/raft/configuration.ts`. A change is a list of steps there and a whole configuration here.
 * Each case begins with the configuration that the one before it is expected to leave behind.
 * Compared are the sets of voters and learners, and who is sent the log; not `next=`, where sending begins.
 */

import { join } from 'node:path';

import { leaveJoint, planChange, type ChangePlan } from '../../server/raft/configuration.ts';
import type { Configuration } from '../../server/raft/message.ts';
import { readCases, type Case, type Tally } from './datadriven.ts';
import { idOf, numberOf, serverOf } from './message.ts';
import type { VoterSets } from './oracle.ts';
import { voterSetsOf } from './our-side.ts';

const NOTHING_CHANGES = 'nothing would change';

/** Their words for a refusal, by ours. */
const REASONS: Readonly<Record<string, string>> = {
  'no voter would be left': 'removed all voters',
  'the joint configuration must be left first': 'config is already joint',
};

export function runConfchangeScripts(raftDirectory: string): Tally {
  const { files, cases } = readCases(join(raftDirectory, 'confchange/testdata'));
  const tally: Tally = { files, equal: 0, meant: [], wrong: [] };
  let file = '';
  let current: Configuration = { servers: [] };
  for (const each of cases) {
    const [name = ''] = each.place.split(':');
    if (name !== file) current = { servers: [] };
    file = name;
    judge(each, current, tally);
    current = expectedConfiguration(each, current);
  }
  return tally;
}

function judge(each: Case, current: Configuration, tally: Tally): void {
  const expected = each.expected.map((line) => line.replace(/: StateProbe match=\d+ next=\d+/, ''));
  const plan = planOf(each, current);
  const output = describe(each, current, plan);
  if (JSON.stringify(output) === JSON.stringify(expected)) {
    tally.equal += 1;
  } else if (each.command === 'enter-joint' && isRefused(plan, NOTHING_CHANGES)) {
    tally.meant.push(`${each.place}: ours enters no joint configuration for nothing`);
  } else if (each.command === 'enter-joint' && current.servers.length === 0) {
    tally.meant.push(`${each.place}: nobody proposes to a cluster without voters`);
  } else if (current.joint !== undefined && each.input === '' && plan.kind === 'next') {
    tally.meant.push(`${each.place}: to propose the incoming half is to leave`);
  } else {
    tally.wrong.push(`${each.place}: ours ${output.join(' | ')}, etcd's ${expected.join(' | ')}`);
  }
}

function planOf(each: Case, current: Configuration): ChangePlan {
  if (each.command === 'leave-joint') {
    const target = current.joint === undefined ? current : leaveJoint(current);
    return planChange(current, { target, transition: 'auto' });
  }
  const isAuto = each.arguments.get('autoleave')?.[0] === 'true';
  const joint = isAuto ? ('implicit' as const) : ('explicit' as const);
  const transition = each.command === 'simple' ? 'auto' : joint;
  return planChange(current, { target: targetOf(each, current), transition });
}

/** `v1` makes a voter, `l1` a learner, `r1` removes, `u1` says something else. */
export function targetOf({ input }: Case, { servers: before }: Configuration): Configuration {
  const staying = before.filter(({ suffrage }) => suffrage !== 'leaving');
  const servers = new Map(staying.map((each) => [each.id, each]));
  for (const word of input.split(/\s+/).filter((each) => each !== '')) {
    const number = Number(word.slice(1));
    const id = idOf(number);
    if (number === 0 || word.startsWith('u')) continue;
    if (word.startsWith('r')) servers.delete(id);
    else servers.set(id, serverOf(number, word.startsWith('v') ? 'voter' : 'learner'));
  }
  return { servers: [...servers.values()] };
}

function describe(each: Case, current: Configuration, plan: ChangePlan): string[] {
  if (plan.kind === 'next') {
    const isJointWay = each.command === 'simple' && plan.next.joint !== undefined;
    if (!isJointWay) return formatConfiguration(plan.next);
    return ['more than one voter changed without entering joint config'];
  }
  const { command } = each;
  if (command === 'leave-joint' && current.joint === undefined)
    return ["can't leave a non-joint config"];
  if (plan.reason === NOTHING_CHANGES && command === 'simple') return formatConfiguration(current);
  if (current.joint !== undefined && command === 'simple') {
    return ["can't apply simple config change in joint config"];
  }
  return [REASONS[plan.reason] ?? plan.reason];
}

function isRefused(plan: ChangePlan, reason: string): boolean {
  return plan.kind === 'refused' && plan.reason === reason;
}

/** As etcd prints it, and who is sent the log. */
function formatConfiguration(configuration: Configuration): string[] {
  const sets = voterSetsOf(configuration);
  const rows = configuration.servers
    .map(({ id }) => numberOf(id))
    .toSorted((left, right) => left - right)
    .map((number) => `${number}${sets.learners.includes(number) ? ' learner' : ''}`);
  return [formatVoterSets(sets), ...rows];
}

export function formatVoterSets(sets: VoterSets): string {
  const list = (ids: readonly number[]): string => `(${ids.join(' ')})`;
  const outgoing = sets.votersOutgoing.length > 0 ? `&&${list(sets.votersOutgoing)}` : '';
  const learners = sets.learners.length > 0 ? ` learners=${list(sets.learners)}` : '';
  const next = sets.learnersNext.length > 0 ? ` learners_next=${list(sets.learnersNext)}` : '';
  const auto = sets.autoLeave ? ' autoleave' : '';
  return `voters=${list(sets.voters)}${outgoing}${learners}${next}${auto}`;
}

/** Reads what etcd is to print; a refusal leaves things as they are. */
function expectedConfiguration({ expected }: Case, current: Configuration): Configuration {
  const [line = ''] = expected;
  const match = /^voters=\(([\d ]*)\)(?:&&\(([\d ]+)\))?/.exec(line);
  if (match === null) return current;
  const ids = (text = ''): number[] =>
    text
      .split(' ')
      .filter((each) => each !== '')
      .map(Number);
  const named = (name: string): number[] =>
    ids(new RegExp(` ${name}=\\(([\\d ]+)\\)`).exec(line)?.[1]);
  const [voters, outgoing] = [ids(match[1]), ids(match[2])];
  const learners = [...named('learners'), ...named('learners_next')];
  const leaving = outgoing.filter((id) => !voters.includes(id) && !learners.includes(id));
  const servers = [
    ...voters.map((id) => serverOf(id, 'voter')),
    ...learners.map((id) => serverOf(id, 'learner')),
    ...leaving.map((id) => serverOf(id, 'leaving')),
  ];
  if (outgoing.length === 0) return { servers };
  const autoLeave = line.endsWith(' autoleave');
  return { servers, joint: { votersOutgoing: outgoing.map(idOf), autoLeave } };
}
