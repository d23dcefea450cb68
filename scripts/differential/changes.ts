/** From one of our configurations to another, in etcd's words: `v1` voter, `l1` learner, `r1` gone. */

import type { Configuration } from '../../server/raft/message.ts';
import { numberOf } from './message.ts';

export function changesOf(current: Configuration, target: Configuration): string {
  const before = new Map(current.servers.map(({ id, suffrage }) => [id, suffrage]));
  const after = new Map(target.servers.map(({ id, suffrage }) => [id, suffrage]));
  const words = [...new Set([...before.keys(), ...after.keys()])].flatMap((id) => {
    const suffrage = after.get(id);
    if (before.get(id) === suffrage) return [];
    const letter = suffrage === undefined ? 'r' : suffrage === 'voter' ? 'v' : 'l';
    return [`${letter}${numberOf(id)}`];
  });
  return words.join(' ');
}
