/**
 * Sets a workload up on a cluster: mount, policy, tokens, and one value per key; and takes it down.
 *
 * Everything is announced before it is created (`onCreate`), so that whoever runs this can note it
 * down first and clean up after a crash. All requests go to the active node, through a port that
 * the caller gives.
 */

import assert from 'node:assert/strict';
import type { Method, Request } from '../bench/load/exchange.ts';
import { createRandom } from '../bench/random.ts';
import { kvPath } from './kv.ts';
import { bind, createSetting, valueBody, type Setting, type Workload } from './workload.ts';

/** Requests of the preload in flight at a time: lets the server commit in groups. */
const PRELOAD_CONCURRENCY = 32;

/** Longer than any run. */
const TOKEN_TTL = '24h';

/** Sends one request to the active node and waits for the answer. */
export type Ask = (request: Request) => Promise<{ readonly status: number; readonly body: Buffer }>;

/** Something that exists only for the run. */
export type Creation =
  | { readonly kind: 'mount'; readonly path: string }
  | { readonly kind: 'policy'; readonly name: string };

export type PrepareOptions = {
  readonly workload: Workload;
  readonly seed: number;
  /** Path of the mount and name of the policy: random, so that nothing of anyone's is touched. */
  readonly name: string;
  readonly writer: string;
  /** A token that may mount, write policies, and create tokens. */
  readonly token: string;
  readonly ask: Ask;
  readonly onCreate: (creation: Creation) => void;
  readonly signal: AbortSignal;
};

export async function prepare(options: PrepareOptions): Promise<Setting> {
  const { workload, name, onCreate } = options;
  const admin = adminOf(options.token, options.ask);

  if (workload.mount !== undefined) {
    onCreate({ kind: 'mount', path: name });
    await admin('POST', `/v1/sys/mounts/${name}`, workload.mount);
  }
  onCreate({ kind: 'policy', name });
  await admin('PUT', `/v1/sys/policies/acl/${name}`, { policy: policyText(name) });
  const tokens: string[] = [];
  for (let index = 0; index < workload.tokenCount; index++) {
    options.signal.throwIfAborted();
    const body = await admin('POST', '/v1/auth/token/create', {
      policies: [name],
      ttl: TOKEN_TTL,
    });
    tokens.push(clientTokenOf(body));
  }

  const setting = createSetting({
    seed: options.seed,
    mountPath: workload.mount === undefined ? '' : name,
    writer: options.writer,
    tokens,
  });
  if (workload.preload) await preload(options, setting);
  return setting;
}

/** Removes what `prepare` announced; tokens run out by themselves. */
export async function removeCreation(creation: Creation, token: string, ask: Ask): Promise<void> {
  const admin = adminOf(token, ask);
  switch (creation.kind) {
    case 'mount':
      await admin('DELETE', `/v1/sys/mounts/${creation.path}`, undefined);
      break;
    case 'policy':
      await admin('DELETE', `/v1/sys/policies/acl/${creation.name}`, undefined);
      break;
  }
}

async function preload(options: PrepareOptions, setting: Setting): Promise<void> {
  const { workload, ask, seed, signal } = options;
  const { keyCount } = workload.keyspace;
  const nextValueBytes = bind(workload, setting).chooseValueBytes(createRandom(seed, 'size'));
  const sizes = Array.from({ length: keyCount }, nextValueBytes);

  let next = 0;
  const writeOnes = async (): Promise<void> => {
    while (next < keyCount) {
      signal.throwIfAborted();
      const key = next++;
      const row = { key, valueBytes: sizes[key] ?? 0, seq: 0 };
      const answer = await ask({
        method: 'POST',
        path: kvPath(setting, row),
        headers: setting.writeHeaders[0] ?? [],
        body: valueBody(setting, row),
      });
      assertSuccess(answer, 'write a value before the load');
    }
  };
  await Promise.all(Array.from({ length: PRELOAD_CONCURRENCY }, writeOnes));
}

function adminOf(
  token: string,
  ask: Ask,
): (method: Method, path: string, body: object | undefined) => Promise<Buffer> {
  const headers = ['x-vault-token', token, 'content-type', 'application/json'];
  return async (method, path, body) => {
    const answer = await ask({
      method,
      path,
      headers,
      body: body === undefined ? undefined : JSON.stringify(body),
    });
    assertSuccess(answer, `${method} ${path}`);
    return answer.body;
  };
}

function assertSuccess(answer: { status: number; body: Buffer }, action: string): void {
  if (200 <= answer.status && answer.status < 300) return;
  const text = answer.body.toString('utf8').slice(0, 200);
  throw new Error(`Cannot ${action}: status ${answer.status}: ${text}`);
}

function policyText(mountPath: string): string {
  return `path "${mountPath}/*" {\n  capabilities = ["create", "read", "update", "delete", "list"]\n}\n`;
}

function clientTokenOf(body: Buffer): string {
  const answer: unknown = JSON.parse(body.toString('utf8'));
  assert(typeof answer === 'object' && answer !== null && 'auth' in answer, 'no auth in answer');
  const { auth } = answer;
  assert(typeof auth === 'object' && auth !== null && 'client_token' in auth, 'no client_token');
  assert(typeof auth.client_token === 'string', 'client_token must be a string');
  return auth.client_token;
}
