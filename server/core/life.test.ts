/** Init, unseal, promotion, loss, seal, join: each transition, and what survives it. */

import { describe, expect, test } from 'vitest';
import {
  createCall,
  createTestCore,
  enableMount,
  startTestCluster,
  unseal,
  until,
  untilActive,
} from '../testing/core-node.ts';
import { createMemoryCluster } from '../testing/memory-physical.ts';
import type { MemoryNode } from '../testing/memory-physical.ts';
import { ROOT_NAMESPACE } from './backend.ts';
import type { Backend } from './backend.ts';
import type { Core } from './core.ts';
import { ServerError } from '../errors.ts';
import type { JoinClient } from './ports.ts';

const CONFIG = { shares: 3, threshold: 2 };

function startFresh(): { core: Core; memory: MemoryNode } {
  const memory = createMemoryCluster().leader();
  return { core: createTestCore(memory), memory };
}

describe('init', () => {
  test('leaves the node initialized and sealed; a second one is refused', async () => {
    const { core } = startFresh();
    expect(core.sealStatus()).toMatchObject({ initialized: false, sealed: true, t: 0, n: 0 });
    expect(core.leader()).toBeUndefined();
    const { keys, rootToken } = await core.initialize(CONFIG);
    expect(keys).toHaveLength(3);
    expect(rootToken).toMatch(/^s\.[A-Za-z0-9]{24}$/);
    expect(core.sealStatus()).toMatchObject({ initialized: true, sealed: true, t: 2, n: 3 });
    await expect(core.initialize(CONFIG)).rejects.toThrow('Vault is already initialized');
  });

  test('two at once: one founds the cluster', async () => {
    const { core } = startFresh();
    const results = await Promise.allSettled([core.initialize(CONFIG), core.initialize(CONFIG)]);
    expect(results.map(({ status }) => status)).toEqual(['fulfilled', 'rejected']);
  });

  test('bad numbers change nothing', async () => {
    const { core, memory } = startFresh();
    await expect(core.initialize({ shares: 2, threshold: 3 })).rejects.toMatchObject({
      code: 'invalid-request',
    });
    expect(memory.physical.appliedIndex()).toBe(0);
    await core.initialize({ shares: 1, threshold: 1 });
  });

  test('one that failed half-way counts for nothing, and says how to go on', async () => {
    const memory = createMemoryCluster().leader();
    let writes = 0;
    const physical = {
      ...memory.physical,
      write: (operations: Parameters<typeof memory.physical.write>[0]) => {
        writes += 1;
        if (writes === 2) return Promise.reject(new Error('disk full'));
        return memory.physical.write(operations);
      },
    };
    const core = createTestCore(memory, {}, { physical });
    await expect(core.initialize(CONFIG)).rejects.toThrow('disk full');
    expect(core.isInitialized()).toBe(false);
    expect(core.isSealed()).toBe(true);
    await expect(core.initialize(CONFIG)).rejects.toThrow('Cannot initialize: the storage holds');
    await expect(core.unseal(Buffer.alloc(33))).rejects.toThrow('Vault is not initialized');
  });
});

describe('unseal', () => {
  test('counts shares, and any two of them open it', async () => {
    const { core, memory } = startFresh();
    const { keys, rootToken } = await core.initialize(CONFIG);
    const [first = Buffer.alloc(0), , third = Buffer.alloc(0)] = keys;
    expect(await core.unseal(third)).toMatchObject({ sealed: true, progress: 1 });
    expect(await core.unseal(third)).toMatchObject({ sealed: true, progress: 1 });
    expect(core.resetUnseal()).toMatchObject({ progress: 0, nonce: '' });
    await core.unseal(third);
    const status = await core.unseal(first);
    expect(status).toMatchObject({ sealed: false, progress: 0, clusterName: 'test' });
    expect(status.clusterId).toMatch(/^[0-9a-f-]{36}$/);
    expect(await core.unseal(first)).toMatchObject({ sealed: false });
    expect(() => core.resetUnseal()).toThrow('vault is unsealed');
    await untilActive(core);
    expect(core.leader()).toMatchObject({ isSelf: true, nodeId: memory.leadership.nodeId });
    expect(core.services().tokens.lookup(rootToken)?.policies).toEqual(['root']);
  });

  test('with wrong shares fails clearly, costs nothing, and the right ones still do', async () => {
    const { core } = startFresh();
    const { keys } = await core.initialize(CONFIG);
    const other = startFresh();
    const foreign = await other.core.initialize(CONFIG);
    const [own = Buffer.alloc(0)] = keys;
    const [, wrong = Buffer.alloc(0)] = foreign.keys;
    await core.unseal(own);
    await expect(core.unseal(wrong)).rejects.toMatchObject({
      code: 'invalid-request',
      message: 'Unseal failed, invalid key',
    });
    expect(core.sealStatus()).toMatchObject({ sealed: true, progress: 0, nonce: '' });
    await unseal(core, keys);
  });

  test('a restarted node holds everything', async () => {
    const { active, keys, rootToken } = await startTestCluster();
    const write = createCall('update', 'secret/a', rootToken, { data: { value: 'x' } });
    await active.core.handleRequest(write);
    await active.core.seal();
    const restarted = createTestCore(active.memory);
    await unseal(restarted, keys);
    const read = createCall('read', 'secret/a', rootToken);
    expect(await restarted.handleRequest(read)).toEqual({ data: { value: 'x' } });
  });
});

describe('seal', () => {
  test('drops everything but the store, and can be undone', async () => {
    const { active, keys, rootToken } = await startTestCluster();
    const { core } = active;
    await core.seal();
    expect(core.haState()).toBe('sealed');
    expect(core.sealStatus()).toMatchObject({ initialized: true, sealed: true });
    expect(core.sealStatus().clusterName).toBeUndefined();
    expect(() => core.services()).toThrow('Vault is sealed');
    expect(core.leader()).toBeUndefined();
    await expect(core.stepDown()).rejects.toMatchObject({ code: 'sealed' });
    await core.seal();
    await unseal(core, keys);
    await untilActive(core);
    expect(await core.handleRequest(createCall('read', 'secret/a', rootToken))).toBeUndefined();
  });

  test('from within a request does not wait for that request', async () => {
    const memory = createMemoryCluster().leader();
    const sealing: Backend = {
      type: 'system',
      specialPaths: { root: [], unauthenticated: [], forward: [] },
      handle: async () => {
        await core.seal();
        return undefined;
      },
    };
    const factory = { kind: 'secret', create: () => sealing } as const;
    const core: Core = createTestCore(
      memory,
      { drainMsMax: 60_000 },
      { backends: { system: factory } },
    );
    const { keys, rootToken } = await core.initialize(CONFIG);
    await unseal(core, keys);
    await untilActive(core);
    await core.handleRequest(createCall('update', 'sys/seal', rootToken));
    expect(core.isSealed()).toBe(true);
  });

  test('twice at once, on every node', async () => {
    const { active, standby } = await startTestCluster();
    const other = await standby(1);
    await Promise.all([active.core.seal(), active.core.seal(), other.core.seal()]);
    expect([active.core.isSealed(), other.core.isSealed()]).toEqual([true, true]);
  });

  test('of the active node lets another take over', async () => {
    const { active, standby } = await startTestCluster();
    const other = await standby(1);
    await active.core.seal();
    await untilActive(other.core);
    expect(other.core.leader()?.nodeId).toBe('standby-1');
  });
});

describe.each(['reuse', 'rebuild'] as const)('promotion by %s', (promotion) => {
  test('the new active node goes on where the old one was, and the old one reads on', async () => {
    const { active, standby, rootToken, memory } = await startTestCluster({ promotion });
    const other = await standby(1);
    expect(other.core.leader()).toMatchObject({ isSelf: false, nodeId: 'node-1' });
    const write = (value: string) =>
      createCall('update', 'secret/a', rootToken, { data: { value } });
    const read = createCall('read', 'secret/a', rootToken);
    await active.core.handleRequest(write('1'));
    await enableMount(active.core, 'late/');

    await active.core.stepDown();
    await untilActive(other.core);
    expect(other.core.leader()).toMatchObject({ isSelf: true, nodeId: 'standby-1' });
    expect(await other.core.handleRequest(read)).toEqual({ data: { value: '1' } });
    await other.core.handleRequest(write('2'));
    await other.core.handleRequest(createCall('update', 'late/a', rootToken));

    await until(() => active.core.haState() === 'standby-reads');
    active.memory.deliver();
    expect(active.core.leader()).toMatchObject({ isSelf: false, nodeId: 'standby-1' });
    expect(await active.core.handleRequest(read)).toEqual({ data: { value: '2' } });
    await expect(active.core.handleRequest(write('3'))).rejects.toMatchObject({
      code: 'standby-please-forward',
    });
    await expect(active.core.stepDown()).rejects.toMatchObject({ code: 'standby-please-forward' });

    memory.elect('node-1');
    await untilActive(active.core);
    await active.core.handleRequest(write('3'));
    expect(await active.core.handleRequest(read)).toEqual({ data: { value: '3' } });
  });

  test('whoever led before leads nowhere', async () => {
    const { standby, memory } = await startTestCluster({ promotion });
    const other = await standby(1);
    memory.depose();
    expect(other.core.leader()).toBeUndefined();
  });

  test('leadership that comes and goes many times ends in the right state', async () => {
    const { active, standby, rootToken, memory } = await startTestCluster({ promotion });
    const other = await standby(1);
    for (let round = 0; round < 20; round += 1) {
      memory.elect(round % 2 === 0 ? 'standby-1' : 'node-1');
      if (round % 3 === 0) await new Promise((resolve) => setImmediate(resolve));
    }
    await untilActive(active.core);
    await until(() => other.core.standby());
    const write = createCall('update', 'secret/a', rootToken, { data: { value: '1' } });
    await active.core.handleRequest(write);
    await expect(other.core.handleRequest(write)).rejects.toMatchObject({
      code: 'standby-please-forward',
    });
  });
});

test('a node that cannot open what it must know seals itself rather than go on', async () => {
  const { active, standby, memory, keys } = await startTestCluster();
  const other = await standby(1);
  const [entry] = active.core.services().mounts.list(ROOT_NAMESPACE, 'secret');
  const key = `core/mounts/${entry?.uuid}`;
  await memory.leader().physical.write([{ kind: 'put', key, value: Buffer.from('garbage') }]);
  await until(() => active.core.isSealed());
  other.memory.deliver();
  await until(() => other.core.isSealed());
  await expect(unseal(other.core, keys)).rejects.toThrow(`Cannot decrypt ${key}: not authentic`);
  expect(other.core.isSealed()).toBe(true);
});

test('a plain standby is promoted by building what it lacks', async () => {
  const { standby, rootToken, memory } = await startTestCluster({ disableStandbyReads: true });
  const other = await standby(1);
  memory.elect('standby-1');
  await untilActive(other.core);
  const read = createCall('read', 'secret/a', rootToken);
  expect(await other.core.handleRequest(read)).toBeUndefined();
  memory.elect('node-1');
  await until(() => other.core.haState() === 'standby');
  await expect(other.core.handleRequest(read)).rejects.toMatchObject({
    code: 'standby-please-forward',
  });
});

test('requests during a promotion wait and are then answered', async () => {
  const { standby, rootToken, memory } = await startTestCluster({ promotion: 'rebuild' });
  const other = await standby(1);
  memory.elect('standby-1');
  const read = createCall('read', 'secret/a', rootToken);
  while (other.core.standby()) {
    expect(await other.core.handleRequest(read)).toBeUndefined();
    await new Promise((resolve) => setImmediate(resolve));
  }
});

test('what a standby has read is never the base of a write by the active node', async () => {
  const { memory, keys, rootToken } = await startTestCluster();
  const node = memory.standby(1);
  node.deliver();
  let resume = (): void => undefined;
  const resumed = new Promise<void>((resolve) => (resume = resolve));
  const slow: Backend = {
    type: 'kv',
    specialPaths: { root: [], unauthenticated: [], forward: [] },
    handle: async ({ view }) => {
      const base = view.get('counter')?.length ?? 0;
      await resumed;
      await view.put('counter', Buffer.alloc(base + 1));
      return undefined;
    },
  };
  const core = createTestCore(
    node,
    { drainMsMax: 60_000 },
    { backends: { kv: { kind: 'secret', create: () => slow } } },
  );
  await unseal(core, keys);
  const writing = core.handleRequest(createCall('update', 'secret/a', rootToken));
  memory.elect('standby-1');
  for (let turn = 0; turn < 20; turn += 1) await new Promise((resolve) => setImmediate(resolve));
  const later = core.handleRequest(createCall('update', 'secret/a', rootToken));
  expect(core.haState()).toBe('standby-reads');
  resume();
  await expect(writing).rejects.toMatchObject({ code: 'standby-please-forward' });
  await later;
  await untilActive(core);
});

test('a request that outlived its promotion and wrote is not handed on when leadership ends', async () => {
  const { memory, keys, rootToken } = await startTestCluster();
  const node = memory.standby(1);
  node.deliver();
  let resume = (): void => undefined;
  const resumed = new Promise<void>((resolve) => (resume = resolve));
  const slow: Backend = {
    type: 'kv',
    specialPaths: { root: [], unauthenticated: [], forward: [] },
    handle: async ({ view }) => {
      await resumed;
      await view.put('first', Buffer.alloc(1));
      memory.depose();
      await until(() => core.standby());
      await view.put('second', Buffer.alloc(1));
      return undefined;
    },
  };
  const core = createTestCore(
    node,
    { drainMsMax: 0 },
    { backends: { kv: { kind: 'secret', create: () => slow } } },
  );
  await unseal(core, keys);
  const writing = core.handleRequest(createCall('update', 'secret/a', rootToken));
  memory.elect('standby-1');
  await untilActive(core);
  resume();
  await expect(writing).rejects.toMatchObject({ code: 'outcome-unknown' });
});

describe('join', () => {
  /** Speaks to the core itself, as the wire would. */
  function createDirectClient(leader: Core): JoinClient {
    return {
      challenge: (_, body) => leader.bootstrapChallenge(String(body['server_id'])),
      answer: (_, body) =>
        leader.bootstrapAnswer({
          nodeId: String(body['server_id']),
          instance: String(body['instance']),
          clusterAddress: String(body['cluster_addr']),
          nonVoter: body['non_voter'] === true,
          answer: String(body['answer']),
        }),
    };
  }

  const TARGET = {
    peers: [{ apiAddress: 'http://127.0.0.1:1', tls: {} }],
    nonVoter: false,
    retry: false,
  };

  test('a node gets the credentials with the shares of the cluster, and reads', async () => {
    const { active, memory, keys, rootToken } = await startTestCluster();
    const node = memory.standby(7);
    const joinClient = createDirectClient(active.core);
    const core = createTestCore(node, { clusterAddress: '127.0.0.1:7' }, { joinClient });
    await core.requestJoin(TARGET);
    expect(core.sealStatus()).toMatchObject({ initialized: true, sealed: true, t: 2, n: 3 });
    await core.unseal(keys[0] ?? Buffer.alloc(0));
    const unsealing = core.unseal(keys[1] ?? Buffer.alloc(0));
    await until(() => active.memory.replication.configuration().servers.length === 2);
    node.deliver();
    expect(await unsealing).toMatchObject({ sealed: false });
    expect(core.haState()).toBe('standby-reads');
    expect(await core.handleRequest(createCall('read', 'secret/a', rootToken))).toBeUndefined();
    await core.requestJoin(TARGET);
    expect(active.memory.replication.configuration().servers.map(({ id }) => id)).toEqual([
      'node-1',
      'standby-7',
    ]);
  });

  test('with retry it asks until a member answers, and any of them will do', async () => {
    const { active, memory, keys } = await startTestCluster();
    const asked: string[] = [];
    const direct = createDirectClient(active.core);
    let isUp = false;
    const client: JoinClient = {
      ...direct,
      challenge: (peer, body) => {
        asked.push(peer.apiAddress);
        if (isUp && peer.apiAddress === 'http://b') return direct.challenge(peer, body);
        return Promise.reject(new ServerError('internal', `${peer.apiAddress} is not reachable`));
      },
    };
    const core = createTestCore(memory.standby(7), {}, { joinClient: client });
    const peers = ['http://a', 'http://b'].map((apiAddress) => ({ apiAddress, tls: {} }));
    await expect(core.requestJoin({ peers, nonVoter: false, retry: false })).rejects.toThrow(
      'http://a is not reachable; http://b is not reachable',
    );
    expect(await core.requestJoin({ peers, nonVoter: true, retry: true })).toBe(false);
    await until(() => asked.length === 4);
    expect(core.isInitialized()).toBe(false);
    isUp = true;
    await until(() => core.isInitialized());
    expect(asked.length).toBeGreaterThanOrEqual(6);

    // Of two members one is gone: the other one takes the answer.
    await core.unseal(keys[0] ?? Buffer.alloc(0));
    const unsealing = core.unseal(keys[1] ?? Buffer.alloc(0));
    await until(() => active.memory.replication.configuration().servers.length === 2);
    memory.standby(7).deliver();
    expect(await unsealing).toMatchObject({ sealed: false });
    const joined = active.memory.replication.configuration().servers.at(-1);
    expect(joined).toMatchObject({ id: 'standby-7', suffrage: 'learner' });
    expect(await core.requestJoin({ peers, nonVoter: false, retry: false })).toBe(true);
  });

  test('a node that is founded or shut down asks no more', async () => {
    const { memory } = await startTestCluster();
    let asked = 0;
    const client: JoinClient = {
      challenge: () => Promise.reject(new ServerError('internal', `not reachable ${(asked += 1)}`)),
      answer: () => Promise.reject(new ServerError('internal', 'not reachable')),
    };
    const core = createTestCore(memory.standby(7), {}, { joinClient: client });
    await core.requestJoin({ ...TARGET, retry: true });
    await core.seal();
    expect(asked).toBe(1);
    await new Promise((resolve) => setTimeout(resolve, 2200));
    expect(asked).toBe(1);
  });

  test('with the shares of another cluster it gets nothing, and may try again', async () => {
    const { active, memory, keys } = await startTestCluster();
    const foreign = await startFresh().core.initialize(CONFIG);
    const node = memory.standby(7);
    const core = createTestCore(node, {}, { joinClient: createDirectClient(active.core) });
    await core.requestJoin(TARGET);
    await expect(unseal(core, foreign.keys)).rejects.toThrow('Unseal failed, invalid key');
    expect(active.memory.replication.configuration().servers).toHaveLength(1);
    node.deliver();
    await unseal(core, keys);
  });

  test('a state that never arrives ends the attempt; the next one succeeds', async () => {
    const { active, memory, keys } = await startTestCluster();
    const node = memory.standby(7);
    const joinClient = createDirectClient(active.core);
    const core = createTestCore(node, { joinMsMax: 1 }, { joinClient });
    await core.requestJoin(TARGET);
    await expect(unseal(core, keys)).rejects.toThrow('Cannot join: nothing arrived within 1 ms');
    expect(core.isSealed()).toBe(true);
    node.deliver();
    await unseal(core, keys);
  });

  test('answers are for one challenge, one node, and what it said of itself', async () => {
    const { active } = await startTestCluster();
    const { core } = active;
    await core.bootstrapChallenge('n');
    const claim = { nodeId: 'n', instance: 'i', clusterAddress: 'a:1', nonVoter: false };
    const { challenge } = await core.bootstrapChallenge('n');
    const answer = String(challenge);
    await expect(core.bootstrapAnswer({ ...claim, answer })).rejects.toThrow(
      'invalid answer given',
    );
    for (const other of [
      { ...claim, answer: 'AAAA' },
      { ...claim, answer, nodeId: 'm' },
    ]) {
      await expect(core.bootstrapAnswer(other)).rejects.toThrow('no expected answer');
    }
    await expect(core.bootstrapChallenge('')).rejects.toThrow('no node id provided');
  });

  test('a standby leaves challenges to the active node', async () => {
    const other = await (await startTestCluster()).standby(1);
    await expect(other.core.bootstrapChallenge('n')).rejects.toMatchObject({
      code: 'standby-please-forward',
    });
  });
});

test('nothing readable is ever stored: values, tokens, shares, credentials', async () => {
  const { active, memory, keys, rootToken } = await startTestCluster();
  const value = 'the value of a secret';
  await active.core.handleRequest(createCall('update', 'secret/a', rootToken, { data: { value } }));
  await active.core
    .services()
    .policies.set('named', { text: 'path "a" { capabilities = ["read"] }' });
  const needles = [
    value,
    rootToken,
    rootToken.slice(2),
    'PRIVATE KEY',
    'CERTIFICATE',
    'capabilities',
  ];
  const forms = [
    ...needles.flatMap((text) => [
      Buffer.from(text),
      Buffer.from(Buffer.from(text).toString('base64')),
    ]),
    ...keys.flatMap((key) => [key, key.subarray(0, 32), Buffer.from(key.toString('hex'))]),
  ];
  for (const operation of memory.committed().flat()) {
    const bytes = operation.kind === 'put' ? Buffer.from(operation.value) : Buffer.alloc(0);
    for (const form of forms) {
      expect(bytes.includes(form), `${operation.key}`).toBe(false);
      expect(operation.key.includes(form.toString())).toBe(false);
    }
  }
});
