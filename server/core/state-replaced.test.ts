import { expect, test } from 'vitest';
import { createMemoryCluster } from '../testing/memory-physical.ts';
import {
  createCall,
  createTestCore,
  enableMount,
  unseal,
  until,
  untilActive,
} from '../testing/core-node.ts';
import type { Backend } from './backend.ts';

/** Its first write waits in the midst of its request. */
function slowBackend(held: Promise<void>, onBegun: () => void): Backend {
  let begun = 0;
  return {
    type: 'slow',
    specialPaths: { root: [], unauthenticated: [], forward: [] },
    handle: async ({ operation, path, view, data }) => {
      if (operation === 'read') return { data: { found: view.get(path) !== undefined } };
      begun += 1;
      onBegun();
      if (begun === 1) await held;
      await view.put(path, Buffer.from(JSON.stringify(data)));
      return undefined;
    },
  };
}

test('what began on a state that was replaced writes nothing to the new one; who comes later does', async () => {
  const memory = createMemoryCluster();
  const node = memory.leader();
  let proceed = (): void => undefined;
  const held = new Promise<void>((resolve) => {
    proceed = resolve;
  });
  let begun = 0;
  const backend = slowBackend(held, () => (begun += 1));
  const kept = slowBackend(Promise.resolve(), () => undefined);
  const core = createTestCore(
    node,
    {},
    {
      backends: {
        slow: { kind: 'secret', create: () => backend },
        cubbyhole: { kind: 'secret', create: () => kept },
        system: { kind: 'secret', create: () => kept },
        token: { kind: 'auth', create: () => kept },
      },
    },
  );
  const { keys, rootToken } = await core.initialize({ shares: 1, threshold: 1 });
  await unseal(core, keys);
  await untilActive(core);
  await enableMount(core, 'slow/', 'slow');

  const ask = (operation: 'update' | 'read', path: string): Promise<unknown> =>
    core.handleRequest(createCall(operation, path, rootToken)).then(
      (response) => response?.data ?? 'done',
      (error: { code: string }) => error.code,
    );
  const early = ask('update', 'slow/early');
  await until(() => begun === 1);
  const committedBefore = memory.committed().length;
  node.deliverSnapshot();
  const late = ask('update', 'slow/late');
  await until(() => core.services() !== undefined);
  expect(begun).toBe(1);
  proceed();
  // Nothing was executed: whoever is told so asks again, and here that is this very node.
  expect(await early).toBe('standby-please-forward');
  expect(await late).toBe('done');
  expect(memory.committed().length).toBeGreaterThan(committedBefore);
  expect(await ask('read', 'slow/early')).toEqual({ found: false });
  expect(await ask('read', 'slow/late')).toEqual({ found: true });
  expect(await ask('update', 'slow/early')).toBe('done');
  expect(core.haState()).toBe('active');
});
