/** etcd-io/raft's tables of quorums, `quorum/testdata`, put to `server/raft/quorum.ts`. */

import { join } from 'node:path';

import { Quorum } from '../../server/raft/quorum.ts';
import { readCases, type Case, type Tally } from './datadriven.ts';
import { idOf } from './message.ts';

const RESULTS = { won: 'VoteWon', lost: 'VoteLost', pending: 'VotePending' } as const;

export function runQuorumScripts(raftDirectory: string): Tally {
  const { files, cases } = readCases(join(raftDirectory, 'quorum/testdata'));
  const tally: Tally = { files, equal: 0, meant: [], wrong: [] };
  for (const each of cases) {
    const [voters, outgoing] = [votersOf(each, 'cfg'), votersOf(each, 'cfgj')];
    if (voters.length === 0) {
      tally.meant.push(`${each.place}: nobody decides for a configuration without voters`);
      continue;
    }
    const result = decide(each, voters, outgoing);
    // Above the last line is a drawing of the same.
    const expected = each.expected.at(-1);
    if (result === expected) tally.equal += 1;
    else tally.wrong.push(`${each.place}: ours ${result}, etcd's ${expected}`);
  }
  return tally;
}

function votersOf(each: Case, name: string): string[] {
  const ids = each.arguments.get(name) ?? [];
  return ids[0] === 'zero' ? [] : ids.map((id) => idOf(Number(id)));
}

function decide(each: Case, voters: readonly string[], outgoing: readonly string[]): string {
  const incoming = voters.map((id) => ({ id, address: '', suffrage: 'voter' as const }));
  const leaving = outgoing
    .filter((id) => !voters.includes(id))
    .map((id) => ({ id, address: '', suffrage: 'leaving' as const }));
  const servers = [...incoming, ...leaving];
  const joint = { votersOutgoing: outgoing, autoLeave: false };
  const quorum = new Quorum(outgoing.length === 0 ? { servers } : { servers, joint });
  const values = each.arguments.get(each.command === 'vote' ? 'votes' : 'idx') ?? [];
  const known = [...new Set([...voters, ...outgoing])]
    .map((id, position): [string, string] => [id, values[position] ?? '_'])
    .filter(([, value]) => value !== '_');
  if (each.command === 'vote') {
    return RESULTS[quorum.tally(new Map(known.map(([id, value]) => [id, value === 'y'])))];
  }
  const indexes = new Map(known.map(([id, value]) => [id, Number(value)]));
  return String(quorum.index((id) => indexes.get(id) ?? 0));
}
