import { expect, test } from 'vitest';
import type { RaftStatus } from '../raft/raft.ts';
import { CatchUpHold } from './catch-up-hold.ts';

function leading(peers: Record<string, { kind: string; matchIndex: number }>): RaftStatus {
  return { role: 'leader', progress: new Map(Object.entries(peers)) } as unknown as RaftStatus;
}

test('the log stays from a snapshot on until its follower has caught up (S-65)', () => {
  const hold = new CatchUpHold(1_000);
  expect(hold.limit(100)).toBe(100);
  hold.begin('n2', 120);
  expect(hold.limit(150)).toBe(120);
  hold.begin('n3', 140);
  expect(hold.observe(leading({ n2: { kind: 'snapshot', matchIndex: 0 } }))).toBeUndefined();
  expect(hold.limit(200)).toBe(120);
  // A failed transfer is tried again with the same file.
  expect(hold.observe(leading({ n2: { kind: 'probe', matchIndex: 0 } }))).toBeUndefined();
  expect(hold.observe(leading({ n2: { kind: 'replicate', matchIndex: 199 } }))).toBeUndefined();
  expect(hold.observe(leading({ n2: { kind: 'replicate', matchIndex: 200 } }))).toBe(200);
  expect(hold.limit(300)).toBe(300);
});

test('a follower that cannot keep up does not fill the memory', () => {
  const hold = new CatchUpHold(1_000);
  hold.begin('n2', 120);
  const entry = { index: 1, term: 1, kind: 'command' as const, command: Buffer.alloc(501) };
  hold.count([entry]);
  expect(hold.limit(200)).toBe(120);
  hold.count([entry]);
  expect(hold.limit(200)).toBe(200);
});

test('whoever does not lead holds nothing', () => {
  const hold = new CatchUpHold(1_000);
  hold.limit(150);
  hold.begin('n2', 120);
  expect(hold.observe({ ...leading({}), role: 'follower' })).toBe(150);
});
