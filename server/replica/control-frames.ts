/**
 * Frames between peers that are no raft messages: who dials and what for, that bytes arrive, and
 * the parts of a snapshot. Their kinds lie beside those of `wire.ts`.
 *
 *     hello              u8 purpose | clusterId | from | fromInstance | to | toInstance |
 *                        memberIndex | address
 *     seen               -
 *     replaced           asOfIndex
 *     snapshotManifest   id (16 bytes) | size | sha256
 *     snapshotChunk      offset | bytes
 *     snapshotReceived   offset
 */

import assert from 'node:assert/strict';
import { FrameError } from '../frames.ts';
import { FieldReader, FieldWriter } from './frame-fields.ts';

const KIND = {
  hello: 1,
  seen: 2,
  snapshotChunk: 11,
  snapshotManifest: 12,
  snapshotReceived: 13,
  replaced: 14,
} as const;

const PURPOSES = ['control', 'bulk', 'snapshot'] as const;

const SHA256_BYTES = 32;
export const SNAPSHOT_ID_BYTES = 16;

/** No hello is longer: until it is here, a connection is worth no more memory. */
export const HELLO_BYTES_MAX = 8 * 1024;

/** The first frame of a connection, from the node that dialled. */
export type Hello = {
  readonly kind: 'hello';
  readonly purpose: (typeof PURPOSES)[number];
  readonly clusterId: string;
  readonly from: string;
  /** The dialling node's disk (`instance.ts`). */
  readonly fromInstance: string;
  readonly to: string;
  /** Which of those that ever were `to` is meant; empty if any. */
  readonly toInstance: string;
  /** What the dialling node has applied, if it is a member by that; else 0. */
  readonly memberIndex: number;
  /** Where the dialling node listens: the other may not have it in its configuration yet. */
  readonly address: string;
};

/** What a snapshot's file is; the bytes of two with equal ids are equal. */
export type SnapshotManifest = {
  readonly id: Buffer;
  readonly size: number;
  readonly sha256: Buffer;
};

export type ControlFrame =
  | Hello
  /** Tells the dialling node that what it writes arrives; after a snapshot: that it is installed. */
  | { readonly kind: 'seen' }
  | ({ readonly kind: 'snapshotManifest' } & SnapshotManifest)
  | { readonly kind: 'snapshotChunk'; readonly offset: number; readonly bytes: Buffer }
  /**
   * Instead of `seen`: at the index given, the id of the dialling node was another instance's.
   */
  | { readonly kind: 'replaced'; readonly asOfIndex: number }
  /** Everything before `offset` was taken, now or on an earlier connection. */
  | { readonly kind: 'snapshotReceived'; readonly offset: number };

export function encodeControl(frame: ControlFrame): Buffer[] {
  const writer = new FieldWriter(KIND[frame.kind]);
  switch (frame.kind) {
    case 'hello':
      writer.byte(PURPOSES.indexOf(frame.purpose));
      writer.text(frame.clusterId).text(frame.from).text(frame.fromInstance);
      writer.text(frame.to).text(frame.toInstance).number(frame.memberIndex);
      return writer.text(frame.address).frame([]);
    case 'seen':
      return writer.frame([]);
    case 'replaced':
      return writer.number(frame.asOfIndex).frame([]);
    case 'snapshotManifest':
      assert(frame.id.length === SNAPSHOT_ID_BYTES, 'not a snapshot id');
      assert(frame.sha256.length === SHA256_BYTES, 'not a sha256');
      return writer.bytes(frame.id).number(frame.size).frame([frame.sha256]);
    case 'snapshotChunk':
      return writer.number(frame.offset).frame([frame.bytes]);
    case 'snapshotReceived':
      return writer.number(frame.offset).frame([]);
  }
}

/** Throws `FrameError` if the payload is anything but a hello. */
export function decodeHello(payload: Buffer): Hello {
  const reader = new FieldReader(payload);
  if (reader.kind !== KIND.hello) throw new FrameError('expected a hello');
  const purpose = PURPOSES[reader.byte()];
  if (purpose === undefined) throw new FrameError('unknown purpose');
  const clusterId = reader.text();
  const [from, fromInstance] = [reader.text(), reader.text()];
  const [to, toInstance] = [reader.text(), reader.text()];
  const memberIndex = reader.number();
  const address = reader.text();
  reader.finish();
  const parties = { from, fromInstance, to, toInstance };
  return { kind: 'hello', purpose, clusterId, ...parties, memberIndex, address };
}

/** Undefined if the kind is another. The caller finishes the reader. */
export function decodeControlBody(reader: FieldReader): ControlFrame | undefined {
  switch (reader.kind) {
    case KIND.seen:
      return { kind: 'seen' };
    case KIND.replaced:
      return { kind: 'replaced', asOfIndex: reader.number() };
    case KIND.snapshotManifest: {
      const id = reader.bytes(SNAPSHOT_ID_BYTES);
      const size = reader.number();
      return { kind: 'snapshotManifest', id, size, sha256: reader.bytes(SHA256_BYTES) };
    }
    case KIND.snapshotChunk:
      return { kind: 'snapshotChunk', offset: reader.number(), bytes: reader.rest() };
    case KIND.snapshotReceived:
      return { kind: 'snapshotReceived', offset: reader.number() };
    default:
      return undefined;
  }
}
