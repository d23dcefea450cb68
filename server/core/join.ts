/**
 * How a node joins: it must prove that it can be unsealed with the cluster's shares before it gets
 * the cluster's credentials (OpenBao internal/vault/raft.go, `raftJoin`).
 *
 *   joiner                                       active node
 *     challenge {node_id}  ------------------->    random secret, remembered once for this node
 *     <----- {challenge, seal_config}              sealed under K1
 *     answer = HMAC(secret, node_id, cluster_addr, non_voter)
 *     answer {node_id, cluster_addr, answer} -->   compares; adds the node as a learner
 *     <----- {credentials}                         sealed under K2
 *
 * K1 and K2 are derived from the unseal key (HKDF), so nothing here is worth anything to who only
 * listens, and what a node claims about itself cannot be changed on the way: the API port may be
 * plain text. A secret is good for one answer.
 */

import { createHmac, randomBytes, timingSafeEqual } from 'node:crypto';
import { setTimeout as delay } from 'node:timers/promises';
import { isServerError, ServerError } from '../errors.ts';
import { decrypt, encrypt } from './aes-gcm.ts';
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
  readonly clusterAddress: string;
  readonly nonVoter: boolean;
};

/** OpenBao's. */
export const JOIN_RETRY_MS = 2000;

const SECRET_BYTES = 32;
/** Anyone may ask for a challenge, so the oldest give way. */
const CHALLENGES_MAX = 128;

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
  /** By node id, oldest first. */
  readonly #secrets = new Map<string, Buffer>();

  constructor(keys: JoinKeys) {
    this.#keys = keys;
  }

  create(nodeId: string, sealConfig: SealConfig): JsonObject {
    if (nodeId === '') throw new ServerError('invalid-request', 'no node id provided');
    const secret = randomBytes(SECRET_BYTES);
    this.#secrets.delete(nodeId);
    if (this.#secrets.size >= CHALLENGES_MAX) {
      for (const oldest of this.#secrets.keys()) {
        this.#secrets.delete(oldest);
        break;
      }
    }
    this.#secrets.set(nodeId, secret);
    const challenge = encrypt(this.#keys.challenge, secret, Buffer.from(nodeId));
    return { challenge: challenge.toString('base64'), seal_config: sealConfigJson(sealConfig) };
  }

  /** Throws unless `answer` proves knowledge of the unseal key. Forgets the challenge either way. */
  verify(claim: JoinClaim, answer: string): void {
    const secret = this.#secrets.get(claim.nodeId);
    this.#secrets.delete(claim.nodeId);
    if (secret === undefined) {
      throw new ServerError('invalid-request', 'no expected answer for the server id provided');
    }
    const given = Buffer.from(answer, 'base64');
    const expected = answerOf(secret, claim);
    if (given.length !== expected.length || !timingSafeEqual(given, expected)) {
      throw new ServerError('invalid-request', 'invalid answer given');
    }
  }

  sealCredentials(nodeId: string, credentials: ClusterCredentials): JsonObject {
    const plaintext = Buffer.from(JSON.stringify(credentials));
    const sealed = encrypt(this.#keys.credentials, plaintext, Buffer.from(nodeId));
    return { credentials: sealed.toString('base64') };
  }

  destroy(): void {
    this.#secrets.clear();
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
        const reply = await client.challenge(peer, { node_id: nodeId });
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
  const reply = await client.challenge(peer, { node_id: claim.nodeId });
  const secret = openText(keys.challenge, reply['challenge'], nodeIdBytes);
  if (secret === undefined) {
    throw new ServerError('invalid-request', 'Unseal failed, invalid key');
  }
  const answer = await client.answer(peer, {
    node_id: claim.nodeId,
    cluster_addr: claim.clusterAddress,
    non_voter: claim.nonVoter,
    answer: answerOf(secret, claim).toString('base64'),
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

function answerOf(secret: Buffer, claim: JoinClaim): Buffer {
  const text = JSON.stringify([claim.nodeId, claim.clusterAddress, claim.nonVoter]);
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
