/** What a receiver of a snapshot hands on, and what it does not take, each for its own reason. */

import { createHash } from 'node:crypto';
import { mkdtemp, readdir, rm } from 'node:fs/promises';
import { connect, createServer } from 'node:net';
import type { AddressInfo, Server } from 'node:net';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { afterEach, beforeEach, expect, test } from 'vitest';
import { FrameReader } from '../frames.ts';
import { snapshotHost } from '../testing/snapshot-host.ts';
import { encodeControl } from './control-frames.ts';
import type { SnapshotManifest } from './control-frames.ts';
import { PEER_FRAME_BYTES_MAX } from './frame-fields.ts';
import { SnapshotReceiver } from './snapshot-receiver.ts';
import { encodeMessage } from './wire.ts';

const bytes = Buffer.from('what the sender calls a state');
const sha256 = createHash('sha256').update(bytes).digest();
const configuration = { servers: [] };
const snapshot = { lastIncludedIndex: 99, lastIncludedTerm: 1, configuration };
const message = { kind: 'installSnapshot', from: 'n1', to: 'n2', term: 1, snapshot } as const;
const install = encodeMessage(message);

function manifest(change: Partial<SnapshotManifest> = {}): Buffer[] {
  const whole = { id: Buffer.alloc(16), size: bytes.length, sha256, ...change };
  return encodeControl({ kind: 'snapshotManifest', ...whole });
}

function chunk(offset = 0, content: Buffer = bytes): Buffer[] {
  return encodeControl({ kind: 'snapshotChunk', offset, bytes: content });
}

let directory: string;
let receiver: SnapshotReceiver;
let server: Server;
const reasons: string[] = [];
/** What happened to the file, in order. */
const steps: string[] = [];
const installed: string[] = [];

beforeEach(async () => {
  directory = await mkdtemp(join(tmpdir(), 'refusals-'));
  const logger = {
    info: () => undefined,
    warn: ({ reason }: { reason?: string }) => reasons.push(reason ?? ''),
    error: () => undefined,
  };
  const { files } = snapshotHost;
  receiver = new SnapshotReceiver({
    ...{ ...snapshotHost, directory, nodeId: 'n2', snapshotBytesMax: 1_000, logger },
    files: {
      ...files,
      open: async (path, flags) => {
        const file = await files.open(path, flags);
        const sync = file.sync.bind(file);
        file.sync = () => sync().then(() => void steps.push('file synced'));
        return file;
      },
      rename: async (from, to) => {
        await files.rename(from, to);
        steps.push('renamed');
      },
      syncDirectory: async (path) => {
        await files.syncDirectory(path);
        steps.push('directory synced');
      },
    },
    onSnapshot: async (_, file) => {
      steps.push('handed on');
      installed.push(file);
    },
  });
  server = createServer((socket) => {
    socket.on('error', () => undefined);
    receiver.accept({
      from: 'n1',
      socket,
      reader: new FrameReader(PEER_FRAME_BYTES_MAX),
      early: [],
    });
  });
  await new Promise<void>((resolve) => server.listen(0, '127.0.0.1', resolve));
  reasons.length = 0;
  installed.length = 0;
  steps.length = 0;
});

afterEach(async () => {
  receiver.close();
  server.close();
  await rm(directory, { recursive: true });
});

/** Says all of it; resolves when the receiver has ended the connection. */
async function say(parts: readonly Buffer[]): Promise<void> {
  const socket = connect((server.address() as AddressInfo).port, '127.0.0.1');
  const closed = new Promise((resolve) => socket.on('close', resolve));
  socket.on('error', () => undefined);
  socket.resume();
  socket.write(Buffer.concat(parts));
  await closed;
}

test('what is as it was announced is handed on when its bytes and its name are durable', async () => {
  await say([...install, ...manifest(), ...chunk()]);
  expect(reasons).toEqual([]);
  expect(installed).toEqual([join(directory, '99-1.snapshot')]);
  expect(steps).toEqual(['file synced', 'renamed', 'directory synced', 'handed on']);
});

test.each<[string, Buffer[][], RegExp]>([
  ['without an announcement', [chunk()], /unexpected snapshotChunk/],
  ['without a manifest', [install, chunk()], /unexpected snapshotChunk/],
  [
    'of another digest',
    [install, manifest({ sha256: Buffer.alloc(32) }), chunk()],
    /size or digest differ/,
  ],
  ['with a bit flipped', [install, manifest(), chunk(0, flipped())], /size or digest differ/],
  ['longer than announced', [install, manifest({ size: 1 }), chunk()], /more bytes than/],
  ['with a gap', [install, manifest(), chunk(5)], /chunks do not follow each other/],
  ['in chunks of nothing', [install, manifest(), chunk(0, Buffer.alloc(0))], /an empty chunk/],
  ['larger than allowed', [install, manifest({ size: 1_001 })], /more than 1000 bytes/],
  [
    'with a message in between',
    [install, manifest(), encodeMessage({ ...message, kind: 'timeoutNow' })],
    /unexpected timeoutNow/,
  ],
])('a snapshot %s is refused, and leaves nothing', async (_, parts, reason) => {
  await say(parts.flat());
  expect(reasons).toEqual([expect.stringMatching(reason)]);
  expect(installed).toEqual([]);
  expect(await readdir(directory)).toEqual([]);
  // The next one is taken.
  await say([...install, ...manifest(), ...chunk()]);
  expect(installed).toHaveLength(1);
});

function flipped(): Buffer {
  const copy = Buffer.from(bytes);
  copy[3] = (copy[3] ?? 0) ^ 1;
  return copy;
}
