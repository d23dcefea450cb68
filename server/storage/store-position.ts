/** The stored form of a `StorePosition`: one line of JSON with its fields in a fixed order. */

import assert from 'node:assert/strict';

import type { Server } from '../raft/message.ts';
import type { StorePosition } from './store.ts';

export const INITIAL_POSITION: StorePosition = {
  lastIncludedIndex: 0,
  lastIncludedTerm: 0,
  configuration: { servers: [] },
};

export function encodePosition(position: StorePosition): Buffer {
  const servers = position.configuration.servers.map(({ id, address, suffrage }) => ({
    id,
    address,
    suffrage,
  }));
  return Buffer.from(
    JSON.stringify({
      lastIncludedIndex: position.lastIncludedIndex,
      lastIncludedTerm: position.lastIncludedTerm,
      configuration: { servers },
    }),
  );
}

/** Throws if the bytes are not an encoded position. */
export function decodePosition(bytes: Uint8Array): StorePosition {
  const value = JSON.parse(Buffer.from(bytes).toString('utf8')) as Partial<StorePosition> | null;
  assert(isIndex(value?.lastIncludedIndex), 'a stored position has no index');
  assert(isIndex(value.lastIncludedTerm), 'a stored position has no term');
  const servers: unknown = value.configuration?.servers;
  assert(Array.isArray(servers) && servers.every(isServer), 'a stored position has no servers');
  return {
    lastIncludedIndex: value.lastIncludedIndex,
    lastIncludedTerm: value.lastIncludedTerm,
    configuration: { servers },
  };
}

function isIndex(value: unknown): value is number {
  return Number.isSafeInteger(value) && 0 <= Number(value);
}

function isServer(value: unknown): value is Server {
  const server = value as Partial<Server> | null;
  return (
    typeof server?.id === 'string' &&
    typeof server.address === 'string' &&
    (server.suffrage === 'voter' || server.suffrage === 'learner')
  );
}
