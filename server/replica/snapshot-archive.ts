/**
 * A state as the file that `sys/storage/raft/snapshot` gives and takes: a gzipped tar with
 * `meta.json`, `state.bin` and `SHA256SUMS`, in the shape of OpenBao's
 * (internal/physical/raft/snapshot/archive.go). What `state.bin` holds is ours.
 */

import { createHash } from 'node:crypto';
import { once } from 'node:events';
import { createReadStream } from 'node:fs';
import { open } from 'node:fs/promises';
import type { Writable } from 'node:stream';
import { pipeline } from 'node:stream/promises';
import { createGunzip, createGzip } from 'node:zlib';
import { extract, pack } from 'tar-stream';
import { ServerError } from '../errors.ts';
import type { SnapshotMetadata } from '../raft/message.ts';
import { Quorum } from '../raft/quorum.ts';
import type { BuiltSnapshot } from './snapshot-builder.ts';

/** OpenBao's limit for all but the state. */
const SMALL_FILE_BYTES_MAX = 8192;
/** What an archive may have beside the state: small files, headers, padding. */
const FRAMING_BYTES_MAX = 64 * 1024;
const MODE = 0o600;

/** Reads the file of the snapshot as the archive is read. */
export function packArchive(built: BuiltSnapshot): AsyncIterable<Buffer> {
  const archive = pack();
  const gzip = createGzip();
  // A failure of either side ends the other, and with it what the reader of `gzip` gets.
  // Whoever reads `gzip` hears of a failure there; unheard here, it would end the process.
  for (const stream of [archive, gzip]) stream.on('error', ignore);
  const closed = new AbortController();
  gzip.once('close', () => closed.abort());
  fill(archive, built, closed.signal).catch((error: Error) => archive.destroy(error));
  pipeline(archive as AsyncIterable<Buffer>, gzip).catch((error: Error) => gzip.destroy(error));
  return gzip;
}

async function fill(
  archive: ReturnType<typeof pack>,
  built: BuiltSnapshot,
  signal: AbortSignal,
): Promise<void> {
  const { snapshot, manifest, file } = built;
  const meta = Buffer.from(`${JSON.stringify(metaOf(snapshot, manifest.size))}\n`);
  archive.entry({ name: 'meta.json', mode: MODE }, meta);
  const state = archive.entry({ name: 'state.bin', mode: MODE, size: manifest.size });
  state.on('error', ignore);
  for await (const chunk of createReadStream(file)) {
    if (!state.write(chunk)) await once(state as unknown as Writable, 'drain', { signal });
  }
  state.end(undefined);
  const sums =
    `${createHash('sha256').update(meta).digest('hex')}  meta.json\n` +
    `${manifest.sha256.toString('hex')}  state.bin\n`;
  archive.entry({ name: 'SHA256SUMS', mode: MODE }, sums);
  archive.finalize();
}

function ignore(): void {}

/** The fields of hashicorp/raft's `SnapshotMeta`; of suffrage, 0 is a voter. */
function metaOf(snapshot: SnapshotMetadata, size: number): object {
  const { lastIncludedIndex: Index, lastIncludedTerm: Term, configuration } = snapshot;
  const quorum = new Quorum(configuration);
  const Servers = configuration.servers.map(({ id, address }) => ({
    Suffrage: quorum.includes(id) ? 0 : 1,
    ID: id,
    Address: address,
  }));
  const identity = { Version: 1, ID: `${Term}-${Index}`, Index, Term, Peers: null };
  return { ...identity, Configuration: { Servers }, ConfigurationIndex: 0, Size: size };
}

/**
 * Writes the archive's state to `file`, which must not exist. Rejects with `invalid-request` if the
 * archive is not whole, and with `too-large` if the state has more than `bytesMax`.
 */
export async function unpackArchive(
  archive: AsyncIterable<Uint8Array>,
  { file, bytesMax }: { readonly file: string; readonly bytesMax: number },
): Promise<void> {
  const entries = extract();
  const limited = (unzipped: AsyncIterable<Uint8Array>): AsyncIterable<Uint8Array> =>
    withLimit(unzipped, bytesMax);
  const fed = pipeline(archive, createGunzip(), limited, entries as unknown as Writable);
  const read = readEntries(entries, { file, bytesMax });
  // Both must have ended before the caller removes the file; whichever fails ends the other.
  const [feeding, reading] = await Promise.allSettled([fed, read]);
  if (reading.status === 'rejected') throw asInvalid(reading.reason);
  if (feeding.status === 'rejected') throw asInvalid(feeding.reason);
  check(reading.value);
}

/** Zeros cost a thousandth of their length to send, and as a tar they are nothing at all. */
async function* withLimit(
  unzipped: AsyncIterable<Uint8Array>,
  bytesMax: number,
): AsyncIterable<Uint8Array> {
  let size = 0;
  for await (const chunk of unzipped) {
    size += chunk.length;
    if (bytesMax + FRAMING_BYTES_MAX < size) throw tooLarge(bytesMax);
    yield chunk;
  }
}

type Sums = { readonly found: ReadonlyMap<string, string>; readonly listed: string };

async function readEntries(
  entries: ReturnType<typeof extract>,
  { file, bytesMax }: { readonly file: string; readonly bytesMax: number },
): Promise<Sums> {
  const found = new Map<string, string>();
  let listed = '';
  for await (const source of entries) {
    const { name } = source.header;
    // Its declaration does not say of what it is a stream.
    const entry = source as AsyncIterable<Uint8Array>;
    if (found.has(name)) throw invalidArchive(`a second ${name}`);
    if (name === 'state.bin') found.set(name, await writeState(entry, { file, bytesMax }));
    else if (name === 'meta.json') found.set(name, sha256(await readSmall(entry)));
    else if (name === 'SHA256SUMS') listed = (await readSmall(entry)).toString();
    else if (name === 'SHA256SUMS.sealed') await readSmall(entry);
    else throw invalidArchive(`unexpected file ${JSON.stringify(name)} in snapshot`);
  }
  return { found, listed };
}

async function writeState(
  entry: AsyncIterable<Uint8Array>,
  { file, bytesMax }: { readonly file: string; readonly bytesMax: number },
): Promise<string> {
  const hash = createHash('sha256');
  const handle = await open(file, 'wx', MODE);
  let size = 0;
  try {
    for await (const chunk of entry) {
      size += chunk.length;
      if (bytesMax < size) throw tooLarge(bytesMax);
      hash.update(chunk);
      await handle.writeFile(chunk);
    }
  } finally {
    await handle.close();
  }
  return hash.digest('hex');
}

async function readSmall(entry: AsyncIterable<Uint8Array>): Promise<Buffer> {
  const parts: Uint8Array[] = [];
  let size = 0;
  for await (const part of entry) {
    size += part.length;
    if (SMALL_FILE_BYTES_MAX < size) throw invalidArchive('a file is too long');
    parts.push(part);
  }
  return Buffer.concat(parts);
}

function check({ found, listed }: Sums): void {
  const lines = new Set(listed.split('\n').filter((line) => line !== ''));
  for (const name of ['meta.json', 'state.bin']) {
    const digest = found.get(name);
    if (digest === undefined) throw invalidArchive(`file missing for "${name}"`);
    if (!lines.has(`${digest}  ${name}`)) throw invalidArchive(`hash check failed for "${name}"`);
  }
}

function sha256(bytes: Buffer): string {
  return createHash('sha256').update(bytes).digest('hex');
}

function asInvalid(error: unknown): ServerError {
  if (error instanceof ServerError) return error;
  return invalidArchive(error instanceof Error ? error.message : String(error), error);
}

function tooLarge(bytesMax: number): ServerError {
  return new ServerError('too-large', `the snapshot's state has more than ${bytesMax} bytes`);
}

function invalidArchive(reason: string, cause?: unknown): ServerError {
  return new ServerError('invalid-request', `failed reading snapshot: ${reason}`, { cause });
}
