/** The stored form of a `StorePosition`: one line of JSON with its fields in a fixed order. */

import assert from 'node:assert/strict';

import { configurationFields, readConfiguration } from '../raft/configuration.ts';
import type { StorePosition } from './store.ts';

export const INITIAL_POSITION: StorePosition = {
  lastIncludedIndex: 0,
  lastIncludedTerm: 0,
  configuration: { servers: [] },
};

export function encodePosition(position: StorePosition): Buffer {
  return Buffer.from(
    JSON.stringify({
      lastIncludedIndex: position.lastIncludedIndex,
      lastIncludedTerm: position.lastIncludedTerm,
      configuration: configurationFields(position.configuration),
    }),
  );
}

/** Throws if the bytes are not an encoded position. */
export function decodePosition(bytes: Uint8Array): StorePosition {
  const value = JSON.parse(Buffer.from(bytes).toString('utf8')) as Partial<StorePosition> | null;
  assert(isIndex(value?.lastIncludedIndex), 'a stored position has no index');
  assert(isIndex(value.lastIncludedTerm), 'a stored position has no term');
  return {
    lastIncludedIndex: value.lastIncludedIndex,
    lastIncludedTerm: value.lastIncludedTerm,
    configuration: readConfiguration(value.configuration),
  };
}

function isIndex(value: unknown): value is number {
  return Number.isSafeInteger(value) && 0 <= Number(value);
}
