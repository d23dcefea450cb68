import { describe, expect, test } from 'vitest';

import { Progress } from './progress.ts';

function progress(limits = { appendBytesMax: 100, inflightAppendsMax: 3 }): Progress {
  return new Progress({ nextIndex: 10, recentActive: false, limits });
}

/** A server that holds everything up to 9, and is sent entries without waiting. */
function replicating(limits?: { appendBytesMax: number; inflightAppendsMax: number }): Progress {
  const subject = progress(limits);
  subject.acknowledge(9, 1);
  return subject;
}

function send(subject: Progress, entryCount: number, bytes = 1): void {
  subject.sendAppend({ entryCount, bytes, leaderCommit: 0 });
}

describe('a probe', () => {
  test('waits for an answer after one append, and does not run ahead', () => {
    const subject = progress();
    expect(subject.isAnswerWanted).toBe(true);
    send(subject, 5);
    expect(subject.isPaused).toBe(true);
    expect(subject.isAnswerWanted).toBe(false);
    expect(subject.nextIndex).toBe(10);
  });

  test('is repeated when a heartbeat is answered', () => {
    const subject = progress();
    send(subject, 1);
    subject.hearHeartbeat(10);
    expect(subject.isPaused).toBe(false);
  });

  test('ends when it is acknowledged, even if nothing new is', () => {
    const subject = progress();
    send(subject, 0);
    expect(subject.acknowledge(0, 1)).toBe(true);
    expect(subject.status()).toMatchObject({ kind: 'replicate', matchIndex: 0, nextIndex: 1 });
  });

  test.each([
    { name: 'the hint', rejected: 9, hint: 4, nextIndex: 5 },
    { name: 'one step at least', rejected: 9, hint: 9, nextIndex: 9 },
    { name: 'never below the match', rejected: 9, hint: 0, nextIndex: 1 },
    { name: 'not for an old answer', rejected: 7, hint: 3, nextIndex: 10 },
  ])('goes back when it is refused: $name', ({ rejected, hint, nextIndex }) => {
    const subject = progress();
    send(subject, 1);
    subject.refuse(rejected, hint);
    expect(subject.nextIndex).toBe(nextIndex);
    expect(subject.isPaused).toBe(nextIndex === 10);
  });
});

describe('replicating', () => {
  test('runs ahead until the window is full by count, and an acknowledgement frees it', () => {
    const subject = replicating();
    for (let count = 0; count < 3; count += 1) {
      expect(subject.isPaused).toBe(false);
      send(subject, 2);
    }
    expect(subject.status()).toMatchObject({ nextIndex: 16, matchIndex: 9 });
    expect(subject.isPaused).toBe(true);
    // The middle of the first append frees nothing.
    subject.acknowledge(10, 1);
    expect(subject.isPaused).toBe(true);
    subject.acknowledge(11, 1);
    expect(subject.isPaused).toBe(false);
  });

  test('stops when the window is full by bytes', () => {
    const subject = replicating({ appendBytesMax: 10, inflightAppendsMax: 100 });
    send(subject, 1, 79);
    expect(subject.isPaused).toBe(false);
    send(subject, 1, 1);
    expect(subject.isPaused).toBe(true);
    subject.acknowledge(10, 1);
    expect(subject.isPaused).toBe(false);
  });

  test('ignores acknowledgements that come again or late', () => {
    const subject = replicating();
    send(subject, 2);
    subject.acknowledge(11, 1);
    expect(subject.acknowledge(11, 1)).toBe(false);
    expect(subject.acknowledge(10, 1)).toBe(false);
    expect(subject.matchIndex).toBe(11);
  });

  test('falls back to a probe after the match when it is refused', () => {
    const subject = replicating();
    send(subject, 2);
    send(subject, 2);
    subject.refuse(9, 3);
    expect(subject.kind).toBe('replicate');
    subject.refuse(11, 3);
    expect(subject.status()).toMatchObject({ kind: 'probe', nextIndex: 10 });
    expect(subject.isPaused).toBe(false);
  });

  test('asks when a heartbeat is answered and something is still unanswered', () => {
    const subject = replicating();
    subject.hearHeartbeat(9);
    expect(subject.isAnswerWanted).toBe(false);
    send(subject, 1);
    subject.hearHeartbeat(10);
    expect(subject.isAnswerWanted).toBe(true);
    send(subject, 0);
    expect(subject.isAnswerWanted).toBe(false);
  });

  test('forgets what an unreachable server was sent, and waits for a sign of life', () => {
    const subject = replicating();
    subject.sendAppend({ entryCount: 1, bytes: 1, leaderCommit: 10 });
    expect(subject.sentCommit).toBe(10);
    subject.reportUnreachable();
    expect(subject.status()).toMatchObject({ kind: 'probe', nextIndex: 10 });
    expect(subject.sentCommit).toBe(9);
    expect(subject.isPaused).toBe(true);
  });
});

describe('a snapshot', () => {
  test.each([
    { name: 'acknowledged', event: (p: Progress) => p.acknowledge(20, 15), nextIndex: 21 },
    {
      name: 'enough of the log held',
      event: (p: Progress) => p.acknowledge(14, 15),
      nextIndex: 15,
    },
  ])('ends in replication when $name', ({ event, nextIndex }) => {
    const subject = progress();
    subject.sendSnapshot(20);
    expect(subject.isPaused).toBe(true);
    event(subject);
    expect(subject.status()).toMatchObject({ kind: 'replicate', nextIndex });
  });

  test.each([
    { ok: true, nextIndex: 21 },
    { ok: false, nextIndex: 1 },
  ])('reported with $ok ends in a probe that waits', ({ ok, nextIndex }) => {
    const subject = progress();
    subject.sendSnapshot(20);
    subject.reportSnapshot(ok);
    expect(subject.status()).toMatchObject({ kind: 'probe', nextIndex });
    expect(subject.isPaused).toBe(true);
  });

  test('is not ended by a refusal, nor by an acknowledgement from before the log', () => {
    const subject = progress();
    subject.sendSnapshot(20);
    subject.refuse(9, 0);
    subject.acknowledge(5, 15);
    expect(subject.kind).toBe('snapshot');
  });

  test('reported late changes nothing', () => {
    const subject = replicating();
    subject.reportSnapshot(false);
    expect(subject.kind).toBe('replicate');
  });
});
