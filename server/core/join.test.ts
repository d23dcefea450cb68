import { createHmac, randomBytes } from 'node:crypto';
import { beforeEach, expect, test } from 'vitest';
import { decrypt } from './aes-gcm.ts';
import { ANSWERS_MAX, CHALLENGE_MS_MAX, deriveJoinKeys, JoinChallenges } from './join.ts';
import type { JoinClaim } from './join.ts';

const SEAL = { secretShares: 1, secretThreshold: 1 };
const CLAIM: JoinClaim = { nodeId: 'n', instance: 'i', clusterAddress: 'a:1', nonVoter: false };

const unsealKey = randomBytes(32);
let nowMs: number;
let challenges: JoinChallenges;

function activeNode(): JoinChallenges {
  return new JoinChallenges(deriveJoinKeys(unsealKey), () => nowMs);
}

beforeEach(() => {
  nowMs = 1_000_000;
  challenges = activeNode();
});

/** What who holds the unseal key makes of a challenge. */
function answerOf(challenge: unknown, claim = CLAIM): string {
  const sealed = Buffer.from(String(challenge), 'base64');
  const secret = decrypt(deriveJoinKeys(unsealKey).challenge, sealed, Buffer.from(claim.nodeId));
  if (secret === undefined) throw new Error('not sealed for this node');
  const { nodeId, instance, clusterAddress, nonVoter } = claim;
  const text = JSON.stringify([nodeId, instance, clusterAddress, nonVoter]);
  const proof = createHmac('sha256', secret).update(text).digest();
  return Buffer.concat([sealed, proof]).toString('base64');
}

function askedFor(nodeId = CLAIM.nodeId): unknown {
  return challenges.create(nodeId, SEAL)['challenge'];
}

test('neither many challenges, nor one for the same id, nor wrong answers take one away', () => {
  const challenge = askedFor();
  for (let each = 0; each < 10_000; each += 1) askedFor(`n${each}`);
  const later = askedFor();
  expect(() => challenges.verify(CLAIM, String(challenge))).toThrow('invalid answer given');
  challenges.verify(CLAIM, answerOf(challenge));
  challenges.verify(CLAIM, answerOf(later));
});

test('an answer is for what was claimed, once, at the node that asked', () => {
  const answer = answerOf(askedFor());
  for (const other of [{ clusterAddress: 'b:1' }, { instance: 'j' }, { nonVoter: true }]) {
    const claim = { ...CLAIM, ...other };
    expect(() => challenges.verify(claim, answer)).toThrow('invalid answer given');
  }
  expect(() => challenges.verify({ ...CLAIM, nodeId: 'm' }, answer)).toThrow('no expected answer');
  expect(() => activeNode().verify(CLAIM, answer)).toThrow('no expected answer');
  challenges.verify(CLAIM, answer);
  expect(() => challenges.verify(CLAIM, answer)).toThrow('no expected answer');
});

test('a challenge is good for a while', () => {
  const [last, late] = [askedFor(), askedFor()];
  nowMs += CHALLENGE_MS_MAX - 1;
  challenges.verify(CLAIM, answerOf(last));
  nowMs += 1;
  expect(() => challenges.verify(CLAIM, answerOf(late))).toThrow('no expected answer');
});

test('so many right answers are remembered, for as long as they could be given again', () => {
  const first = answerOf(askedFor());
  challenges.verify(CLAIM, first);
  for (let count = 1; count < ANSWERS_MAX; count += 1) {
    challenges.verify(CLAIM, answerOf(askedFor()));
  }
  const next = answerOf(askedFor());
  expect(() => challenges.verify(CLAIM, next)).toThrow(`${ANSWERS_MAX} servers are joining`);
  expect(() => challenges.verify(CLAIM, first)).toThrow('no expected answer');
  nowMs += CHALLENGE_MS_MAX;
  challenges.verify(CLAIM, answerOf(askedFor()));
});
