/** Requests that a standby asks again, under every kind of interruption that it can meet. */

import { expect, test } from 'vitest';
import { createBackends } from '../backend-wiring.ts';
import { createCall, createTestCore, unseal, untilActive } from '../testing/core-node.ts';
import { createMemoryCluster } from '../testing/memory-physical.ts';
import type { MemoryCluster, MemoryNode } from '../testing/memory-physical.ts';
import type { JsonObject, LogicalResponse, Operation } from './backend.ts';
import type { Core } from './core.ts';
import type { StampedRequest } from './exactly-once.ts';
import { ANSWER_BYTES_MAX } from './exactly-once.ts';

type Subject = { core: Core; memory: MemoryCluster; other: Core; rootToken: string };

function createFullCore(memory: MemoryNode): Core {
  const clock = (): number => 1_700_000_000_000;
  const core: Core = createTestCore(
    memory,
    {},
    {
      backends: createBackends({
        core: () => core,
        replication: memory.replication,
        version: 'test',
        leaseTtl: { defaultSeconds: 3600, maxSeconds: 7200 },
        metrics: async () => '',
        stateHash: undefined,
        clock,
      }),
      clock,
    },
  );
  return core;
}

/** An active node and a standby, with a kv version 2 at `secret/`. */
async function start(): Promise<Subject> {
  const memory = createMemoryCluster();
  const core = createFullCore(memory.leader());
  const { keys, rootToken } = await core.initialize({ shares: 1, threshold: 1 });
  await unseal(core, keys);
  await untilActive(core);
  const mount = createCall('update', 'sys/mounts/secret', rootToken, {
    data: { type: 'kv', options: { version: '2' } },
  });
  await core.handleRequest(mount);
  memory.standby().deliver();
  const other = createFullCore(memory.standby());
  await unseal(other, keys);
  return { core, memory, other, rootToken };
}

let sequence = 0;

function stamped(isRepeated = false): StampedRequest {
  sequence += isRepeated ? 0 : 1;
  const stamp = { session: 'c'.repeat(32), openedIndex: 0, sequence, acknowledgedBelow: 0 };
  return { stamp, isRepeated };
}

async function ask(
  { rootToken }: Subject,
  core: Core,
  call: {
    operation: Operation;
    path: string;
    data?: JsonObject;
    stamped?: StampedRequest | undefined;
  },
): Promise<LogicalResponse | undefined> {
  const { operation, path, data, stamped: request } = call;
  const made = createCall(operation, path, rootToken, {
    ...(data === undefined ? {} : { data }),
    forwarded: true,
    stamped: request,
  });
  return core.handleRequest(made);
}

const write = (value: string, request: StampedRequest, options?: JsonObject) => ({
  operation: 'update' as const,
  path: 'secret/data/a',
  data: { data: { value }, ...(options === undefined ? {} : { options }) },
  stamped: request,
});

async function versionOf(subject: Subject, core: Core): Promise<unknown> {
  const read = await ask(subject, core, { operation: 'read', path: 'secret/metadata/a' });
  return read?.data?.['current_version'];
}

test('a write that comes again has its first answer and no second effect', async () => {
  const subject = await start();
  const first = await ask(subject, subject.core, write('1', stamped()));
  const again = await ask(subject, subject.core, write('1', stamped(true)));
  expect(again).toEqual(first);
  expect(first?.data?.['version']).toBe(1);
  expect(await versionOf(subject, subject.core)).toBe(1);
});

test('the next active node knows it, too', async () => {
  const subject = await start();
  const { core, memory, other } = subject;
  const first = await ask(subject, core, write('1', stamped()));
  memory.elect('standby-1');
  await untilActive(other);
  expect(await ask(subject, other, write('1', stamped(true)))).toEqual(first);
  expect(await versionOf(subject, other)).toBe(1);
});

test('a repetition is never refused by a node that is no longer the active one', async () => {
  const subject = await start();
  const { core, other } = subject;
  const request = stamped();
  await ask(subject, core, write('1', request));
  const stranger = createCall('update', 'secret/data/a', 'nobody', {
    data: { data: { value: '1' } },
    forwarded: true,
    stamped: { ...request, isRepeated: true },
  });
  await expect(other.handleRequest(stranger)).rejects.toMatchObject({ code: 'no-leader' });
  const bad = { ...write('1', { ...request, isRepeated: true }), path: 'nowhere/a' };
  await expect(ask(subject, other, bad)).rejects.toMatchObject({ code: 'no-leader' });
});

test('side by side, both get the answer of the one that was executed', async () => {
  const subject = await start();
  const answers = await Promise.all([
    ask(subject, subject.core, write('1', stamped())),
    ask(subject, subject.core, write('1', stamped(true))),
  ]);
  expect(answers[0]).toEqual(answers[1]);
  expect(await versionOf(subject, subject.core)).toBe(1);
});

test('check-and-set that came true is not refused for its own effect', async () => {
  const subject = await start();
  const first = await ask(subject, subject.core, write('1', stamped(), { cas: 0 }));
  expect(await ask(subject, subject.core, write('1', stamped(true), { cas: 0 }))).toEqual(first);
});

test('a refusal of a repetition stands: it is recorded before it is told', async () => {
  const subject = await start();
  await ask(subject, subject.core, write('1', stamped()));
  const refused = /check-and-set parameter did not match/;
  stamped();
  const repeated = stamped(true);
  await expect(ask(subject, subject.core, write('2', repeated, { cas: 0 }))).rejects.toThrow(
    refused,
  );
  // An attempt before it that was only slow, and would have succeeded by now, is too late.
  await expect(
    ask(subject, subject.core, write('2', { ...repeated, isRepeated: false }, { cas: 1 })),
  ).rejects.toThrow(refused);
  expect(await versionOf(subject, subject.core)).toBe(1);
});

test('a read that comes again is of now, and writes nothing', async () => {
  const subject = await start();
  const { core, memory } = subject;
  const read = { operation: 'read' as const, path: 'secret/metadata/a', stamped: stamped() };
  expect(await ask(subject, core, read)).toBeUndefined();
  await ask(subject, core, { ...write('1', stamped()), stamped: undefined });
  const batches = memory.committed().length;
  const again = await ask(subject, core, {
    ...read,
    stamped: { ...read.stamped, isRepeated: true },
  });
  expect(again?.data?.['current_version']).toBe(1);
  expect(memory.committed().length).toBe(batches);
});

test('an execution that outlives its node’s office writes nothing, even in the next', async () => {
  const subject = await start();
  const { core, memory, other } = subject;
  // It stands behind another write, and both lose their leader before either is proposed.
  const before = ask(subject, core, write('0', stamped()));
  const late = ask(subject, core, write('1', stamped()));
  memory.elect('standby-1');
  const fates = await Promise.allSettled([before, late]);
  expect(fates.map(({ status }) => status)).toEqual(['rejected', 'rejected']);
  await untilActive(other);
  expect(await versionOf(subject, other)).toBeUndefined();
  const answer = await ask(subject, other, write('1', stamped(true)));
  expect(answer?.data?.['version']).toBe(1);
});

test('what is several writes is between two records: done is told, begun is said', async () => {
  const subject = await start();
  const { core, memory, other } = subject;
  const mount = (path: string, request: StampedRequest): Promise<LogicalResponse | undefined> => {
    const data = { type: 'kv' };
    return ask(subject, core, {
      operation: 'update',
      path: `sys/mounts/${path}`,
      data,
      stamped: request,
    });
  };
  await mount('one', stamped());
  // Executed again, it would be refused: the path is in use.
  expect(await mount('one', stamped(true))).toBeUndefined();
  const conflict = /path is already in use/;
  await expect(mount('one', stamped())).rejects.toThrow(conflict);
  await expect(mount('one', stamped(true))).rejects.toThrow(conflict);

  const unsubscribe = memory.leader().changeFeed.subscribe(() => {
    unsubscribe();
    queueMicrotask(() => memory.elect('standby-1'));
  });
  const interrupted = mount('two', stamped());
  await expect(interrupted).rejects.toMatchObject({ code: 'outcome-unknown' });
  await untilActive(other);
  const again = ask(subject, other, {
    operation: 'update',
    path: 'sys/mounts/two',
    data: { type: 'kv' },
    stamped: stamped(true),
  });
  await expect(again).rejects.toMatchObject({
    code: 'response-lost',
    message: 'the request began to take effect before it was interrupted',
  });
});

test('an answer above the limit is not kept, and the effect is said', async () => {
  const subject = await start();
  const metadata = Object.fromEntries(
    Array.from({ length: 40 }, (_, i) => [`k${i}`, 'v'.repeat(500)]),
  );
  expect(JSON.stringify(metadata).length).toBeGreaterThan(ANSWER_BYTES_MAX);
  await ask(subject, subject.core, {
    operation: 'update',
    path: 'secret/metadata/a',
    data: { custom_metadata: metadata },
  });
  await ask(subject, subject.core, write('1', stamped()));
  await expect(ask(subject, subject.core, write('1', stamped(true)))).rejects.toMatchObject({
    code: 'response-lost',
    message: 'the request took effect and its response is lost',
  });
});

test('a stamp from before what was forgotten is refused', async () => {
  const subject = await start();
  const { stamp } = stamped();
  await ask(subject, subject.core, write('1', { stamp, isRepeated: false }));
  const next = stamped();
  const acknowledging = { ...next.stamp, acknowledgedBelow: next.stamp.sequence };
  await ask(subject, subject.core, write('2', { stamp: acknowledging, isRepeated: false }));
  await expect(
    ask(subject, subject.core, write('1', { stamp, isRepeated: true })),
  ).rejects.toMatchObject({ code: 'session-expired' });
  expect(await versionOf(subject, subject.core)).toBe(2);
});

test('nothing of a recorded answer is readable below the barrier', async () => {
  const subject = await start();
  const batches = subject.memory.committed().length;
  await ask(subject, subject.core, {
    operation: 'update',
    path: 'secret/metadata/a',
    data: { custom_metadata: { word: 'plainly-visible' } },
  });
  await ask(subject, subject.core, write('1', stamped()));
  const written = subject.memory.committed().slice(batches).flat();
  const bytes = written.map((each) =>
    each.kind === 'put' ? Buffer.from(each.value).toString('latin1') : '',
  );
  expect(written.some(({ key }) => key.startsWith('raft/session/'))).toBe(true);
  expect(bytes.join()).not.toContain('plainly-visible');
});
