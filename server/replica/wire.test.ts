import { assert, nat, property, record } from 'fast-check';
import { describe, expect, test } from 'vitest';
import { FrameError, FrameReader } from '../frames.ts';
import type { Entry, Message } from '../raft/message.ts';
import { encodeEntry } from '../storage/entry-codec.ts';
import { decodeHello, encodeControl } from './control-frames.ts';
import type { ControlFrame, Hello } from './control-frames.ts';
import { PEER_FRAME_BYTES_MAX } from './frame-fields.ts';
import { decodeFrame, encodeMessage } from './wire.ts';

const addressed = { from: 'n1', to: 'n2', term: 2 ** 48 - 1 };
const entries: Entry[] = [
  { index: 8, term: 3, kind: 'noop', command: Buffer.alloc(0) },
  { index: 9, term: 4, kind: 'command', command: Buffer.from('abc') },
  { index: 10, term: 4, kind: 'configuration', command: Buffer.from('{}') },
];
const configuration = {
  servers: [{ id: 'n1', address: '127.0.0.1:8201', suffrage: 'voter' as const }],
};
const indexes = { matchIndex: 5, rejectedIndex: 6, hintIndex: 7, hintTerm: 2, appliedIndex: 4 };
const append = { prevLogIndex: 7, prevLogTerm: 3, leaderCommit: 6 };
const log = { lastLogIndex: 9, lastLogTerm: 8 };
const snapshot = { lastIncludedIndex: 12, lastIncludedTerm: 3, configuration };

const messages: Message[] = [
  { kind: 'requestVote', ...addressed, isPreVote: true, isTransfer: false, ...log },
  { kind: 'requestVote', ...addressed, isPreVote: false, isTransfer: true, ...log },
  { kind: 'requestVoteResponse', ...addressed, isPreVote: true, voteGranted: false },
  { kind: 'requestVoteResponse', ...addressed, isPreVote: false, voteGranted: true },
  {
    kind: 'requestVoteResponse',
    ...addressed,
    isPreVote: true,
    voteGranted: false,
    committed: { index: 17, term: 3 },
  },
  { kind: 'appendEntries', ...addressed, ...append, entries: [] },
  { kind: 'appendEntries', ...addressed, ...append, entries },
  { kind: 'appendEntriesResponse', ...addressed, success: true, ...indexes },
  { kind: 'appendEntriesResponse', ...addressed, success: false, ...indexes },
  { kind: 'heartbeat', ...addressed, leaderCommit: 77, round: 5, freshRound: 4, freshIndex: 76 },
  { kind: 'heartbeat', ...addressed, leaderCommit: 0, round: 1, freshRound: 0, freshIndex: 0 },
  { kind: 'heartbeatResponse', ...addressed, appliedIndex: 78, round: 2 ** 40 },
  { kind: 'readIndex', ...addressed, id: 2 ** 47 + 1 },
  { kind: 'readIndexResponse', ...addressed, id: 2 ** 47 + 1, success: true, index: 79 },
  { kind: 'readIndexResponse', ...addressed, id: 3, success: false, index: 0 },
  { kind: 'timeoutNow', ...addressed },
  { kind: 'installSnapshot', ...addressed, snapshot },
];

const controls: ControlFrame[] = [
  { kind: 'seen' },
  { kind: 'replaced', asOfIndex: 77 },
  { kind: 'snapshotChunk', offset: 1_000, bytes: Buffer.from('chunk') },
  { kind: 'snapshotManifest', id: Buffer.alloc(16, 1), size: 1_005, sha256: Buffer.alloc(32, 7) },
  { kind: 'snapshotReceived', offset: 1_005 },
];

const hello: Hello = {
  kind: 'hello',
  purpose: 'snapshot',
  clusterId: 'c'.repeat(64),
  from: 'knoten-ä',
  fromInstance: 'a'.repeat(32),
  to: 'n2',
  toInstance: '',
  memberIndex: 2 ** 40 + 1,
  address: '[::1]:8201',
};

const frames = [...messages.map(encodeMessage), ...controls.map(encodeControl)].map((parts) =>
  Buffer.concat(parts),
);

/** The payloads of a stream that arrives in chunks of the given size. */
function read(stream: Buffer, chunkBytes: number): Buffer[] {
  const reader = new FrameReader(PEER_FRAME_BYTES_MAX);
  const payloads: Buffer[] = [];
  for (let start = 0; start < stream.length; start += chunkBytes) {
    payloads.push(...reader.push(stream.subarray(start, start + chunkBytes)));
  }
  return payloads;
}

describe('a frame decodes to what was encoded', () => {
  test.each([...messages, ...controls].map((frame, row) => ({ row, kind: frame.kind, frame })))(
    '$row $kind',
    ({ row, frame }) => {
      const [payload] = read(frames[row] ?? Buffer.alloc(0), 1 << 20);
      expect(decodeFrame(payload ?? Buffer.alloc(0), 'n1', 'n2')).toEqual(frame);
    },
  );

  test('hello', () => {
    const [payload] = read(Buffer.concat(encodeControl(hello)), 1 << 20);
    expect(decodeHello(payload ?? Buffer.alloc(0))).toEqual(hello);
  });
});

test.each([1, 2, 3, 5, 7, 64])('a stream in chunks of %d bytes gives the same frames', (bytes) => {
  const decoded = read(Buffer.concat(frames), bytes).map((each) => decodeFrame(each, 'n1', 'n2'));
  expect(decoded).toEqual([...messages, ...controls]);
});

test('entries travel as the records of the log', () => {
  const records = Buffer.concat(entries.map(encodeEntry));
  const row = messages.findLastIndex(({ kind }) => kind === 'appendEntries');
  const [payload] = read(frames[row] ?? Buffer.alloc(0), 1 << 20);
  expect(payload?.subarray(-records.length).equals(records)).toBe(true);
});

test.each([
  { name: 'unknown version', change: (bytes: Buffer) => bytes.writeUInt8(9, 0) },
  { name: 'unknown kind', change: (bytes: Buffer) => bytes.writeUInt8(99, 1) },
  { name: 'a hello later on', change: (bytes: Buffer) => bytes.writeUInt8(1, 1) },
])('$name is refused', ({ change }) => {
  const payload = Buffer.from(read(frames[0] ?? Buffer.alloc(0), 1 << 20)[0] ?? []);
  change(payload);
  expect(() => decodeFrame(payload, 'n1', 'n2')).toThrow(FrameError);
});

test('entries that leave a gap are refused', () => {
  const gap = {
    kind: 'appendEntries',
    ...addressed,
    ...append,
    entries: entries.slice(1),
  } as const;
  const [payload] = read(Buffer.concat(encodeMessage(gap)), 1 << 20);
  expect(() => decodeFrame(payload ?? Buffer.alloc(0), 'n1', 'n2')).toThrow(FrameError);
});

test.each([0, PEER_FRAME_BYTES_MAX + 1])('a frame of %d bytes is refused', (length) => {
  const prefix = Buffer.alloc(4);
  prefix.writeUInt32LE(length);
  expect(() => read(prefix, 4)).toThrow(FrameError);
});

/** False if decoding throws anything but what a connection knows how to handle. */
function isHarmless(decode: () => unknown): boolean {
  try {
    decode();
    return true;
  } catch (error) {
    return error instanceof FrameError;
  }
}

test('damaged frames decode or are refused, and nothing else', () => {
  const payloads = read(Buffer.concat(frames), 1 << 20);
  const damage = record({
    row: nat(payloads.length - 1),
    end: nat(200),
    position: nat(200),
    byte: nat(255),
  });
  assert(
    property(damage, ({ row, end, position, byte }) => {
      const payload = Buffer.from(payloads[row]?.subarray(0, end) ?? []);
      if (position < payload.length) payload[position] = byte;
      return (
        isHarmless(() => decodeFrame(payload, 'n1', 'n2')) && isHarmless(() => decodeHello(payload))
      );
    }),
    { numRuns: 3_000, seed: 1 },
  );
});
