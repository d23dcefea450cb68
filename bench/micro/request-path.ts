/**
 * What a read passes between the socket's bytes and its answer: each stop alone, then the core as
 * a whole, on storage that is a map in memory.
 */

import assert from 'node:assert/strict';
import { randomBytes } from 'node:crypto';

import { createBackends } from '../../server/backend-wiring.ts';
import { compileAcl } from '../../server/core/acl.ts';
import { ROOT_NAMESPACE } from '../../server/core/backend.ts';
import type { LogicalResponse } from '../../server/core/backend.ts';
import { Barrier } from '../../server/core/barrier.ts';
import type { Core } from '../../server/core/core.ts';
import { parsePolicy } from '../../server/core/policy.ts';
import { envelope } from '../../server/http/envelope.ts';
import {
  createCall,
  createTestCore,
  enableMount,
  unseal,
  untilActive,
} from '../../server/testing/core-node.ts';
import { createMemoryCluster } from '../../server/testing/memory-physical.ts';
import type { MicroBenchmark, MicroGroup } from './benchmark.ts';

const CALLS = 1000;
/** For what takes some microseconds. */
const SLOW_CALLS = 100;
/** Inputs that take turns; a power of two, so that choosing one costs nothing to speak of. */
const VARIANTS = 64;
const VALUE_BYTES = 1024;
const MOUNTS = 20;
const RULES = 50;
const POLICY = 'micro';
const LEASE_TTL_SECONDS = 3600;

export async function requestPath(): Promise<MicroGroup> {
  const { core, tokens } = await startCore();
  const read = await core.handleRequest(createCall('read', secretPath(0), tokens[0] ?? ''));
  assert(read !== undefined);
  return {
    benchmarks: [
      ...(await barrierAccess()),
      aclCheck(),
      routerLookup(core),
      tokenLookup(core, tokens),
      kvRead(core, tokens),
      ...envelopes(read),
    ],
    close: () => core.seal(),
  };
}

/** Real backends, 20 mounts, and as many tokens and secrets as there are variants. */
async function startCore(): Promise<{ core: Core; tokens: readonly string[] }> {
  const memory = createMemoryCluster().leader();
  const clock = (): number => Date.now();
  const backends = createBackends({
    core: () => core,
    replication: memory.replication,
    version: POLICY,
    leaseTtl: { defaultSeconds: LEASE_TTL_SECONDS, maxSeconds: LEASE_TTL_SECONDS },
    metrics: async () => '',
    stateHash: undefined,
    clock,
  });
  const core: Core = createTestCore(memory, {}, { backends, clock });
  const { keys, rootToken } = await core.initialize({ shares: 1, threshold: 1 });
  await unseal(core, keys);
  await untilActive(core);
  for (let i = 0; i < MOUNTS; i += 1) await enableMount(core, `mount-${i}/`);
  await core.services().policies.set(POLICY, { text: policyText() });
  const tokens: string[] = [];
  const data = { value: randomBytes((VALUE_BYTES * 3) / 4).toString('base64') };
  for (let i = 0; i < VARIANTS; i += 1) {
    await core.handleRequest(createCall('update', secretPath(i), rootToken, { data }));
    const created = await core.handleRequest(
      createCall('update', 'auth/token/create', rootToken, { data: { policies: [POLICY] } }),
    );
    assert(created?.auth !== undefined);
    tokens.push(created.auth.clientToken);
  }
  return { core, tokens };
}

function secretPath(i: number): string {
  return `mount-${i % MOUNTS}/team/secret-${i}`;
}

/** Exact rules, prefixes and segment wildcards, in equal parts. */
function policyText(): string {
  const paths = Array.from({ length: RULES }, (_, i) => {
    if (i % 3 === 0) return `mount-${i % MOUNTS}/team/secret-${i}`;
    return i % 3 === 1 ? `mount-${i % MOUNTS}/*` : `mount-${i % MOUNTS}/+/secret-${i}`;
  });
  // The last one, so that every secret can be read.
  paths[RULES - 1] = 'mount-*';
  return paths.map((path) => `path "${path}" { capabilities = ["read", "list"] }`).join('\n');
}

async function barrierAccess(): Promise<MicroBenchmark[]> {
  const { physical } = createMemoryCluster().leader();
  const barrier = new Barrier(physical, physical);
  barrier.initialize(randomBytes(32), Date.now());
  barrier.setReadOnly(false);
  const values = Array.from({ length: VARIANTS }, () => randomBytes(VALUE_BYTES));
  const paths = values.map((_, i) => `logical/5f0c1c1e-3a51-4d5c-8b0f-2f6a1e0b7c55/secret-${i}`);
  for (const [i, path] of paths.entries()) await barrier.put(path, values[i] ?? randomBytes(1));
  return [
    {
      kind: 'sync',
      name: 'barrier: get and decrypt 1 KiB',
      callsPerSample: SLOW_CALLS,
      run: () => {
        let bytes = 0;
        for (let i = 0; i < SLOW_CALLS; i += 1) {
          bytes += barrier.get(paths[i % VARIANTS] ?? '')?.[i % VALUE_BYTES] ?? Number.NaN;
        }
        return bytes;
      },
    },
    {
      kind: 'sync',
      name: 'barrier: encrypt 1 KiB for a put',
      callsPerSample: SLOW_CALLS,
      run: () => {
        let bytes = 0;
        for (let i = 0; i < SLOW_CALLS; i += 1) {
          const value = values[i % VARIANTS];
          assert(value !== undefined);
          bytes += barrier.sealFor(paths[i % VARIANTS] ?? '', value)[i % VALUE_BYTES] ?? Number.NaN;
        }
        return bytes;
      },
    },
  ];
}

function aclCheck(): MicroBenchmark {
  const acl = compileAcl([parsePolicy(POLICY, policyText())], Date.now());
  const paths = Array.from({ length: VARIANTS }, (_, i) => secretPath(i));
  const data = {};
  return {
    kind: 'sync',
    name: `acl: check a path against ${RULES} rules`,
    callsPerSample: CALLS,
    run: () => {
      let allowed = 0;
      for (let i = 0; i < CALLS; i += 1) {
        if (acl.check('read', paths[i % VARIANTS] ?? '', data).allowed) allowed += 1;
      }
      assert.equal(allowed, CALLS);
      return allowed;
    },
  };
}

function routerLookup(core: Core): MicroBenchmark {
  const { router } = core.services();
  const paths = Array.from({ length: VARIANTS }, (_, i) => secretPath(i));
  return {
    kind: 'sync',
    name: `router: find the mount of a path among ${MOUNTS}`,
    callsPerSample: CALLS,
    run: () => {
      let length = 0;
      for (let i = 0; i < CALLS; i += 1) {
        const route = router.match(ROOT_NAMESPACE, paths[i % VARIANTS] ?? '');
        length += route?.mountPoint.length ?? Number.NaN;
      }
      return length;
    },
  };
}

function tokenLookup(core: Core, tokens: readonly string[]): MicroBenchmark {
  const { tokens: store } = core.services();
  return {
    kind: 'sync',
    name: 'token store: look up a cached token',
    callsPerSample: CALLS,
    run: () => {
      let policies = 0;
      for (let i = 0; i < CALLS; i += 1) {
        policies += store.lookup(tokens[i % VARIANTS] ?? '')?.policies.length ?? Number.NaN;
      }
      return policies;
    },
  };
}

function kvRead(core: Core, tokens: readonly string[]): MicroBenchmark {
  const calls = tokens.map((token, i) => createCall('read', secretPath(i), token));
  return {
    kind: 'async',
    name: 'core: handle a whole KV v1 read of 1 KiB',
    callsPerSample: SLOW_CALLS,
    run: async () => {
      let bytes = 0;
      for (let i = 0; i < SLOW_CALLS; i += 1) {
        const call = calls[i % VARIANTS];
        assert(call !== undefined);
        const response = await core.handleRequest(call);
        bytes += response?.dataJson?.length ?? Number.NaN;
      }
      return bytes;
    },
  };
}

function envelopes(read: LogicalResponse): MicroBenchmark[] {
  const data = { id: 's.0123456789', policies: ['default', POLICY], ttl: 1, meta: null };
  const responses = [
    { name: 'http: envelope of a KV v1 read of 1 KiB', response: read },
    { name: 'http: envelope of data still to be serialised', response: { data } },
  ];
  const requestIds = Array.from({ length: VARIANTS }, () => randomBytes(16).toString('hex'));
  return responses.map(({ name, response }) => ({
    kind: 'sync',
    name,
    callsPerSample: CALLS,
    run: () => {
      let characters = 0;
      for (let i = 0; i < CALLS; i += 1) {
        const text = envelope(requestIds[i % VARIANTS] ?? '', response, false);
        // A character from within: concatenation alone is put off until somebody reads.
        characters += text.charCodeAt(i % text.length);
      }
      return characters;
    },
  }));
}
