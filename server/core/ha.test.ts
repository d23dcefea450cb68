import { describe, expect, test } from 'vitest';
import { createMemoryCluster } from '../testing/memory-physical.ts';
import {
  createCall,
  createTestCore,
  startTestCluster,
  unseal,
  until,
  untilActive,
} from '../testing/core-node.ts';
import { ServerError } from '../errors.ts';
import { runStandby } from './ha.ts';

const SILENT = { info: () => undefined, warn: () => undefined, error: () => undefined };

describe('runStandby()', () => {
  test('follows leadership as it comes and goes, until it is told to end', async () => {
    const memory = createMemoryCluster('a');
    const { leadership } = memory.node('b');
    const events: string[] = [];
    const abort = new AbortController();
    const steps = {
      becomeActive: async ({ term }: { term: number }) => void events.push(`active ${term}`),
      becomeStandby: async () => void events.push('standby'),
    };
    const options = { signal: abort.signal, logger: SILENT };
    const finished = runStandby(steps, leadership, options);
    for (const id of ['b', 'a', 'b']) {
      const before = events.length;
      memory.elect(id);
      await until(() => events.length > before);
    }
    abort.abort();
    await finished;
    expect(events).toEqual(['active 2', 'standby', 'active 4', 'standby']);
  });

  test('a promotion that fails gives leadership away, and the next one is tried', async () => {
    const memory = createMemoryCluster('a');
    const events: string[] = [];
    const abort = new AbortController();
    const steps = {
      becomeActive: async ({ term }: { term: number }) => {
        events.push(`try ${term}`);
        if (term === 1) throw new Error('no');
      },
      becomeStandby: async () => void events.push('standby'),
    };
    memory.node('b');
    const finished = runStandby(steps, memory.node('a').leadership, {
      signal: abort.signal,
      logger: SILENT,
    });
    await until(() => memory.leader() === memory.node('b'));
    memory.elect('a');
    await until(() => events.length === 3);
    abort.abort();
    await finished;
    expect(events).toEqual(['try 1', 'standby', 'try 3', 'standby']);
  });

  test('ends while it waits for leadership', async () => {
    const abort = new AbortController();
    const steps = { becomeActive: async () => undefined, becomeStandby: async () => undefined };
    const { leadership } = createMemoryCluster('a').node('b');
    const finished = runStandby(steps, leadership, { signal: abort.signal, logger: SILENT });
    abort.abort();
    expect(await finished).toBeUndefined();
  });
});

test('an advertisement that cannot be written is tried again while the tenure lasts', async () => {
  const { memory, active, keys, rootToken } = await startTestCluster();
  await active.core.seal();
  let refusals = 2;
  const physical = {
    ...active.memory.physical,
    write: (operations: Parameters<typeof active.memory.physical.write>[0]) => {
      const isAdvertisement = operations.some(({ key }) => key === 'core/leader');
      if (!isAdvertisement || refusals === 0) return active.memory.physical.write(operations);
      refusals -= 1;
      return Promise.reject(new ServerError('overloaded', 'not now'));
    },
  };
  const core = createTestCore(active.memory, {}, { physical });
  await unseal(core, keys);
  memory.elect('node-1');
  const read = createCall('read', 'secret/a', rootToken);
  await until(() => refusals < 2);
  expect(core.leader()).toBeUndefined();
  expect(await core.handleRequest(read)).toBeUndefined();
  await untilActive(core);
  expect(core.leader()?.isSelf).toBe(true);
});
