/**
 * What a node does with what it should never be given: each mistake gets a clear error, and
 * nothing that was acknowledged is lost. Real processes, started by the command line.
 */

import assert from 'node:assert/strict';
import { createHash, randomBytes } from 'node:crypto';
import { once } from 'node:events';
import {
  existsSync,
  mkdirSync,
  mkdtempSync,
  readFileSync,
  readdirSync,
  rmSync,
  statSync,
  writeFileSync,
} from 'node:fs';
import { connect } from 'node:net';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { setTimeout as delay } from 'node:timers/promises';

import { Client } from 'undici';
import { afterAll, afterEach, beforeAll, beforeEach, describe, expect, test } from 'vitest';

import { call, expectOk } from '../bench/cluster/admin-api.ts';
import { endChildNodes, killChildNodes, spawnNode, type ChildNode } from './child-node.ts';
import { createSmallDisk } from './small-disk.ts';

const TIMEOUT_MS = 120_000;
const UNTIL_ACTIVE_MS = 60_000;
const POLL_MS = 20;
const REQUEST_BYTES_MAX = 64 * 1024;

type Served = {
  readonly child: ChildNode;
  readonly address: string;
  readonly token: string;
  readonly keys: readonly string[];
};

let directory: string;

beforeEach(() => {
  directory = mkdtempSync(join(tmpdir(), 'baobench-bad-'));
});

afterEach(() => {
  rmSync(directory, { recursive: true, force: true });
});

afterAll(killChildNodes);

describe('a request that makes no sense', () => {
  let home: string;
  let node: Served;

  beforeAll(async () => {
    home = mkdtempSync(join(tmpdir(), 'baobench-bad-'));
    node = await serveNew(writeConfig(home));
    await write(node, 'anchor', 'still here');
  }, TIMEOUT_MS);

  afterAll(async () => {
    await node.child.stop();
    rmSync(home, { recursive: true, force: true });
  }, TIMEOUT_MS);

  test.each([
    ['{"value":', 'failed to decode JSON input: unexpected end of input'],
    ['{"value" 1}', 'failed to decode JSON input: invalid character at position 9'],
    ['["value"]', 'failed to decode JSON input: expected an object'],
    ['value=1', expect.stringContaining('failed to decode JSON input: ')],
    [`{"a":${'['.repeat(200)}${']'.repeat(200)}}`, 'JSON nested deeper than 128'],
  ])('malformed JSON %# is a 400, and its connection goes on', async (body, message) => {
    const client = new Client(node.address);
    let connections = 0;
    client.on('connect', () => {
      connections += 1;
    });
    try {
      const headers = { 'x-vault-token': node.token };
      const refused = await client.request({
        method: 'PUT',
        path: '/v1/kv/anchor',
        headers,
        body,
      });
      expect(refused.statusCode).toBe(400);
      expect(await refused.body.json()).toEqual({ errors: [message] });

      const answer = await client.request({ method: 'GET', path: '/v1/kv/anchor', headers });
      expect(answer.statusCode).toBe(200);
      expect(await answer.body.json()).toMatchObject({ data: { value: 'still here' } });
      expect(connections).toBe(1);
    } finally {
      await client.close();
    }
  });

  test.each([
    { kind: 'announced', head: `Content-Length: ${2 * REQUEST_BYTES_MAX}`, frame: '' },
    {
      kind: 'chunked',
      head: 'Transfer-Encoding: chunked',
      frame: `${(2 * REQUEST_BYTES_MAX).toString(16)}\r\n`,
    },
  ])('a body that is too large, $kind, is a 413', async ({ head, frame }) => {
    const request = `PUT /v1/kv/anchor HTTP/1.1\r\nHost: node\r\nX-Vault-Token: ${node.token}\r\n${head}\r\n\r\n`;
    const answer = await exchange(node, `${request}${frame}${'x'.repeat(2 * REQUEST_BYTES_MAX)}`);
    expect(answer).toMatch(/^HTTP\/1\.1 413 /);
    expect(answer).toContain('{"errors":["http: request body too large"]}');
    await expectValue(node, 'anchor', 'still here');
  });

  test.each([
    ['a method that HTTP does not know', 'BREW', 'unsupported method'],
    ['a method that OpenBao does not know', 'PURGE', 'unsupported method PURGE'],
    ['a method in lower case', 'get', 'unsupported method'],
  ])('%s is refused, and the node goes on', async (_what, method, message) => {
    const head = `Host: node\r\nConnection: close\r\nX-Vault-Token: ${node.token}`;
    const answer = await exchange(node, `${method} /v1/kv/anchor HTTP/1.1\r\n${head}\r\n\r\n`);
    expect(answer).toMatch(/^HTTP\/1\.1 405 /);
    expect(answer).toContain(JSON.stringify({ errors: [message] }));
    await expectValue(node, 'anchor', 'still here');
  });

  test.each([
    ['bytes that are no HTTP', Buffer.from([0, 255, 13, 10, 13, 10])],
    ['a request for a tunnel', Buffer.from('CONNECT node:80 HTTP/1.1\r\nHost: node\r\n\r\n')],
    ['the beginning of a TLS handshake', Buffer.from('16030100c8010000c40303', 'hex')],
    ['a header without a name', Buffer.from('GET /v1/kv/anchor HTTP/1.1\r\n: 1\r\n\r\n')],
  ])('%s: a 4xx, and the node goes on', async (_what, bytes) => {
    const answer = await exchange(node, bytes);
    expect(answer).toMatch(/^HTTP\/1\.1 4\d\d [^]*\{"errors":\["[^"]+"\]\}/);
    await expectValue(node, 'anchor', 'still here');
  });
});

describe('a configuration that makes no sense', () => {
  test.each([
    {
      what: 'an unknown key',
      config: configText('DATA').replace('tls_disable', 'tls_disabel'),
      complaint: ':6:3: unknown key "tls_disabel", did you mean "tls_disable"?',
    },
    {
      what: 'an unknown block',
      config: configText('DATA').replace('listener', 'listner'),
      complaint: ':4:1: unknown key "listner", did you mean "listener"?',
    },
    {
      what: 'a value out of bounds',
      config: configText('DATA').replace(`${REQUEST_BYTES_MAX}`, '12'),
      complaint: ':7:3: max_request_size: expected an integer from 1024 to 33554432',
    },
    {
      what: 'a value of another kind',
      config: configText('DATA').replace('"warn"', '"loud"'),
      complaint: ':9:1: log_level: expected one of trace, debug, info, warn, error, fatal, silent',
    },
    {
      what: 'a text that ends too early',
      config: 'storage "raft" {\n  path = ',
      complaint:
        ':2:10: expected a value (string, number, bool, list or object), found the end of the text',
    },
  ])(
    '$what: its place on stderr, exit code 1, nothing on disk',
    async ({ config, complaint }) => {
      const file = join(directory, 'node.hcl');
      const data = join(directory, 'data');
      writeFileSync(file, config.replace('DATA', data));
      const { code, errorOutput } = await spawnNode(file).exited;
      expect({ code, errorOutput }).toEqual({
        code: 1,
        errorOutput: `baobench server: ${file}${complaint}\n`,
      });
      expect(existsSync(data)).toBe(false);
    },
    TIMEOUT_MS,
  );
});

describe('a port in use', () => {
  test.each([
    { which: 'the API', key: 'address' },
    { which: 'the cluster', key: 'cluster_address' },
  ])(
    'that of $which: an error that names it, exit code 1, nothing on disk',
    async ({ key }) => {
      const first = spawnNode(writeConfig(join(directory, 'first')));
      const port = new URL(await first.listening).port;
      const file = writeConfig(join(directory, 'second'), {
        [key]: `"127.0.0.1:${port}"`,
      });

      const { code, errorOutput } = await spawnNode(file).exited;
      expect(code).toBe(1);
      expect(errorOutput).toContain(
        `baobench server: address 127.0.0.1:${port} is already in use\n`,
      );
      expect(existsSync(join(directory, 'second', 'data'))).toBe(false);
      expect((await first.stop()).code).toBe(0);
    },
    TIMEOUT_MS,
  );
});

describe('a wrong unseal key', () => {
  test(
    "OpenBao's text, still sealed, and the right keys still unseal",
    async () => {
      const file = writeConfig(directory);
      const first = await serveNew(file, { shares: 3, threshold: 2 });
      await write(first, 'anchor', 'still here');
      await first.child.stop();

      const child = spawnNode(file);
      const address = await child.listening;
      const share = (key: string) => call('PUT', 'sys/unseal', { address, body: { key } });
      const refusals = [
        ['not base64!', "'key' must be a valid hex or base64 string"],
        ['AAAA', 'invalid key: key is shorter than minimum 16 bytes'],
        [randomBytes(64).toString('base64'), 'invalid key: key is longer than maximum 33 bytes'],
      ] as const;
      for (const [key, message] of refusals) {
        expect(await share(key)).toMatchObject({ status: 400, body: { errors: [message] } });
      }
      const [one = '', two = ''] = first.keys;
      expect(await share(one)).toMatchObject({ status: 200, body: { progress: 1 } });
      expect(await share(wrongShare(two))).toMatchObject({
        status: 400,
        body: { errors: ['Unseal failed, invalid key'] },
      });
      const status = await call('GET', 'sys/seal-status', { address });
      expect(status.body).toMatchObject({ sealed: true, progress: 0 });

      const node = { ...first, child, address };
      await unseal(node);
      await expectValue(node, 'anchor', 'still here');
      expect((await child.stop()).code).toBe(0);
    },
    TIMEOUT_MS,
  );
});

describe('a damaged log', () => {
  test.each([
    { where: 'a record of the first segment', segment: 0, offset: 700, named: /^512$/ },
    { where: 'a record of the last segment', segment: -1, offset: 700, named: /^\d{3}$/ },
    { where: 'the header of a segment', segment: -1, offset: 100, named: /^0$/ },
  ])(
    '$where: start refuses by file and offset and leaves the log alone',
    async ({ segment, offset, named }) => {
      const file = writeConfig(directory);
      const first = await serveNew(file);
      for (let i = 0; i < 5; i++) await write(first, `key-${i}`, `value ${i}`);
      await first.child.stop();

      const log = join(directory, 'data', 'log');
      const segments = readdirSync(log).filter((name) => name.endsWith('.wal'));
      const damaged = join(log, segments.toSorted().at(segment) ?? '');
      flipByte(damaged, offset);
      const before = digests(log);

      const { code, errorOutput } = await spawnNode(file).exited;
      expect(code).toBe(1);
      const place = /Cannot open the log: (\S+), offset (\d+): .*(checksum|damaged)/.exec(
        errorOutput,
      );
      expect(place?.[1], errorOutput).toBe(damaged);
      expect(place?.[2]).toMatch(named);
      expect(digests(log)).toEqual(before);

      flipByte(damaged, offset);
      const node = await serveAgain(file, first);
      for (let i = 0; i < 5; i++) await expectValue(node, `key-${i}`, `value ${i}`);
      expect((await node.child.stop()).code).toBe(0);
    },
    TIMEOUT_MS,
  );
});

describe('a full disk', () => {
  /** In place of an answer: the connection broke. */
  const BROKEN = { status: 0, headers: {}, body: {} };
  const BODIES = new Map<number | undefined, object>([
    [504, { errors: ['the outcome of the write is unknown: the node failed'] }],
    [503, { errors: [expect.stringMatching(/^(?:no active node found|Vault is sealed)$/)] }],
    [BROKEN.status, {}],
  ]);
  const VALUE_BYTES = 24 * 1024;
  const WRITES_MAX = 200;

  test.each([
    // LevelDB's own log finds the end of the disk first; the raft log fills a MiB ahead.
    { what: 'nothing left', fsmMode: 'sync', bytesLeft: 0, answers: [504] },
    // Here the raft log does, when it reaches for its next MiB.
    { what: 'a little left', fsmMode: 'sync', bytesLeft: 1_400_000, answers: [504] },
    // The store's disk is nobody's to wait for: it may fail while no write is under way.
    // On its way out the node refuses what comes.
    { what: 'nothing left', fsmMode: 'overlay', bytesLeft: 0, answers: [504, 503, BROKEN.status] },
  ])(
    '$what, $fsmMode: the write fails, the node ends, and all that was acknowledged is there afterwards',
    async ({ fsmMode, bytesLeft, answers }) => {
      const disk = createSmallDisk(join(directory, 'disk'));
      assert(disk !== undefined, 'this test needs the right to mount, or prlimit (util-linux)');
      try {
        const file = writeConfig(disk.directory, {}, `  fsm_mode = "${fsmMode}"\n`);
        const first = await serveNew(file);
        const acknowledged = new Map<string, string>();
        await writeValue(acknowledged, first, 'early');

        disk.leave(bytesLeft, first.child.processId);
        let failed: Awaited<ReturnType<typeof put>> | undefined;
        for (let i = 0; failed === undefined && i < WRITES_MAX; i++) {
          failed = await writeValue(acknowledged, first, `key-${i}`);
        }
        expect(answers).toContain(failed?.status);
        expect(failed?.body).toEqual(BODIES.get(failed?.status));
        const { code, errorOutput } = await first.child.exited;
        expect(code).toBe(1);
        expect(errorOutput).toMatch(
          /"level":60.*(no space left on device|file too large).*"node failed"/i,
        );

        disk.free();
        const node = await serveAgain(file, first);
        for (const [key, value] of acknowledged) await expectValue(node, key, value);
        await write(node, 'late', 'room again');
        await expectValue(node, 'late', 'room again');
        expect((await node.child.stop()).code).toBe(0);
      } finally {
        await endChildNodes();
        disk.remove();
      }
    },
    TIMEOUT_MS,
  );

  /** Returns the answer of a write that was not acknowledged. */
  async function writeValue(acknowledged: Map<string, string>, node: Served, key: string) {
    const value = randomBytes(VALUE_BYTES).toString('base64');
    const answer = await put(node, key, value).catch(() => BROKEN);
    if (answer.status !== 204) return answer;
    acknowledged.set(key, value);
    return undefined;
  }
});

function configText(
  data: string,
  listener: { readonly [key: string]: string } = {},
  storage = '',
): string {
  const more = Object.entries(listener).map(([key, value]) => `  ${key} = ${value}\n`);
  return `storage "raft" {
  path = "${data}"
${storage}}
listener "tcp" {
${'address' in listener ? '' : '  address = "127.0.0.1:0"\n'}  tls_disable = true
  max_request_size = ${REQUEST_BYTES_MAX}
${more.join('')}}
log_level = "warn"
`;
}

/** The file of a configuration; the node's data is in `data` beside it. */
function writeConfig(
  home: string,
  listener: { readonly [key: string]: string } = {},
  storage = '',
): string {
  mkdirSync(home, { recursive: true });
  const file = join(home, 'node.hcl');
  writeFileSync(file, configText(join(home, 'data'), listener, storage));
  return file;
}

/** A node with a kv mount at `kv/`. */
async function serveNew(
  configFile: string,
  { shares, threshold } = { shares: 1, threshold: 1 },
): Promise<Served> {
  const child = spawnNode(configFile);
  const address = await child.listening;
  const { body } = await expectOk('PUT', 'sys/init', {
    address,
    body: { secret_shares: shares, secret_threshold: threshold },
  });
  const token = String(body['root_token']);
  const keys = (body['keys_base64'] as readonly unknown[]).map(String);
  const node = { child, address, token, keys };
  await unseal(node);
  await expectOk('PUT', 'sys/mounts/kv', { address, token, body: { type: 'kv' } });
  return node;
}

async function serveAgain(configFile: string, before: Served): Promise<Served> {
  const child = spawnNode(configFile);
  const node = { ...before, child, address: await child.listening };
  await unseal(node);
  return node;
}

/** Resolves when the node is active. */
async function unseal({ address, keys }: Served): Promise<void> {
  let isSealed = true;
  for (const key of keys) {
    if (!isSealed) break;
    const { body } = await expectOk('PUT', 'sys/unseal', { address, body: { key } });
    isSealed = body['sealed'] === true;
  }
  const deadlineMs = performance.now() + UNTIL_ACTIVE_MS;
  while ((await call('GET', 'sys/health', { address })).status !== 200) {
    assert(performance.now() < deadlineMs, 'the node did not become active');
    await delay(POLL_MS);
  }
}

function put({ address, token }: Served, key: string, value: string) {
  return call('PUT', `kv/${key}`, { address, token, body: { value } });
}

async function write(node: Served, key: string, value: string): Promise<void> {
  expect((await put(node, key, value)).status).toBe(204);
}

async function expectValue({ address, token }: Served, key: string, value: string) {
  const answer = await call('GET', `kv/${key}`, { address, token });
  expect(answer.body['data'], key).toEqual({ value });
}

/** Sends bytes as they are, and returns all that comes back until the node closes. */
async function exchange(node: Served, bytes: string | Buffer): Promise<string> {
  const { hostname, port } = new URL(node.address);
  const socket = connect(Number(port), hostname);
  let answer = '';
  socket.setEncoding('utf8').on('data', (text: string) => {
    answer += text;
  });
  // The node may close while it is still being sent to.
  socket.on('error', () => undefined);
  socket.write(bytes);
  await once(socket, 'close');
  return answer;
}

/** A share of the right form that belongs to no key. */
function wrongShare(share: string): string {
  const bytes = Buffer.from(share, 'base64');
  bytes[0] = (bytes[0] ?? 0) ^ 1;
  return bytes.toString('base64');
}

function flipByte(file: string, offset: number): void {
  const bytes = readFileSync(file);
  assert(offset < bytes.length);
  bytes[offset] = (bytes[offset] ?? 0) ^ 1;
  writeFileSync(file, bytes);
}

/** Name, size and digest of every file but the lock. */
function digests(folder: string): string[] {
  return readdirSync(folder)
    .filter((name) => name !== 'lock')
    .toSorted()
    .map((name) => {
      const path = join(folder, name);
      const digest = createHash('sha256').update(readFileSync(path)).digest('hex');
      return `${name} ${statSync(path).size} ${digest}`;
    });
}
