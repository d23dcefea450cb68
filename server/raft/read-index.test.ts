import { describe, expect, test } from 'vitest';

import { HeartbeatRounds } from './heartbeat-rounds.ts';
import { Log } from './log.ts';
import type { Message } from './message.ts';
import { Outbox } from './outbox.ts';
import { QUESTIONS_MAX, ReadIndex } from './read-index.ts';
import { FORWARDED_MAX, Reads } from './reads.ts';

/** A leader n1 of term 1 with entry 1 of its term committed, or not yet. */
function leader({
  isCommitted,
  leaseMs = 0,
  voters = ['n1', 'n2', 'n3', 'n4', 'n5'],
}: {
  isCommitted: boolean;
  leaseMs?: number;
  voters?: readonly string[];
}) {
  const outbox = new Outbox();
  const log = new Log({
    snapshotIndex: 0,
    snapshotTerm: 0,
    entries: [{ index: 1, term: 1, kind: 'noop', command: new Uint8Array() }],
    appliedIndex: 0,
    commitIndex: isCommitted ? 1 : 0,
  });
  const reads = new Reads('n1', outbox);
  const isQuorum = (holds: (voter: string) => boolean): boolean =>
    voters.filter(holds).length > voters.length / 2;
  const ground = { term: 1, log, outbox, reads, isQuorum };
  const readIndex = new ReadIndex({ id: 'n1', leaseMs }, ground);
  const sent = (): readonly Message[] => outbox.take(true).messages;
  return { log, reads, readIndex, sent };
}

describe('a question proves for its asker', () => {
  test.each([
    { from: 'n2', voters: ['n1', 'n2', 'n3'], isProved: true },
    { from: 'n4', voters: ['n1', 'n2', 'n3'], isProved: false },
    { from: 'n2', voters: ['n1', 'n2', 'n3', 'n4'], isProved: false },
    { from: 'n2', voters: ['n2', 'n3', 'n4'], isProved: false },
  ])('$from among $voters: $isProved', ({ from, voters, isProved }) => {
    const { readIndex, sent } = leader({ isCommitted: true, voters });
    readIndex.ask({ from, id: 7 });
    const answer = { kind: 'readIndexResponse', to: from, id: 7, success: true, index: 1 };
    expect(sent()).toMatchObject(isProved ? [answer] : []);
    expect(readIndex.isRoundDue).toBe(!isProved);
  });

  test('and for no lease, on which it does not rest', () => {
    const { readIndex, reads } = leader({
      isCommitted: true,
      leaseMs: 100,
      voters: ['n1', 'n2', 'n3'],
    });
    readIndex.ask({ from: 'n2', id: 7 });
    readIndex.ask({ from: 'n1', id: 8 });
    expect(reads.take()).toEqual([]);
  });
});

describe('limits', () => {
  test.each([true, false])('questions that wait are counted, own commit: %s', (isCommitted) => {
    const { readIndex, reads, sent } = leader({ isCommitted });
    for (let id = 0; id < QUESTIONS_MAX; id += 1) readIndex.ask({ from: 'n2', id });
    readIndex.ask({ from: 'n3', id: 7 });
    readIndex.ask({ from: 'n1', id: 8 });
    expect(sent()).toEqual([
      { kind: 'readIndexResponse', from: 'n1', to: 'n3', term: 1, id: 7, success: false, index: 0 },
    ]);
    expect(reads.take()).toEqual([{ kind: 'failed', id: 8 }]);
  });

  test('room is made by confirmed questions', () => {
    const { readIndex, sent } = leader({ isCommitted: true });
    for (let id = 0; id < QUESTIONS_MAX; id += 1) readIndex.ask({ from: 'n2', id });
    readIndex.advance(readIndex.beginRound());
    expect(sent().length).toBe(QUESTIONS_MAX);
    readIndex.ask({ from: 'n3', id: 7 });
    expect(sent()).toEqual([]);
  });

  test('questions to the leader are counted, and lost ones make room for new ones', () => {
    const reads = new Reads('n2', new Outbox());
    reads.follow(1, 'n1');
    for (let id = 0; id <= FORWARDED_MAX; id += 1) reads.forward(id);
    expect(reads.take()).toEqual([{ kind: 'failed', id: 0 }]);
    const answer = { kind: 'readIndexResponse', from: 'n1', to: 'n2', term: 1 } as const;
    for (const id of [0, FORWARDED_MAX]) {
      reads.onResponse({ ...answer, id, success: true, index: 5 });
    }
    expect(reads.take()).toEqual([{ kind: 'confirmed', id: FORWARDED_MAX, index: 5 }]);
    reads.forward(FORWARDED_MAX + 1);
    reads.follow(2, null);
    expect(reads.take().length).toBe(FORWARDED_MAX);
  });

  test('answers to heartbeats are remembered up to a number, and what is known stays true', () => {
    const reads = new Reads('n2', new Outbox());
    reads.follow(1, 'n1');
    for (let round = 1; round <= 100; round += 1) {
      reads.advanceTime(round * 10);
      reads.answerRound(round);
    }
    // Of round 90 nothing is kept; what is known of an earlier one holds for it, too.
    reads.onFresh(90, 7);
    expect(reads.freshness).toEqual({ asOfMs: 160, index: 7 });
    reads.answerRound(101);
    reads.onFresh(101, 8);
    expect(reads.freshness).toEqual({ asOfMs: 1_000, index: 8 });
  });

  test('times of rounds are given up, oldest first, and never the rounds', () => {
    const rounds = new HeartbeatRounds();
    for (let round = 1; round <= 1_000; round += 1) rounds.begin(round);
    rounds.confirm(10);
    expect([rounds.confirmed, rounds.confirmedSentMs]).toEqual([10, -Infinity]);
    rounds.confirm(999);
    expect([rounds.confirmed, rounds.confirmedSentMs]).toEqual([999, 999]);
  });
});

describe('heartbeat rounds', () => {
  test('answers count by the highest, in whatever order they come', () => {
    const rounds = new HeartbeatRounds();
    for (const ms of [10, 20, 30]) rounds.begin(ms);
    rounds.answer('n2', 3);
    rounds.answer('n2', 1);
    expect([rounds.answeredBy('n2'), rounds.answeredBy('n3')]).toEqual([3, 0]);
    expect(() => rounds.answer('n2', 4)).toThrow('never sent');
  });

  test('a lease counts from when the round was sent, whenever its answer came', () => {
    const { readIndex, reads } = leader({ isCommitted: true, leaseMs: 100 });
    reads.advanceTime(1_000);
    const round = readIndex.beginRound();
    reads.advanceTime(1_090);
    readIndex.advance(round);
    readIndex.ask({ from: 'n1', id: 1 });
    reads.advanceTime(1_100);
    readIndex.ask({ from: 'n1', id: 2 });
    expect(reads.take()).toEqual([{ kind: 'confirmed', id: 1, index: 1 }]);
    expect(readIndex.isRoundDue).toBe(true);
  });

  test('an older confirmation does not shorten a lease, and one forgotten gives none', () => {
    const rounds = new HeartbeatRounds();
    for (const ms of [10, 20, 30]) rounds.begin(ms);
    expect([rounds.confirm(2), rounds.confirm(1), rounds.confirmedSentMs]).toEqual([
      true,
      false,
      20,
    ]);
    rounds.forgetTimes();
    expect([rounds.confirm(3), rounds.confirmedSentMs]).toEqual([true, -Infinity]);
    rounds.confirm(rounds.begin(40));
    expect(rounds.confirmedSentMs).toBe(40);
  });

  test('time does not go back', () => {
    const { reads } = leader({ isCommitted: true });
    reads.advanceTime(5);
    expect(() => reads.advanceTime(4)).toThrow('time went back');
  });
});
