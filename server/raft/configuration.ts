/**
 * Who takes part: the encoding of a configuration entry, and the way from one configuration to
 * another.
 *
 * An entry holds the whole configuration, not a difference, so that a server that joins with an
 * empty configuration learns everything from the last entry it applies. When at most one voter
 * comes or goes, the next configuration follows at once: every majority of the one overlaps every
 * majority of the other (thesis §4.1). Otherwise a joint one lies between, in which a decision
 * needs a majority of each half (thesis §4.3). Learners count for nothing and come and go freely.
 *
 * A configuration takes effect when it is applied, not when it is appended as in Raft §6. Let K0,
 * K1, K2... be the configurations in the order of the log. These rules make it safe:
 *
 * 1. *Neighbours overlap*: each quorum of K(i) shares a voter with each quorum of K(i+1). Above.
 * 2. *One at a time*: K(i+1) is appended only by a leader that has applied K(i), and an entry of
 *    its own term (`Replication`). So K(i) is committed before K(i+1) is in any log, and K(i+1) is
 *    committed by a quorum of K(i).
 * 3. *Nobody campaigns with a committed configuration yet to be applied* (`Election`).
 *
 * By rule 2 a log proves all its configurations but the last to be committed, and the append that
 * brought the last one said so. So by rule 3 a candidate that counts on quorums of K(i) has no
 * K(i+2) in its log. If a leader of another term
 * counts on K(i+2) or later, K(i+2) was committed by a quorum of K(i+1), which shares a voter with
 * the candidate's quorum (rule 1). If that voter held K(i+2) when it was asked for its vote, it
 * refused (Raft §5.4.1). If it voted first, it had left the term in which K(i+2) could have been
 * committed with its help. Either way the two cannot both be; with less than two steps between
 * them, they overlap by rule 1. The same voter decides for a deposed leader that still counts
 * acknowledgements with K(i). What is left is the paper's own proof (Raft §5.4.3).
 *
 * A restart forgets how far the log was committed, and would break rule 3: the configurations
 * between the applied one and the last of the log would look like proposals that may yet vanish.
 * What a log proves, it proves after a restart too: `Log` begins with all configurations but the
 * last one committed, and they are applied before the server may stand.
 *
 * All of this speaks of servers that keep what they promised, so a name with another disk behind it
 * is another server: the old one goes before the new one comes (`refuseSwap`), and no message of the
 * one is ever counted as the other's (`server/replica/callers.ts`).
 */

import assert from 'node:assert/strict';

import type { Configuration, NodeId, Server } from './message.ts';
import { Quorum } from './quorum.ts';

/**
 * `auto` takes the direct way where it is allowed, and else the joint one; `implicit` always takes
 * the joint one. Both leave it without being asked; after `explicit` leaving it must be proposed.
 */
export type Transition = 'auto' | 'implicit' | 'explicit';

export type ChangePlan =
  | { readonly kind: 'next'; readonly next: Configuration }
  | { readonly kind: 'refused'; readonly reason: string };

/** Says which configuration is to follow `current` so that `target` is reached, or why none may. */
export function planChange(
  current: Configuration,
  { target, transition }: { readonly target: Configuration; readonly transition: Transition },
): ChangePlan {
  const reason = refuseTarget(target);
  if (reason !== undefined) return { kind: 'refused', reason };
  if (current.joint !== undefined) {
    const next = leaveJoint(current);
    if (changedServers(next, target).length === 0) return { kind: 'next', next };
    return { kind: 'refused', reason: 'the joint configuration must be left first' };
  }
  if (changedServers(current, target).length === 0) {
    return { kind: 'refused', reason: 'nothing would change' };
  }
  const swap = refuseSwap(current, target);
  if (swap !== undefined) return { kind: 'refused', reason: swap };
  const isDirect = transition === 'auto' && changedVoterCount(current, target) <= 1;
  if (isDirect) return { kind: 'next', next: target };
  return {
    kind: 'next',
    next: enterJoint(current, { target, autoLeave: transition !== 'explicit' }),
  };
}

function refuseTarget({ servers, joint }: Configuration): string | undefined {
  const ids = new Set(servers.map(({ id }) => id));
  if (ids.size !== servers.length) return 'a server is listed twice';
  if (ids.has('')) return 'a server has no id';
  if (joint !== undefined || servers.some(({ suffrage }) => suffrage === 'leaving')) {
    return 'a joint configuration cannot be a target';
  }
  if (servers.every(({ suffrage }) => suffrage !== 'voter')) return 'no voter would be left';
  return undefined;
}

function refuseSwap(current: Configuration, target: Configuration): string | undefined {
  const instances = new Map(current.servers.map(({ id, instance }) => [id, instance]));
  const swapped = target.servers.find(({ id, instance }) => {
    const old = instances.get(id);
    return old !== undefined && old !== instance;
  });
  return swapped && `server ${swapped.id} must be removed before it comes with another disk`;
}

function changedServers(left: Configuration, right: Configuration): NodeId[] {
  const before = new Map(left.servers.map((server) => [server.id, server]));
  const after = new Map(right.servers.map((server) => [server.id, server]));
  return [...new Set([...before.keys(), ...after.keys()])].filter((id) => {
    const [old, young] = [before.get(id), after.get(id)];
    return (
      old?.address !== young?.address ||
      old?.suffrage !== young?.suffrage ||
      old?.instance !== young?.instance
    );
  });
}

function changedVoterCount(left: Configuration, right: Configuration): number {
  const before = new Set(new Quorum(left).voters);
  const after = new Set(new Quorum(right).voters);
  return [...new Set([...before, ...after])].filter((id) => before.has(id) !== after.has(id))
    .length;
}

function enterJoint(
  current: Configuration,
  { target, autoLeave }: { readonly target: Configuration; readonly autoLeave: boolean },
): Configuration {
  const votersOutgoing = new Quorum(current).voters;
  const staying = new Set(target.servers.map(({ id }) => id));
  const leaving = current.servers
    .filter(({ id, suffrage }) => suffrage === 'voter' && !staying.has(id))
    .map((server): Server => ({ ...server, suffrage: 'leaving' }));
  return { servers: [...target.servers, ...leaving], joint: { votersOutgoing, autoLeave } };
}

/** The incoming half alone. */
export function leaveJoint(current: Configuration): Configuration {
  assert(current.joint !== undefined, 'the configuration is not joint');
  return { servers: current.servers.filter(({ suffrage }) => suffrage !== 'leaving') };
}

/** UTF-8 JSON with a fixed order of fields: equal configurations have equal bytes. */
export function encodeConfiguration(configuration: Configuration): Uint8Array {
  return new TextEncoder().encode(JSON.stringify(configurationFields(configuration)));
}

/** Throws on anything that `encodeConfiguration` does not write. */
export function decodeConfiguration(bytes: Uint8Array): Configuration {
  return readConfiguration(JSON.parse(new TextDecoder('utf-8', { fatal: true }).decode(bytes)));
}

/**
 * `instance` and `joint` are left out where there is none: these are then the bytes of a format
 * without them, which is read as well.
 */
export function configurationFields({ servers, joint }: Configuration): Configuration {
  const fields = servers.map(serverFields);
  if (joint === undefined) return { servers: fields };
  const { votersOutgoing, autoLeave } = joint;
  return { servers: fields, joint: { votersOutgoing, autoLeave } };
}

function serverFields({ id, address, suffrage, instance }: Server): Server {
  const fields = { id, address, suffrage };
  return instance === undefined ? fields : { ...fields, instance };
}

export function readConfiguration(value: unknown): Configuration {
  assert(isRecord(value) && Array.isArray(value['servers']), 'configuration has no servers');
  const servers = value['servers'].map(readServer);
  const ids = new Set(servers.map(({ id }) => id));
  assert(ids.size === servers.length, 'configuration lists a server twice');
  const leaving = servers.filter(({ suffrage }) => suffrage === 'leaving');
  if (value['joint'] === undefined) {
    assert(leaving.length === 0, 'a server leaves a configuration that is not joint');
    return { servers };
  }
  const joint = readJoint(value['joint']);
  assert(
    joint.votersOutgoing.every((id) => ids.has(id)),
    'an outgoing voter is not among the servers',
  );
  assert(
    leaving.every(({ id }) => joint.votersOutgoing.includes(id)),
    'a server leaves that is no outgoing voter',
  );
  return { servers, joint };
}

function readServer(value: unknown): Server {
  assert(isRecord(value), 'server of a configuration is not an object');
  const { id, address, suffrage, instance } = value;
  assert(typeof id === 'string' && id !== '', 'server of a configuration has no id');
  assert(typeof address === 'string', 'server of a configuration has no address');
  assert(
    suffrage === 'voter' || suffrage === 'learner' || suffrage === 'leaving',
    'server has an unknown suffrage',
  );
  assert(
    instance === undefined || (typeof instance === 'string' && instance !== ''),
    'server has an instance that is none',
  );
  return serverFields({ id, address, suffrage, ...(instance === undefined ? {} : { instance }) });
}

function readJoint(value: unknown): NonNullable<Configuration['joint']> {
  assert(isRecord(value), 'joint part of a configuration is not an object');
  const { votersOutgoing, autoLeave } = value;
  assert(Array.isArray(votersOutgoing) && votersOutgoing.length > 0, 'no outgoing voters');
  assert(
    votersOutgoing.every((id) => typeof id === 'string'),
    'an outgoing voter has no id',
  );
  assert(new Set(votersOutgoing).size === votersOutgoing.length, 'an outgoing voter counts twice');
  assert(typeof autoLeave === 'boolean', 'joint configuration without autoLeave');
  return { votersOutgoing, autoLeave };
}

function isRecord(value: unknown): value is Record<string, unknown> {
  return typeof value === 'object' && value !== null;
}
