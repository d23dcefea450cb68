/**
 * Who takes part: the encoding of a configuration entry, and which change is allowed.
 *
 * An entry holds the whole configuration, not a difference, so that a server that joins with an
 * empty configuration learns everything from the last entry it applies. Two consecutive
 * configurations differ in one server, hence every majority of one overlaps every majority of the
 * other and no joint phase is needed (thesis §4.1).
 */

import assert from 'node:assert/strict';

import type { Configuration, NodeId, Server } from './message.ts';

/** UTF-8 JSON with a fixed order of fields: equal configurations have equal bytes. */
export function encodeConfiguration(configuration: Configuration): Uint8Array {
  const servers = configuration.servers.map(({ id, address, suffrage }) => ({
    id,
    address,
    suffrage,
  }));
  return new TextEncoder().encode(JSON.stringify({ servers }));
}

/** Throws on anything that `encodeConfiguration` does not write. */
export function decodeConfiguration(bytes: Uint8Array): Configuration {
  const value: unknown = JSON.parse(new TextDecoder('utf-8', { fatal: true }).decode(bytes));
  assert(isRecord(value) && Array.isArray(value['servers']), 'configuration has no servers');
  return { servers: value['servers'].map(decodeServer) };
}

function decodeServer(value: unknown): Server {
  assert(isRecord(value), 'server of a configuration is not an object');
  const { id, address, suffrage } = value;
  assert(typeof id === 'string' && id !== '', 'server of a configuration has no id');
  assert(typeof address === 'string', 'server of a configuration has no address');
  assert(suffrage === 'voter' || suffrage === 'learner', 'server has an unknown suffrage');
  return { id, address, suffrage };
}

function isRecord(value: unknown): value is Record<string, unknown> {
  return typeof value === 'object' && value !== null;
}

export function voterIds(configuration: Configuration): NodeId[] {
  return configuration.servers.filter((s) => s.suffrage === 'voter').map((s) => s.id);
}

/** Says why `next` may not follow `current`, or nothing if it may. */
export function refuseChange(current: Configuration, next: Configuration): string | undefined {
  const before = new Map(current.servers.map((server) => [server.id, server]));
  const after = new Map(next.servers.map((server) => [server.id, server]));
  if (after.size !== next.servers.length) return 'a server is listed twice';
  if (after.has('')) return 'a server has no id';
  if (voterIds(next).length === 0) return 'no voter would be left';

  const changed = [...new Set([...before.keys(), ...after.keys()])].filter(
    (id) => !isSameServer(before.get(id), after.get(id)),
  );
  if (changed.length === 0) return 'nothing would change';
  if (changed.length > 1) return `more than one server would change: ${changed.join(', ')}`;
  return undefined;
}

function isSameServer(left: Server | undefined, right: Server | undefined): boolean {
  return left?.address === right?.address && left?.suffrage === right?.suffrage;
}
