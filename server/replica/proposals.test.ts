import { describe, expect, test } from 'vitest';
import type { CommitOutcome } from '../core/ports.ts';
import { noLeaderError, Proposals } from './proposals.ts';
import type { Proposal } from './proposals.ts';

const limits = {
  proposalsMax: 3,
  entryBytesMax: 10,
  transactionBytesMax: 20,
  fateTimeoutMs: 100,
};

type Fate = CommitOutcome | { code: string } | 'waiting';

/** Proposes one command in term 2 at index 5, lets things happen, and looks at its fate. */
async function fateAfter(happen: (proposals: Proposals) => void): Promise<Fate> {
  const proposals = new Proposals(limits);
  let fate: Fate = 'waiting';
  proposals.submit(Buffer.from('a')).then(
    (outcome) => (fate = outcome),
    (error: { code: string }) => (fate = { code: error.code }),
  );
  const [batch] = proposals.takeBatches();
  proposals.accepted(batch ?? [], 5, 2);
  happen(proposals);
  await Promise.resolve();
  await Promise.resolve();
  return fate;
}

describe('what a caller is told of a write that was accepted', () => {
  test.each([
    { name: 'nothing yet', happen: () => undefined, fate: 'waiting' },
    {
      name: 'applied',
      happen: (p: Proposals) => p.applied(5, 2),
      fate: { kind: 'applied', index: 5 },
    },
    { name: 'another index', happen: (p: Proposals) => p.applied(4, 2), fate: 'waiting' },
    { name: 'overwritten', happen: (p: Proposals) => p.applied(5, 3), fate: { code: 'no-leader' } },
    {
      name: 'lost, and time passed',
      happen: (p: Proposals) => {
        p.leadershipLost(1_000);
        p.expire(1_100);
      },
      fate: { code: 'outcome-unknown' },
    },
    {
      name: 'lost, then applied in time',
      happen: (p: Proposals) => {
        p.leadershipLost(1_000);
        p.expire(1_099);
        p.applied(5, 2);
      },
      fate: { kind: 'applied', index: 5 },
    },
    {
      name: 'unknown stays unknown',
      happen: (p: Proposals) => {
        p.leadershipLost(1_000);
        p.expire(1_100);
        p.applied(5, 2);
      },
      fate: { code: 'outcome-unknown' },
    },
    {
      name: 'skipped by a snapshot',
      happen: (p: Proposals) => p.skippedTo(5),
      fate: { code: 'outcome-unknown' },
    },
    { name: 'snapshot below', happen: (p: Proposals) => p.skippedTo(4), fate: 'waiting' },
    {
      name: 'the node stops',
      happen: (p: Proposals) => p.abandonAll('the node stopped'),
      fate: { code: 'outcome-unknown' },
    },
    {
      name: 'the same node proposes at that index in a later term',
      happen: (p: Proposals) => {
        void p.submit(Buffer.from('b'));
        p.accepted(p.takeBatches()[0] ?? [], 5, 4);
      },
      fate: { code: 'no-leader' },
    },
  ])('$name', async ({ happen, fate }) => {
    expect(await fateAfter(happen)).toEqual(fate);
  });
});

test('what was not taken yet when the node stops did not happen', async () => {
  const proposals = new Proposals(limits);
  const write = proposals.submit(Buffer.from('a'));
  proposals.abandonAll('the node stopped');
  await expect(write).rejects.toMatchObject({ code: 'no-leader' });
});

test('limits: the size of one, the number of all', async () => {
  const proposals = new Proposals(limits);
  await expect(proposals.submit(Buffer.alloc(11))).rejects.toMatchObject({
    code: 'too-large',
    message: 'put failed due to value being too large; got 11 bytes, max: 10 bytes',
  });
  for (let count = 0; count < 3; count += 1) void proposals.submit(Buffer.alloc(10));
  await expect(proposals.submit(Buffer.alloc(1))).rejects.toMatchObject({ code: 'overloaded' });
});

test('batches are cut by bytes, a single large command goes alone', () => {
  const mib = 1024 * 1024;
  const proposals = new Proposals({ ...limits, proposalsMax: 100, entryBytesMax: 8 * mib });
  for (const bytes of [mib / 2, mib / 2, 1, 2 * mib, 1]) void proposals.submit(Buffer.alloc(bytes));
  const sizes = proposals.takeBatches().map((batch) => batch.map((each) => each.command.length));
  expect(sizes).toEqual([[mib / 2, mib / 2], [1], [2 * mib], [1]]);
  expect(proposals.takeBatches()).toEqual([]);
});

describe('what was taken', () => {
  function taken(): { proposals: Proposals; batch: Proposal[]; write: Promise<CommitOutcome> } {
    const proposals = new Proposals(limits);
    const write = proposals.submit(Buffer.from('a'));
    const [batch] = proposals.takeBatches();
    return { proposals, batch: batch ?? [], write };
  }

  test('counts until raft has answered, and then still', () => {
    const { proposals, batch } = taken();
    expect(proposals.count()).toBe(1);
    proposals.accepted(batch, 5, 2);
    expect(proposals.count()).toBe(1);
    proposals.applied(5, 2);
    expect(proposals.count()).toBe(0);
  });

  test('did not happen if it was refused', async () => {
    const { proposals, batch, write } = taken();
    proposals.refused(batch, noLeaderError());
    await expect(write).rejects.toMatchObject({ code: 'no-leader' });
    expect(proposals.count()).toBe(0);
  });

  test('may have happened if the node stops before raft has answered', async () => {
    const { proposals, write } = taken();
    proposals.abandonAll('the node stopped');
    await expect(write).rejects.toMatchObject({ code: 'outcome-unknown' });
    expect(proposals.count()).toBe(0);
  });
});
