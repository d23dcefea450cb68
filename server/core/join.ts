/**
 * How a node joins: it must prove that it can be unsealed with the cluster's shares before it gets
 * the cluster's credentials (OpenBao internal/vault/raft.go, `raftJoin`).
 *
 *   joiner                                       active node
 *     challenge {server_id} ------------------->   random secret, its own name, and when
 *     <----- {challenge, seal_config}              sealed under K1, and not remembered
 *     answer = challenge | HMAC(secret, claim)
 *     answer {claim, answer} ------------------>   opens and compares; adds the node as a learner
 *     <----- {credentials}                         sealed under K2
 *
 * The claim is server_id, instance, cluster_addr and non_voter; the instance names the disk that the
 * node will keep its promises on. K1 and K2 are derived from the unseal key (HKDF), so nothing here
 * is worth anything to who only listens, and what a node claims about itself cannot be changed on
 * the way: the API port may be plain text. A secret is good for one answer, for a while, and to this
 * active node.
 *
 * Anyone may ask for a challenge, so asking costs the active node no memory: however many are asked
 * for, and whoever answers wrongly in another's name, an honest joiner's challenge stays good. What
 * is remembered are right answers, which take the unseal key.
 */

import { createHmac, randomBytes, timingSafeEqual } from 'node:crypto';
import { setTimeout as delay } from 'node:timers/promises';
import { isServerError, ServerError } from '../errors.ts';
import { decrypt, encrypt, NONCE_BYTES, TAG_BYTES } from './aes-gcm.ts';
import type { JsonObject } from './backend.ts';
import type { ChangeFeed, ClusterCredentials, JoinClient, JoinPeer } from './ports.ts';
import { deriveKey, parseSealConfig, sealConfigJson } from './seal.ts';
import type { SealConfig } from './seal.ts';

export type JoinTarget = {
  readonly peers: readonly JoinPeer[];
  readonly nonVoter: boolean;
  /** Ask on where a member cannot be reached, or the cluster has no leader. */
  readonly retry: boolean;
  /** Of the cluster to be joined, so that this node knows how many shares to collect. */
  readonly sealConfig: SealConfig;
};

/** What a joiner claims; the answer vouches for it. */
export type JoinClaim = {
  readonly nodeId: string;
  readonly instance: string;
  readonly clusterAddress: string;
  readonly nonVoter: boolean;
};

/** OpenBao's. */
export const JOIN_RETRY_MS = 2000;

/** Of a challenge: a random secret, which active node it is for, and the time it was given. */
const SECRET_BYTES = 32;
const ISSUER_BYTES = 16;
const TIME_BYTES = 8;
const CHALLENGE_BYTES = NONCE_BYTES + SECRET_BYTES + ISSUER_BYTES + TIME_BYTES + TAG_BYTES;
/** How long a joiner may take to answer: it does so at once. */
export const CHALLENGE_MS_MAX = 60_000;
/** Right answers within that time; beyond, joiners are told to come again. */
export const ANSWERS_MAX = 1024;

const CHALLENGE_PURPOSE = 'baobench raft join: challenge';
const CREDENTIALS_PURPOSE = 'baobench raft join: credentials';

/** The keys of the exchange; all that an unsealed node keeps of the unseal key. */
export type JoinKeys = { readonly challenge: Buffer; readonly credentials: Buffer };

export function deriveJoinKeys(unsealKey: Buffer): JoinKeys {
  return {
    challenge: deriveKey(unsealKey, CHALLENGE_PURPOSE),
    credentials: deriveKey(unsealKey, CREDENTIALS_PURPOSE),
  };
}

/** The active node's side. */
export class JoinChallenges {
  readonly #keys: JoinKeys;
  readonly #clock: () => number;
  readonly #issuer = randomBytes(ISSUER_BYTES);
  /** Secrets that were answered rightly, oldest first, and when they would expire. */
  readonly #answered = new Map<string, number>();

  constructor(keys: JoinKeys, clock: () => number) {
    this.#keys = keys;
    this.#clock = clock;
  }

  create(nodeId: string, sealConfig: SealConfig): JsonObject {
    if (nodeId === '') throw new ServerError('invalid-request', 'no node id provided');
    const time = Buffer.alloc(TIME_BYTES);
    time.writeDoubleBE(this.#clock());
    const secret = Buffer.concat([randomBytes(SECRET_BYTES), this.#issuer, time]);
    const challenge = encrypt(this.#keys.challenge, secret, Buffer.from(nodeId));
    // As OpenBao prints a seal configuration (internal/vault/seal.go `SealConfig`).
    const config = { ...sealConfigJson(sealConfig), pgp_keys: null, nonce: '', backup: false };
    return { challenge: challenge.toString('base64'), seal_config: config };
  }

  /** Throws unless `answer` proves knowledge of the unseal key, for the first time. */
  verify(claim: JoinClaim, answer: string): void {
    const bytes = Buffer.from(answer, 'base64');
    const challenge = bytes.subarray(0, CHALLENGE_BYTES);
    const secret = decrypt(this.#keys.challenge, challenge, Buffer.from(claim.nodeId));
    const expiresMs = secret === undefined ? 0 : this.#expiryOf(secret);
    if (secret === undefined || expiresMs <= this.#clock()) {
      throw new ServerError('invalid-request', 'no expected answer for the server id provided');
    }
    const given = bytes.subarray(CHALLENGE_BYTES);
    const expected = answerOf(secret, claim);
    if (given.length !== expected.length || !timingSafeEqual(given, expected)) {
      throw new ServerError('invalid-request', 'invalid answer given');
    }
    this.#spend(secret.toString('base64'), expiresMs);
  }

  /** 0 for one of another active node. */
  #expiryOf(secret: Buffer): number {
    const issuer = secret.subarray(SECRET_BYTES, SECRET_BYTES + ISSUER_BYTES);
    if (!issuer.equals(this.#issuer)) return 0;
    return secret.readDoubleBE(SECRET_BYTES + ISSUER_BYTES) + CHALLENGE_MS_MAX;
  }

  #spend(secret: string, expiresMs: number): void {
    for (const [oldest, endMs] of this.#answered) {
      if (this.#clock() < endMs) break;
      this.#answered.delete(oldest);
    }
    if (this.#answered.has(secret)) {
      throw new ServerError('invalid-request', 'no expected answer for the server id provided');
    }
    if (ANSWERS_MAX <= this.#answered.size) {
      throw new ServerError('overloaded', `${ANSWERS_MAX} servers are joining`);
    }
    this.#answered.set(secret, expiresMs);
  }

  sealCredentials(nodeId: string, credentials: ClusterCredentials): JsonObject {
    const plaintext = Buffer.from(JSON.stringify(credentials));
    const sealed = encrypt(this.#keys.credentials, plaintext, Buffer.from(nodeId));
    return { credentials: sealed.toString('base64') };
  }

  destroy(): void {
    this.#answered.clear();
    this.#keys.challenge.fill(0);
    this.#keys.credentials.fill(0);
  }
}

/** The joiner's first question, to all at once: how many shares does the cluster want? */
export async function askSealConfig(
  client: JoinClient,
  peers: readonly JoinPeer[],
  nodeId: string,
): Promise<SealConfig> {
  try {
    return await Promise.any(
      peers.map(async (peer) => {
        const reply = await client.challenge(peer, { server_id: nodeId });
        return parseSealConfig(reply['seal_config']);
      }),
    );
  } catch (error) {
    if (!(error instanceof AggregateError)) throw error;
    const [first] = error.errors;
    if (error.errors.length === 1) throw first;
    const reasons = error.errors.map((each) => (each instanceof Error ? each.message : '?'));
    throw new ServerError('internal', reasons.join('; '), { cause: error });
  }
}

/**
 * The joiner's side: asks one member after the other until one takes it in, and with `retry` all
 * of them again for up to `msMax`. Throws `invalid-request` if the unseal key is not the
 * cluster's, and then asks nobody else.
 */
export async function join(
  client: JoinClient,
  target: Pick<JoinTarget, 'peers' | 'retry'>,
  claim: JoinClaim,
  { keys, msMax }: { readonly keys: JoinKeys; readonly msMax: number },
): Promise<ClusterCredentials> {
  const deadlineMs = performance.now() + (target.retry ? msMax : 0);
  for (;;) {
    let failure: unknown;
    for (const peer of target.peers) {
      try {
        return await joinThrough(client, peer, claim, keys);
      } catch (error) {
        if (isServerError(error, 'invalid-request')) throw error;
        failure = error;
      }
    }
    if (deadlineMs <= performance.now()) throw failure;
    await delay(JOIN_RETRY_MS);
  }
}

async function joinThrough(
  client: JoinClient,
  peer: JoinPeer,
  claim: JoinClaim,
  keys: JoinKeys,
): Promise<ClusterCredentials> {
  const nodeIdBytes = Buffer.from(claim.nodeId);
  const reply = await client.challenge(peer, { server_id: claim.nodeId });
  const secret = openText(keys.challenge, reply['challenge'], nodeIdBytes);
  if (secret === undefined) {
    throw new ServerError('invalid-request', 'Unseal failed, invalid key');
  }
  const answer = await client.answer(peer, {
    server_id: claim.nodeId,
    instance: claim.instance,
    cluster_addr: claim.clusterAddress,
    non_voter: claim.nonVoter,
    answer: answerTo(reply['challenge'], secret, claim),
  });
  const credentials = openText(keys.credentials, answer['credentials'], nodeIdBytes);
  if (credentials === undefined) {
    throw new ServerError(
      'internal',
      'Cannot join: the credentials in the reply are not authentic',
    );
  }
  const parsed: ClusterCredentials = JSON.parse(credentials.toString());
  return parsed;
}

/** The challenge itself goes back with the answer: the active node keeps none. */
function answerTo(challenge: unknown, secret: Buffer, claim: JoinClaim): string {
  const sealed = Buffer.from(String(challenge), 'base64');
  return Buffer.concat([sealed, answerOf(secret, claim)]).toString('base64');
}

function answerOf(secret: Buffer, claim: JoinClaim): Buffer {
  const { nodeId, instance, clusterAddress, nonVoter } = claim;
  const text = JSON.stringify([nodeId, instance, clusterAddress, nonVoter]);
  return createHmac('sha256', secret).update(text).digest();
}

function openText(key: Buffer, text: unknown, additionalData: Buffer): Buffer | undefined {
  if (typeof text !== 'string') return undefined;
  return decrypt(key, Buffer.from(text, 'base64'), additionalData);
}

/** Resolves at the first change after which `hasArrived`; rejects with `no-leader` if none comes. */
export async function arrival(
  changeFeed: ChangeFeed,
  hasArrived: () => boolean,
  msMax: number,
): Promise<void> {
  if (hasArrived()) return;
  await new Promise<void>((resolve, reject) => {
    const timer = setTimeout(() => {
      unsubscribe();
      reject(new ServerError('no-leader', `Cannot join: nothing arrived within ${msMax} ms`));
    }, msMax);
    const unsubscribe = changeFeed.subscribe(() => {
      if (!hasArrived()) return;
      clearTimeout(timer);
      unsubscribe();
      resolve();
    });
  });
}
