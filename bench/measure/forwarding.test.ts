import { describe, expect, test } from 'vitest';

import type { Cluster } from '../cluster/reference-cluster.ts';
import type { Answer, Request, Sender } from '../load/exchange.ts';
import type { BoundWorkload } from '../../workloads/workload.ts';
import { measureForwarding, observe, type ForwardingOptions } from './forwarding.ts';
import { findPreset } from './preset.ts';

const REQUEST: Request = { method: 'GET', path: '/v1/a', headers: [], body: undefined };

test('observe() notes who answered a row and when it was written, in whatever order', () => {
  const settles: ((answer: Answer) => void)[] = [];
  const inner: Sender = {
    send: (_target, _request, settle) => {
      settles.push(settle);
      return { abort: () => {} };
    },
  };
  const { sender, requestOf, observed } = observe(inner, 4, () => REQUEST);
  const seen: Answer[] = [];
  // Row 2 is never sent: it was dropped.
  for (const row of [0, 1, 3]) sender.send(0, requestOf(row), (answer) => seen.push(answer));
  settles[2]?.({
    kind: 'answered',
    status: 200,
    servedBy: 'n3',
    body: Buffer.alloc(0),
    writtenNs: 30,
    completionNs: 40,
  });
  settles[0]?.({ kind: 'failed', failure: 'aborted', writtenNs: 10, completionNs: 50 });
  settles[1]?.({ kind: 'failed', failure: 'refused', writtenNs: undefined, completionNs: 60 });

  expect(observed.servedBy).toEqual([undefined, undefined, undefined, 'n3']);
  expect([...observed.writtenNs]).toEqual([10, NaN, NaN, 30]);
  expect(seen.map(({ completionNs }) => completionNs)).toEqual([40, 50, 60]);
});

const NO_SLICE = { intervals: [[]], responses: [], unanswered: 0, wrongAnswers: 0, misrouted: 0 };

function optionsOf(signal: AbortSignal): ForwardingOptions {
  const nodes = ['n1', 'n2', 'n3'].map((id) => ({ id, address: `http://${id}` }));
  return {
    cluster: { active: () => Promise.resolve(nodes[1]), nodes: () => nodes } as unknown as Cluster,
    workload: { operations: [{ name: 'read' }, { name: 'write' }] } as unknown as BoundWorkload,
    valueBytes: 100,
    preset: findPreset('canonical'),
    seed: 1,
    recorder: { add: () => {} },
    signal,
  };
}

describe('measureForwarding()', () => {
  test('takes the slices first: latencies are those of a warm server', async () => {
    const stop = new AbortController();
    const done: string[] = [];
    const measured = measureForwarding(optionsOf(stop.signal), {
      drive: ({ parties }) => {
        done.push(`slice on ${parties[0]?.nodes.join()}`);
        return Promise.resolve(NO_SLICE);
      },
      runBlocks: () => {
        done.push('blocks');
        return Promise.reject(new Error('enough'));
      },
    });
    await expect(measured).rejects.toThrow('enough');
    const [active, standby] = ['slice on 1', 'slice on 0'];
    const there = [active, standby, active, standby];
    expect(done).toEqual([...there, ...there, ...there.toReversed(), 'blocks']);
  });

  test.each([1, 5, 12])('stops after slice %d when it is told to', async (last) => {
    const stop = new AbortController();
    let slices = 0;
    const measured = measureForwarding(optionsOf(stop.signal), {
      drive: () => {
        if (++slices === last) stop.abort(new Error('told to'));
        return Promise.resolve(NO_SLICE);
      },
      runBlocks: () => Promise.reject(new Error('must not run')),
    });
    await expect(measured).rejects.toThrow('told to');
    expect(slices).toBe(last);
  });
});
