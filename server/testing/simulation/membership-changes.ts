/** Membership as the nemesis changes it. */

import type { Configuration, NodeId, Server } from '../../raft/message.ts';
import type { ActionOf } from './inflict.ts';

export function server(id: NodeId, suffrage: Server['suffrage']): Server {
  return { id, address: addressOf(id), suffrage };
}

export function addressOf(id: NodeId): string {
  return `${id}:8201`;
}

/** The servers that are wanted next. One that was removed is never added again: its id is spent. */
export function wantedServers(
  configuration: Configuration,
  changes: ActionOf<'configure'>['changes'],
  world: {
    idOf(target: ActionOf<'configure'>['changes'][number]['target']): NodeId;
    wasMember(id: NodeId): boolean;
  },
): Server[] {
  let servers = configuration.servers.filter((entry) => entry.suffrage !== 'leaving');
  for (const { target, suffrage } of changes) {
    const id = world.idOf({ ...target, role: 'any' });
    const isMember = servers.some((entry) => entry.id === id);
    if (!isMember && world.wasMember(id)) continue;
    const others = servers.filter((entry) => entry.id !== id);
    servers = suffrage === 'removed' ? others : [...others, server(id, suffrage)];
  }
  return servers;
}
