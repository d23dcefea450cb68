/**
 * What travels between a standby and the active node: frames (`frames.ts`) over connections of the
 * protocol `bao-forward/1`, little-endian:
 *
 *     u8 version | u8 kind | u32 exchange | u32 headBytes | head (JSON) | body
 *
 * `kind` is request, response, or failure; `exchange` numbers the requests of one connection, so
 * that several may be under way on it.
 */

import assert from 'node:assert/strict';
import type { Duplex } from 'node:stream';
import type { RequestStamp } from '../core/ports.ts';
import type { ErrorCode } from '../errors.ts';
import { ServerError } from '../errors.ts';
import { FrameError, frameLength } from '../frames.ts';
import type { FrameReader } from '../frames.ts';

export type WireRequest = {
  readonly id: string;
  readonly method: string;
  readonly url: string;
  readonly headers: Record<string, string>;
  readonly body: Buffer;
  readonly remoteAddress: string;
  /** By which the active node knows the request if it comes again; absent means it never will. */
  readonly stamp?: WireStamp | undefined;
};

export type WireStamp = RequestStamp & {
  /** What became of an attempt before this one is unknown. */
  readonly isRepeated: boolean;
};

export type WireResponse = {
  readonly status: number;
  readonly headers: Record<string, string>;
  readonly body: Buffer;
  /** What the answering node had applied: whoever waits for it reads this write. */
  readonly index: number;
};

/** OpenBao's `max_request_size`, and room for the head. */
export const BODY_BYTES_MAX = 32 * 1024 * 1024;
export const FRAME_BYTES_MAX = BODY_BYTES_MAX + 1024 * 1024;
export const KIND = { request: 1, response: 2, failure: 3 } as const;
export const HEADER_BYTES = 10;
const VERSION = 1;
const SESSION = /^[0-9a-f]{32}$/;

type Frame = { kind: number; exchange: number; head: Record<string, unknown>; body: Buffer };

export function encodeResponse(response: WireResponse): {
  kind: number;
  head: Buffer;
  body: Buffer;
} {
  const { status, headers, index, body } = response;
  const head = Buffer.from(JSON.stringify({ status, headers, index }));
  if (HEADER_BYTES + head.length + body.length > FRAME_BYTES_MAX) {
    return encodeFailure(new ServerError('internal', 'response too large to be forwarded'));
  }
  return { kind: KIND.response, head, body };
}

export function encodeFailure(error: unknown): { kind: number; head: Buffer; body: Buffer } {
  const known = error instanceof ServerError;
  const failure = {
    code: known ? error.code : 'internal',
    message: known ? error.message : 'internal error',
  };
  return { kind: KIND.failure, head: Buffer.from(JSON.stringify(failure)), body: Buffer.alloc(0) };
}

export function writeFrame(
  socket: Duplex,
  kind: number,
  exchange: number,
  head: Buffer,
  body: Buffer,
): void {
  const header = Buffer.allocUnsafe(HEADER_BYTES);
  header.writeUInt8(VERSION, 0);
  header.writeUInt8(kind, 1);
  header.writeUInt32LE(exchange, 2);
  header.writeUInt32LE(head.length, 6);
  const length = HEADER_BYTES + head.length + body.length;
  assert(length <= FRAME_BYTES_MAX, 'frame too large');
  socket.cork();
  socket.write(Buffer.concat([frameLength(length), header, head]));
  if (body.length > 0) socket.write(body);
  socket.uncork();
}

/** The frames that `chunk` completes, or nothing if the stream is not one of ours. */
export function decodeFrames(reader: FrameReader, chunk: Buffer): Frame[] | undefined {
  try {
    return reader.push(chunk).map(decodeFrame);
  } catch (error) {
    if (error instanceof FrameError || error instanceof SyntaxError) return undefined;
    throw error;
  }
}

function decodeFrame(payload: Buffer): Frame {
  if (payload.length < HEADER_BYTES) throw new FrameError('truncated header');
  const headEnd = HEADER_BYTES + payload.readUInt32LE(6);
  if (payload.readUInt8(0) !== VERSION) throw new FrameError('unknown version');
  if (headEnd > payload.length) throw new FrameError('truncated head');
  const head: unknown = JSON.parse(payload.toString('utf8', HEADER_BYTES, headEnd));
  if (!isRecord(head)) throw new FrameError('head is not an object');
  return {
    kind: payload.readUInt8(1),
    exchange: payload.readUInt32LE(2),
    head,
    body: payload.subarray(headEnd),
  };
}

function isRecord(value: unknown): value is Record<string, unknown> {
  return typeof value === 'object' && value !== null && !Array.isArray(value);
}

function isHeaders(value: unknown): value is Record<string, string> {
  return isRecord(value) && Object.values(value).every((each) => typeof each === 'string');
}

export function isRequestHead(head: Record<string, unknown>): head is Omit<WireRequest, 'body'> {
  const texts = [head['id'], head['method'], head['url'], head['remoteAddress']];
  const isStamped = head['stamp'] === undefined || isStamp(head['stamp']);
  return texts.every((each) => typeof each === 'string') && isHeaders(head['headers']) && isStamped;
}

function isStamp(value: unknown): value is WireStamp {
  if (!isRecord(value) || typeof value['isRepeated'] !== 'boolean') return false;
  const { session, openedIndex, sequence, acknowledgedBelow } = value;
  return (
    typeof session === 'string' &&
    SESSION.test(session) &&
    [openedIndex, sequence, acknowledgedBelow].every(isIndex)
  );
}

/** What the log has room for. */
function isIndex(value: unknown): boolean {
  return Number.isSafeInteger(value) && 0 <= Number(value) && Number(value) < 2 ** 48;
}

export function isResponseHead(head: Record<string, unknown>): head is Omit<WireResponse, 'body'> {
  const { status, headers, index } = head;
  return Number.isInteger(status) && Number.isSafeInteger(index) && isHeaders(headers);
}

/** What may be told of the other node's refusal; anything else has an unknown outcome. */
const FAILURE_CODES: readonly ErrorCode[] = [
  'invalid-request',
  'permission-denied',
  'unsupported-path',
  'unsupported-operation',
  'conflict',
  'too-large',
  'unsupported-media-type',
  'too-many-requests',
  'sealed',
  'overloaded',
  'no-leader',
  'session-expired',
  'internal',
];

export function failureCode(code: unknown): ErrorCode {
  return FAILURE_CODES.find((each) => each === code) ?? 'outcome-unknown';
}
