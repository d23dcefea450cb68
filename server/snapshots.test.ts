/** Snapshots over HTTP, between real processes: saved, restored, and refused. */

import { randomBytes } from 'node:crypto';
import { connect } from 'node:net';

import { afterAll, beforeAll, expect, test } from 'vitest';

import { Workspace, type NodeProcess } from './testing/node-process.ts';

type Cluster = { readonly nodes: readonly NodeProcess[]; readonly token: string; key: string };

const workspaces: Workspace[] = [];
let ours: Cluster;
let other: Cluster;

type Call = {
  readonly method?: string;
  readonly body?: object | Uint8Array;
  readonly headers?: object;
};

async function call(
  { address }: NodeProcess,
  token: string,
  path: string,
  { method = 'GET', body, headers = {} }: Call = {},
): Promise<Response> {
  const isBytes = body instanceof Uint8Array;
  return fetch(`${address}/v1/${path}`, {
    method,
    redirect: 'manual',
    headers: { 'X-Vault-Token': token, ...headers },
    ...(body === undefined ? {} : { body: isBytes ? Buffer.from(body) : JSON.stringify(body) }),
  });
}

async function done(response: Promise<Response>): Promise<number> {
  const { status } = await response.then(async (each) => {
    await each.arrayBuffer();
    return each;
  });
  return status;
}

async function untilHealth(node: NodeProcess, status: number): Promise<void> {
  for (let attempt = 0; attempt < 1_500; attempt += 1) {
    if ((await done(fetch(`${node.address}/v1/sys/health`))) === status) return;
    await new Promise((resolve) => setTimeout(resolve, 10));
  }
  throw new Error(`the node never answered ${status}: ${node.errors()}`);
}

async function start(count: number): Promise<Cluster> {
  const workspace = new Workspace();
  workspaces.push(workspace);
  const first = await workspace.start('n1');
  const shares = { secret_shares: 1, secret_threshold: 1 };
  const init = await call(first, '', 'sys/init', { method: 'POST', body: shares });
  const { keys, root_token: token } = (await init.json()) as { keys: string[]; root_token: string };
  const key = keys[0] ?? '';
  await done(call(first, '', 'sys/unseal', { method: 'POST', body: { key } }));
  await untilHealth(first, 200);
  const nodes = [first];
  for (let number = 2; number <= count; number += 1) {
    const node = await workspace.start(`n${number}`);
    const join = { leader_api_addr: first.address };
    await done(call(node, '', 'sys/storage/raft/join', { method: 'POST', body: join }));
    await done(call(node, '', 'sys/unseal', { method: 'POST', body: { key } }));
    await untilHealth(node, 429);
    nodes.push(node);
  }
  const mount = { method: 'POST', body: { type: 'kv' } };
  expect(await done(call(first, token, 'sys/mounts/kv', mount))).toBe(204);
  return { nodes, token, key };
}

const write = (cluster: Cluster, name: string, value: string): Promise<number> =>
  done(put(cluster, name, value));

const put = ({ nodes, token }: Cluster, name: string, value: string): Promise<Response> =>
  call(nodes[0] as NodeProcess, token, `kv/${name}`, { method: 'POST', body: { value } });

async function read(node: NodeProcess, token: string, name: string, index = ''): Promise<unknown> {
  const headers =
    index === '' ? {} : { 'X-Vault-Index': index, 'X-Vault-Inconsistent': 'forward-active-node' };
  const response = await call(node, token, `kv/${name}`, { headers });
  const body = (await response.json()) as { data?: { value?: string } };
  return response.status === 200 ? body.data?.value : response.status;
}

async function save({ nodes, token }: Cluster): Promise<Buffer> {
  const response = await call(nodes[0] as NodeProcess, token, 'sys/storage/raft/snapshot');
  expect(response.status).toBe(200);
  expect(response.headers.get('Content-Type')).toBe('application/gzip');
  expect(response.headers.get('Content-Disposition')).toBe('attachment');
  return Buffer.from(await response.arrayBuffer());
}

beforeAll(async () => {
  [ours, other] = [await start(2), await start(1)];
}, 60_000);

afterAll(async () => {
  for (const workspace of workspaces) await workspace.remove();
});

test('a saved state is restored on all nodes; its mounts and values are live there at once', async () => {
  const [active, standby] = ours.nodes as [NodeProcess, NodeProcess];
  expect(await write(ours, 'a', 'old')).toBe(204);
  const archive = await save(ours);
  await write(ours, 'a', 'new');
  const added = { method: 'POST', body: { type: 'kv' } };
  await done(call(active, ours.token, 'sys/mounts/added', added));
  const before = await put(ours, 'b', '1');
  await before.arrayBuffer();
  const oldIndex = before.headers.get('X-Vault-Index') ?? '';
  expect(await read(standby, ours.token, 'b', oldIndex)).toBe('1');

  const restore = { method: 'POST', body: archive };
  const restored = await call(active, ours.token, 'sys/storage/raft/snapshot', restore);
  expect([restored.status, await restored.text()]).toEqual([204, '']);
  expect(await read(active, ours.token, 'a')).toBe('old');
  // The standby is asked for what was there before, and for what the active node has by now.
  const marker = await put(ours, 'marker', 'x');
  await marker.arrayBuffer();
  const newIndex = marker.headers.get('X-Vault-Index') ?? '';
  expect(await read(standby, ours.token, 'marker', newIndex)).toBe('x');
  // That may have been the active node's answer; this one is the standby's own.
  const headers = { 'X-Bao-Consistency': 'linearizable' };
  expect(await done(call(standby, ours.token, 'kv/a', { headers }))).toBe(200);
  expect(await read(standby, ours.token, 'a')).toBe('old');
  expect(await read(standby, ours.token, 'b', oldIndex)).toBe(404);
  for (const node of ours.nodes) {
    const mounts = await call(node, ours.token, 'sys/mounts');
    expect(Object.keys((await mounts.json()) as object)).not.toContain('added/');
  }
  // An index of the state that is gone says so by its name.
  const cluster = (index: string): string =>
    (JSON.parse(Buffer.from(index, 'base64').toString()) as { cluster: string }).cluster;
  expect(cluster(newIndex)).toMatch(new RegExp(`^${cluster(oldIndex)}\\.\\d+$`));
});

test('a standby sends the client to the active node', async () => {
  const [active, standby] = ours.nodes as [NodeProcess, NodeProcess];
  for (const [method, path] of [
    ['GET', 'sys/storage/raft/snapshot'],
    ['POST', 'sys/storage/raft/snapshot'],
    ['POST', 'sys/storage/raft/snapshot-force'],
  ] as const) {
    const body = method === 'POST' ? { body: Buffer.alloc(1_000_000) } : {};
    const response = await call(standby, ours.token, path, { method, ...body });
    await response.arrayBuffer();
    expect(response.status).toBe(307);
    expect(response.headers.get('Location')).toBe(`${active.address}/v1/${path}`);
  }
});

test('whoever may not, and what is no snapshot, is refused, and nothing changes', async () => {
  const [active] = ours.nodes as [NodeProcess];
  await write(ours, 'c', '1');
  const path = 'sys/storage/raft/snapshot';
  expect(await done(call(active, 'nobody', path))).toBe(403);
  const archive = await save(ours);
  expect(await done(call(active, 'nobody', path, { method: 'POST', body: archive }))).toBe(403);
  const damaged = Buffer.from(archive);
  damaged.writeUInt8(damaged.readUInt8(damaged.length - 5) ^ 1, damaged.length - 5);
  const rows = [damaged, archive.subarray(0, 1_000), Buffer.from('{}'), Buffer.alloc(0)];
  for (const body of rows) {
    const answer = await call(active, ours.token, path, { method: 'POST', body });
    expect([answer.status, await answer.text()]).toEqual([400, expect.stringContaining('errors')]);
  }
  expect(await read(active, ours.token, 'c')).toBe('1');
});

test('a question that has a body is answered like any other, as often as it is asked', async () => {
  const [active] = ours.nodes as [NodeProcess];
  const { hostname, port } = new URL(active.address);
  for (let count = 0; count < 6; count += 1) {
    const socket = connect(Number(port), hostname);
    const head = [`X-Vault-Token: ${ours.token}`, 'Content-Length: 4', 'Connection: close'];
    const first = `GET /v1/sys/storage/raft/snapshot HTTP/1.1\r\nHost: a`;
    socket.write(`${[first, ...head].join('\r\n')}\r\n\r\nbody`);
    const parts: Buffer[] = [];
    for await (const part of socket) parts.push(part as Buffer);
    const answer = Buffer.concat(parts);
    expect(answer.toString('latin1')).toMatch(/^HTTP\/1\.1 200 /);
    expect(answer.length).toBeGreaterThan(1_000);
  }
});

test('a client that goes away in the midst of a snapshot disturbs nobody', async () => {
  const [active] = ours.nodes as [NodeProcess];
  for (let number = 0; number < 20; number += 1) {
    await write(ours, `big/${number}`, randomBytes(200_000).toString('hex'));
  }
  for (let count = 0; count < 6; count += 1) {
    const gone = new AbortController();
    const { signal } = gone;
    const headers = { 'X-Vault-Token': ours.token };
    const url = `${active.address}/v1/sys/storage/raft/snapshot`;
    const response = await fetch(url, { headers, signal });
    await response.body?.getReader().read();
    gone.abort();
  }
  // More went away than are saved at a time.
  expect((await save(ours)).length).toBeGreaterThan(4_000_000);
  expect(await read(active, ours.token, 'a')).toBe('old');
});

test("another cluster's state is refused; forced, it seals the node until its keys come", async () => {
  const [theirs] = other.nodes as [NodeProcess];
  await write(other, 'a', 'theirs');
  const archive = await save(ours);
  const restore = { method: 'POST', body: archive };
  const refused = await call(theirs, other.token, 'sys/storage/raft/snapshot', restore);
  expect(refused.status).toBe(400);
  expect(await refused.text()).toContain('a different set of unseal keys');
  expect(await read(theirs, other.token, 'a')).toBe('theirs');

  const path = 'sys/storage/raft/snapshot-force';
  expect(await done(call(theirs, other.token, path, restore))).toBe(204);
  await untilHealth(theirs, 503);
  const unseal = (key: string): Promise<number> =>
    done(call(theirs, '', 'sys/unseal', { method: 'POST', body: { key } }));
  expect(await unseal(other.key)).toBe(400);
  expect(await unseal(ours.key)).toBe(200);
  await untilHealth(theirs, 200);
  expect(await read(theirs, ours.token, 'a')).toBe('old');
  expect(await read(theirs, other.token, 'a')).toBe(403);
});
