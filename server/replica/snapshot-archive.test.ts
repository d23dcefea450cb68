import { createHash, randomBytes } from 'node:crypto';
import { mkdtemp, readdir, readFile, rm, writeFile } from 'node:fs/promises';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { gunzipSync, gzipSync } from 'node:zlib';
import { extract, pack } from 'tar-stream';
import { afterEach, beforeEach, describe, expect, test } from 'vitest';
import { packArchive, unpackArchive } from './snapshot-archive.ts';

const state = randomBytes(300_000);
const sha256 = createHash('sha256').update(state).digest();
const configuration = {
  servers: [
    { id: 'n1', address: '127.0.0.1:1', suffrage: 'voter' as const },
    { id: 'n2', address: '127.0.0.1:2', suffrage: 'learner' as const },
  ],
};
let directory: string;

beforeEach(async () => {
  directory = await mkdtemp(join(tmpdir(), 'archive-'));
});

afterEach(() => rm(directory, { recursive: true }));

async function packed(): Promise<Buffer> {
  const file = join(directory, 'state');
  await writeFile(file, state);
  const snapshot = { lastIncludedIndex: 42, lastIncludedTerm: 3, configuration };
  const manifest = { id: Buffer.alloc(16), size: state.length, sha256 };
  const chunks: Buffer[] = [];
  for await (const chunk of packArchive({ snapshot, manifest, file })) chunks.push(chunk);
  return Buffer.concat(chunks);
}

async function* streamOf(bytes: Uint8Array): AsyncIterable<Uint8Array> {
  for (let start = 0; start < bytes.length; start += 10_000) {
    yield bytes.subarray(start, start + 10_000);
  }
}

/** The code of the refusal, or undefined for an archive that was taken. */
async function refusalOf(bytes: Uint8Array, bytesMax = 1e9): Promise<string | undefined> {
  const file = join(directory, `out-${randomBytes(4).toString('hex')}`);
  try {
    await unpackArchive(streamOf(bytes), { file, bytesMax });
    return undefined;
  } catch (error) {
    return (error as { code?: string }).code;
  }
}

function archiveOf(files: Record<string, string | Buffer>): Promise<Buffer> {
  const archive = pack();
  for (const [name, body] of Object.entries(files)) archive.entry({ name }, body);
  archive.finalize();
  return collect(archive as AsyncIterable<Uint8Array>).then((tar) => gzipSync(tar));
}

async function collect(chunks: AsyncIterable<Uint8Array>): Promise<Buffer> {
  const parts: Uint8Array[] = [];
  for await (const part of chunks) parts.push(part);
  return Buffer.concat(parts);
}

function sumsOf(files: Record<string, string | Buffer>): string {
  const lines = Object.entries(files).map(
    ([name, body]) => `${createHash('sha256').update(body).digest('hex')}  ${name}\n`,
  );
  return lines.join('');
}

test('what is packed is unpacked', async () => {
  const file = join(directory, 'out');
  await unpackArchive(streamOf(await packed()), { file, bytesMax: state.length });
  expect((await readFile(file)).equals(state)).toBe(true);
});

test('the archive has the files and fields of OpenBao', async () => {
  const entries = extract();
  entries.end(gunzipSync(await packed()));
  const files = new Map<string, Buffer>();
  for await (const entry of entries) {
    files.set(entry.header.name, await collect(entry as AsyncIterable<Uint8Array>));
  }
  expect([...files.keys()]).toEqual(['meta.json', 'state.bin', 'SHA256SUMS']);
  expect(JSON.parse(String(files.get('meta.json')))).toEqual({
    Version: 1,
    ID: '3-42',
    Index: 42,
    Term: 3,
    Peers: null,
    Configuration: {
      Servers: [
        { Suffrage: 0, ID: 'n1', Address: '127.0.0.1:1' },
        { Suffrage: 1, ID: 'n2', Address: '127.0.0.1:2' },
      ],
    },
    ConfigurationIndex: 0,
    Size: state.length,
  });
  expect(String(files.get('SHA256SUMS'))).toContain(`${sha256.toString('hex')}  state.bin\n`);
});

describe('what is not whole is refused', () => {
  const good = { 'meta.json': '{}', 'state.bin': 'state' };
  const rows = {
    'no gzip': async () => Buffer.from('not an archive'),
    nothing: async () => Buffer.alloc(0),
    'no tar': async () => gzipSync(randomBytes(5_000)),
    'cut gzip': async () => (await packed()).subarray(0, 200_000),
    'cut tar': async () => gzipSync(gunzipSync(await packed()).subarray(0, 200_000)),
    'a flipped bit': async () => {
      const tar = gunzipSync(await packed());
      tar[100_000] = (tar[100_000] ?? 0) ^ 1;
      return gzipSync(tar);
    },
    'no sums': async () => archiveOf(good),
    'no state': async () => archiveOf({ 'meta.json': '{}', SHA256SUMS: sumsOf(good) }),
    'no metadata': async () => archiveOf({ 'state.bin': 'state', SHA256SUMS: sumsOf(good) }),
    'another file': async () => archiveOf({ ...good, x: 'y', SHA256SUMS: sumsOf(good) }),
    'sums of others': async () => archiveOf({ ...good, SHA256SUMS: sumsOf({ 'state.bin': 'x' }) }),
    'endless metadata': async () =>
      archiveOf({ 'meta.json': Buffer.alloc(8_193), 'state.bin': 'state', SHA256SUMS: '' }),
  };
  test.each(Object.entries(rows))('%s', async (_name, make) => {
    expect(await refusalOf(await make())).toBe('invalid-request');
  });

  test.each([0, 100, 50_000, 250_000])('a stream that breaks off after %d bytes', async (bytes) => {
    const archive = await packed();
    async function* broken(): AsyncIterable<Uint8Array> {
      yield* streamOf(archive.subarray(0, bytes));
      throw new Error('aborted');
    }
    const file = join(directory, 'broken');
    const taken = unpackArchive(broken(), { file, bytesMax: 1e9 });
    await expect(taken).rejects.toMatchObject({ code: 'invalid-request' });
    // Nobody writes to it any more.
    await rm(file, { force: true });
    await new Promise((resolve) => setTimeout(resolve, 50));
    expect(await readdir(directory)).not.toContain('broken');
  });

  test('what unpacks to more than the limit without being a state', async () => {
    const zeros = gzipSync(Buffer.alloc(2_000_000));
    expect(await refusalOf(zeros)).toBe('invalid-request');
    expect(await refusalOf(zeros, 1_000_000)).toBe('too-large');
  });

  test('a state beyond the limit, however small its archive', async () => {
    const zeros = { 'meta.json': '{}', 'state.bin': Buffer.alloc(10_000_000) };
    const archive = await archiveOf({ ...zeros, SHA256SUMS: sumsOf(zeros) });
    expect(archive.length).toBeLessThan(100_000);
    expect(await refusalOf(archive)).toBeUndefined();
    expect(await refusalOf(archive, 9_999_999)).toBe('too-large');
  });

  test('sums beside more, as OpenBao seals them, are no fault', async () => {
    const sums = sumsOf(good);
    const archive = await archiveOf({ ...good, SHA256SUMS: sums, 'SHA256SUMS.sealed': 'x' });
    expect(await refusalOf(archive)).toBeUndefined();
  });
});
