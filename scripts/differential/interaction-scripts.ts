/**
 * etcd-io/raft's interaction scripts, `testdata`, played to both sides in lockstep. What they print is
 * the library's own log; compared with it is where each node ends: its term, and the
 * configuration that it was last told to switch to.
 *
 * The scripts begin with a snapshot at an index of their own and without pre-vote and check-quorum.
 * So indexes are counted from there, and a campaign is preceded by silence.
 */

import { join } from 'node:path';

import type { Transition } from '../../server/raft/configuration.ts';
import { Disagreement } from './agreement.ts';
import { changesOf } from './changes.ts';
import { formatVoterSets, targetOf } from './confchange-scripts.ts';
import { readCases, type Case, type Tally } from './datadriven.ts';
import { Lockstep } from './lockstep.ts';
import type { Oracle } from './oracle.ts';
import type { Scenario } from './step.ts';

const ELECTION_TICKS = 3;
const DELIVERIES_MAX = 1_000;

export async function runInteractionScripts(
  raftDirectory: string,
  oracle: Oracle,
  carried: Scenario['carried'],
): Promise<Tally> {
  const { files, cases } = readCases(join(raftDirectory, 'testdata'));
  const tally: Tally = { files, equal: 0, meant: [], wrong: [] };
  for (const name of new Set(cases.map(({ place }) => fileOf(place)))) {
    const script = cases.filter(({ place }) => fileOf(place) === name);
    try {
      await play(script, oracle, carried, tally);
    } catch (error) {
      tally.wrong.push(`${name}: ${String(error)}`);
    }
  }
  return tally;
}

function fileOf(place: string): string {
  return place.split(':')[0] ?? '';
}

async function play(
  script: readonly Case[],
  oracle: Oracle,
  carried: Scenario['carried'],
  tally: Tally,
): Promise<void> {
  const { scenario, firstIndex } = begin(script, carried);
  const lockstep = new Lockstep(scenario, oracle);
  await lockstep.begin();
  for (const each of script) await run(lockstep, each, firstIndex);
  await deliver(lockstep, [...lockstep.ours.nodes.keys()]);
  for (const [number, expected] of endOf(script)) {
    const { term, configuration } = lockstep.ours.status(number);
    const end = `term ${term}, ${formatVoterSets(configuration)}`;
    if (end === expected) {
      tally.equal += 1;
    } else if (carried === 'ours' && expected.endsWith(' autoleave')) {
      tally.meant.push(`${script[0]?.place}: what leaves a joint configuration is sent at once`);
    } else {
      throw new Disagreement(`node ${number} ends in ${end}, not ${expected}`);
    }
  }
}

/** All nodes that the script ever adds are there from the beginning; nobody speaks to them before. */
function begin(
  script: readonly Case[],
  carried: Scenario['carried'],
): { readonly scenario: Scenario; readonly firstIndex: number } {
  const additions = script.filter(({ command }) => command === 'add-nodes');
  const [first] = additions;
  const list = (name: string): number => first?.arguments.get(name)?.length ?? 0;
  const nodes = script.flatMap(({ input }) =>
    [...input.matchAll(/[vlr](\d+)/g)].map(([, id]) => Number(id)),
  );
  const [voterCount, learnerCount] = [list('voters'), list('learners')];
  const size = Math.max(voterCount + learnerCount, ...nodes);
  return {
    firstIndex: Number(first?.arguments.get('index')?.[0]),
    scenario: {
      seed: 0,
      voterCount,
      learnerCount,
      spareCount: size - voterCount - learnerCount,
      electionTicks: ELECTION_TICKS,
      timeoutTicks: 2 * ELECTION_TICKS - 1,
      heartbeatTicks: 1,
      appendBytesMax: 1_000_000,
      inflightAppendsMax: 1_000,
      carried,
      isOrdered: true,
      steps: [],
    },
  };
}

async function run(lockstep: Lockstep, each: Case, firstIndex: number): Promise<void> {
  const { command } = each;
  const words = [...each.arguments.keys()].filter((word) => /^\w+$/.test(word));
  const numbers = words.filter((word) => /^\d+$/.test(word)).map(Number);
  const [number = 0, index = 0] = numbers;
  switch (command) {
    case 'add-nodes':
    case 'log-level':
    case 'process-ready':
    case 'status':
      return;
    case 'campaign':
      return await campaign(lockstep, number);
    case 'stabilize':
      return await deliver(
        lockstep,
        numbers.length > 0 ? numbers : [...lockstep.ours.nodes.keys()],
      );
    case 'deliver-msgs': {
      await deliver(lockstep, numbers);
      const dropped = new Set((each.arguments.get('drop') ?? []).map(Number));
      lockstep.inFlight = lockstep.inFlight.filter(({ wire }) => !dropped.has(wire.to));
      return;
    }
    case 'tick-heartbeat':
      return await lockstep.tick(number);
    case 'compact':
      await lockstep.both(number, { op: 'compact', index: index - firstIndex }, (node) =>
        node.compact(index - firstIndex),
      );
      return;
    case 'propose': {
      const text = words.at(-1) ?? '';
      await lockstep.both(number, { op: 'propose', text }, (node) => {
        return node.raft.propose([new TextEncoder().encode(text)]).kind === 'accepted';
      });
      return;
    }
    case 'propose-conf-change':
      return await configure(lockstep, each, number);
    default:
      throw new Disagreement(`${each.place}: there is no ${command} here`);
  }
}

async function campaign(lockstep: Lockstep, number: number): Promise<void> {
  for (const other of lockstep.ours.nodes.keys()) {
    if (other === number || lockstep.ours.status(other).role === 'leader') continue;
    for (let turn = 0; turn < ELECTION_TICKS; turn += 1) await lockstep.tick(other);
  }
  await lockstep.both(number, { op: 'campaign' }, (node) => node.raft.campaign());
}

async function deliver(lockstep: Lockstep, numbers: readonly number[]): Promise<void> {
  for (let turn = 0; turn < DELIVERIES_MAX; turn += 1) {
    const at = lockstep.inFlight.findIndex(({ wire }) => numbers.includes(wire.to));
    const [packet] = at < 0 ? [] : lockstep.inFlight.splice(at, 1);
    if (packet === undefined) return;
    await lockstep.deliver(packet);
  }
  throw new Disagreement('the cluster does not come to rest');
}

/** What ours refuses, etcd replaces by an empty entry: nothing of the configuration comes of it. */
async function configure(lockstep: Lockstep, each: Case, number: number): Promise<void> {
  const current = lockstep.ours.raftStatus(number).configuration;
  const target = targetOf(each, current);
  const named = each.arguments.get('transition')?.[0] ?? 'auto';
  const transition = named as Transition;
  const isLeaving = each.input === '';
  const request = isLeaving
    ? { op: 'configure', changes: '', transition: 'auto' }
    : { op: 'configure', changes: changesOf(current, target), transition };
  await lockstep.both(number, request, (node) => {
    return node.raft.proposeConfiguration(target, transition).kind === 'accepted';
  });
}

/** By node, as the script prints it last. */
function endOf(script: readonly Case[]): Map<number, string> {
  const configurations = new Map<number, string>();
  const terms = new Map<number, string>();
  let handling = 0;
  for (const { command, arguments: named, expected } of script) {
    if (command === 'process-ready') handling = Number([...named.keys()][0]);
    for (const line of expected) {
      const [, node] = /^> (\d+) /.exec(line) ?? [];
      if (node !== undefined) handling = Number(node);
      const [, term] = /HardState Term:(\d+)/.exec(line) ?? [];
      if (term !== undefined) terms.set(handling, term);
      const [, who, what] = /INFO (\d+) switched to configuration (.+)$/.exec(line) ?? [];
      if (who !== undefined && what !== undefined) configurations.set(Number(who), what);
    }
  }
  return new Map(
    [...configurations]
      .filter(([number]) => terms.has(number))
      .map(([number, what]) => [number, `term ${terms.get(number)}, ${what}`]),
  );
}
