/**
 * Which requests took effect, in replicated state: the sessions of the Raft thesis (§6.3), so that
 * a request that is forwarded again never takes effect again and gets its first result.
 *
 * A session is a standby's process; its requests are numbered. It lives in the store beside
 * the data, hence in snapshots and in the state hash:
 *
 *     raft/sessions                    u48 horizon | count x 16 bytes session, oldest first
 *     raft/session/<id>                u48 last index | u48 floor | count x u48 sequence, ascending
 *     raft/session/<id>/<sequence>     the result; empty while there is none
 *
 * Bounded without a clock, by the log alone: below its floor a session remembers nothing, and the
 * floor is what the standby has acknowledged, or higher if more than `RECORDS_PER_SESSION_MAX`
 * would be kept. Beyond `SESSIONS_MAX` the session goes that was used the longest time ago, by
 * index; the horizon is the highest last index of a session that went. A session that was opened
 * at the horizon or later is therefore new if it is not here, and one opened before may have been
 * forgotten: `expired`, which is not the same as never seen.
 *
 * One `SessionTable` serves one group of entries, and holds what they changed until `operations`.
 */

import assert from 'node:assert/strict';
import type { RecordedRequest, RequestStamp } from '../core/ports.ts';
import { asBuffer } from '../storage/as-buffer.ts';
import type { CommandStamp } from '../storage/command.ts';
import type { StoreOperation } from '../storage/store.ts';

const REGISTRY_KEY = 'raft/sessions';
const SESSION_PREFIX = 'raft/session/';

/** More than a cluster has members, so that processes which ended go first. */
export const SESSIONS_MAX = 32;
/** More than a standby has requests under way; the oldest go first. */
export const RECORDS_PER_SESSION_MAX = 1024;

const ID_BYTES = 16;
const U48_BYTES = 6;

type Read = (key: string) => Uint8Array | undefined;
type Registry = { readonly horizon: number; readonly ids: readonly string[] };
type Session = { lastIndex: number; floor: number; sequences: number[] };

/** Nobody but the state machine writes these keys. */
export function isSessionKey(key: string): boolean {
  return key.startsWith(SESSION_PREFIX) || key === REGISTRY_KEY;
}

/** What stands for all sessions when a restoration at `index` has forgotten them. */
export function sessionsForgottenAt(index: number): { key: string; value: Uint8Array } {
  return { key: REGISTRY_KEY, value: encodeRegistry({ horizon: index, ids: [] }) };
}

export function countSessions(read: Read): number {
  return decodeRegistry(read(REGISTRY_KEY)).ids.length;
}

/** What the published state says of a request. */
export function readRecorded(read: Read, stamp: RequestStamp): RecordedRequest {
  const standing = new SessionTable(read).standing(stamp);
  if (standing === 'expired') return { kind: 'expired' };
  if (standing === 'new') return { kind: 'unknown' };
  const result = read(recordKey(stamp));
  assert(result !== undefined, 'a recorded request has a record');
  return { kind: 'recorded', result };
}

export class SessionTable {
  readonly #read: Read;
  readonly #sessions = new Map<string, Session | undefined>();
  readonly #changed = new Set<string>();
  #registry: Registry | undefined;
  #hasNewRegistry = false;

  constructor(read: Read) {
    this.#read = read;
  }

  /** Whether the request took effect before. Changes nothing. */
  standing(stamp: RequestStamp): 'new' | 'recorded' | 'expired' {
    const session = this.#session(stamp.session);
    if (session === undefined) {
      return stamp.openedIndex < this.#readRegistry().horizon ? 'expired' : 'new';
    }
    if (session.sequences.includes(stamp.sequence)) return 'recorded';
    return stamp.sequence < session.floor ? 'expired' : 'new';
  }

  /** Records that the request takes effect at `index`, or its result. Returns what that writes. */
  record(stamp: CommandStamp, index: number): StoreOperation[] {
    const { session: id, sequence, acknowledgedBelow, result } = stamp;
    const operations: StoreOperation[] = [];
    const session = this.#session(id) ?? this.#open(id, operations);
    session.lastIndex = index;
    this.#changed.add(id);
    // The standby counts a request that is under way as not acknowledged; were it wrong, it would
    // not find its own record.
    this.#raiseFloor(stamp, session, Math.min(acknowledgedBelow, sequence), operations);
    if (!session.sequences.includes(sequence)) {
      session.sequences.push(sequence);
      session.sequences.sort((one, two) => one - two);
    }
    const oldest = session.sequences[session.sequences.length - RECORDS_PER_SESSION_MAX - 1];
    if (oldest !== undefined) this.#raiseFloor(stamp, session, oldest + 1, operations);
    operations.push({ kind: 'put', key: recordKey(stamp), value: result });
    return operations;
  }

  /** What the group has changed beside the records. */
  operations(): StoreOperation[] {
    const operations: StoreOperation[] = [];
    for (const id of this.#changed) {
      const session = this.#sessions.get(id);
      assert(session !== undefined, 'a changed session is there');
      operations.push({ kind: 'put', key: SESSION_PREFIX + id, value: encodeSession(session) });
    }
    if (this.#hasNewRegistry) {
      const value = encodeRegistry(this.#readRegistry());
      operations.push({ kind: 'put', key: REGISTRY_KEY, value });
    }
    return operations;
  }

  #raiseFloor(
    { session: id }: RequestStamp,
    session: Session,
    floor: number,
    operations: StoreOperation[],
  ): void {
    if (floor <= session.floor) return;
    session.floor = floor;
    const kept = session.sequences.findIndex((sequence) => floor <= sequence);
    const forgotten = session.sequences.splice(0, kept === -1 ? Infinity : kept);
    for (const sequence of forgotten) {
      operations.push({ kind: 'delete', key: recordKey({ session: id, sequence }) });
    }
  }

  #open(id: string, operations: StoreOperation[]): Session {
    const { horizon, ids } = this.#readRegistry();
    this.#registry = { horizon, ids: [...ids, id] };
    this.#hasNewRegistry = true;
    const session: Session = { lastIndex: 0, floor: 0, sequences: [] };
    this.#sessions.set(id, session);
    if (SESSIONS_MAX < this.#registry.ids.length) this.#evictOne(ids, operations);
    return session;
  }

  #evictOne(candidates: readonly string[], operations: StoreOperation[]): void {
    const found = candidates.map((id) => ({ id, session: this.#required(id) }));
    const idle = found.reduce((one, other) =>
      other.session.lastIndex < one.session.lastIndex ? other : one,
    );
    const { id, session } = idle;
    for (const sequence of session.sequences) {
      operations.push({ kind: 'delete', key: recordKey({ session: id, sequence }) });
    }
    operations.push({ kind: 'delete', key: SESSION_PREFIX + id });
    this.#sessions.set(id, undefined);
    this.#changed.delete(id);
    const { horizon, ids } = this.#readRegistry();
    this.#registry = {
      horizon: Math.max(horizon, session.lastIndex),
      ids: ids.filter((each) => each !== id),
    };
  }

  #required(id: string): Session {
    const session = this.#session(id);
    assert(session !== undefined, 'a registered session is there');
    return session;
  }

  #session(id: string): Session | undefined {
    if (this.#sessions.has(id)) return this.#sessions.get(id);
    const bytes = this.#read(SESSION_PREFIX + id);
    const session = bytes === undefined ? undefined : decodeSession(bytes);
    this.#sessions.set(id, session);
    return session;
  }

  #readRegistry(): Registry {
    this.#registry ??= decodeRegistry(this.#read(REGISTRY_KEY));
    return this.#registry;
  }
}

/** Sequences are padded so that a listing is in their order. */
function recordKey({ session, sequence }: Pick<RequestStamp, 'session' | 'sequence'>): string {
  return `${SESSION_PREFIX}${session}/${String(sequence).padStart(15, '0')}`;
}

function encodeSession({ lastIndex, floor, sequences }: Session): Buffer {
  return encodeNumbers([lastIndex, floor, ...sequences]);
}

function decodeSession(bytes: Uint8Array): Session {
  const [lastIndex = 0, floor = 0, ...sequences] = decodeNumbers(bytes);
  return { lastIndex, floor, sequences };
}

function encodeRegistry({ horizon, ids }: Registry): Buffer {
  return Buffer.concat([encodeNumbers([horizon]), ...ids.map((id) => Buffer.from(id, 'hex'))]);
}

function decodeRegistry(bytes: Uint8Array | undefined): Registry {
  if (bytes === undefined) return { horizon: 0, ids: [] };
  const buffer = asBuffer(bytes);
  const ids: string[] = [];
  for (let start = U48_BYTES; start < buffer.length; start += ID_BYTES) {
    ids.push(buffer.toString('hex', start, start + ID_BYTES));
  }
  return { horizon: buffer.readUIntLE(0, U48_BYTES), ids };
}

function encodeNumbers(numbers: readonly number[]): Buffer {
  const bytes = Buffer.allocUnsafe(numbers.length * U48_BYTES);
  for (const [i, number] of numbers.entries()) bytes.writeUIntLE(number, i * U48_BYTES, U48_BYTES);
  return bytes;
}

function decodeNumbers(bytes: Uint8Array): number[] {
  const buffer = asBuffer(bytes);
  assert(buffer.length % U48_BYTES === 0, 'half a number');
  return Array.from({ length: buffer.length / U48_BYTES }, (_, i) =>
    buffer.readUIntLE(i * U48_BYTES, U48_BYTES),
  );
}
