/**
 * The Shamir seal: the unseal key is split into shares for people to hold, and wraps the root key,
 * which alone is stored (`core/hsm/barrier-unseal-keys`); the root key wraps the keyring.
 *
 * Shares are collected here until the threshold is met. A wrong set costs only itself: progress
 * and nonce start anew and nothing stored is touched. Texts are OpenBao's
 * (internal/vault/seal_manager.go, init.go).
 */

import assert from 'node:assert/strict';
import { hkdfSync, randomBytes, randomUUID, timingSafeEqual } from 'node:crypto';
import { combine, split } from 'shamir-secret-sharing';
import { ServerError } from '../errors.ts';
import { KEY_BYTES, decrypt, encrypt } from './aes-gcm.ts';
import type { PhysicalStore, WriteOperation } from './ports.ts';

export const SEAL_CONFIG_PATH = 'core/seal-config';
export const UNSEAL_KEYS_PATH = 'core/hsm/barrier-unseal-keys';

export type SealConfig = { readonly secretShares: number; readonly secretThreshold: number };

/** What `sys/seal-status` and `sys/unseal` answer. */
export type SealStatus = {
  readonly type: 'shamir';
  readonly initialized: boolean;
  readonly sealed: boolean;
  /** Threshold and number of shares; 0 before initialization. */
  readonly t: number;
  readonly n: number;
  /** Shares collected so far. */
  readonly progress: number;
  /** Names this attempt; empty without one. */
  readonly nonce: string;
  /** Known only while unsealed. */
  readonly clusterName: string | undefined;
  readonly clusterId: string | undefined;
};

const KEY_BYTES_MIN = 16;
/** A share is one byte longer than what it shares: its x coordinate. */
const SHARE_OVERHEAD_BYTES = 1;
const SHARES_MAX = 255;

/** The shares being collected. */
export class UnsealProgress {
  #shares: Buffer[] = [];
  #nonce = '';

  get shareCount(): number {
    return this.#shares.length;
  }

  get nonce(): string {
    return this.#nonce;
  }

  /**
   * Adds a share; returns the unseal key once there are enough, having forgotten them. The same
   * share twice counts once.
   */
  async add(share: Buffer, config: SealConfig): Promise<Buffer | undefined> {
    if (share.length < KEY_BYTES_MIN) {
      throw invalidKey(`key is shorter than minimum ${KEY_BYTES_MIN} bytes`);
    }
    const bytesMax = KEY_BYTES + SHARE_OVERHEAD_BYTES;
    if (share.length > bytesMax) {
      throw invalidKey(`key is longer than maximum ${bytesMax} bytes`);
    }
    if (this.#shares.some((known) => isSame(known, share))) return undefined;
    if (this.#nonce === '') this.#nonce = randomUUID();
    this.#shares.push(Buffer.from(share));
    if (this.#shares.length < config.secretThreshold) return undefined;

    const shares = this.#shares;
    this.#shares = [];
    this.#nonce = '';
    try {
      return await combineShares(shares);
    } finally {
      for (const each of shares) each.fill(0);
    }
  }

  reset(): void {
    for (const share of this.#shares) share.fill(0);
    this.#shares = [];
    this.#nonce = '';
  }
}

/** Throws `invalid-request` for numbers that OpenBao refuses, in its words (vault/init.go). */
export function validateSealConfig(config: SealConfig): void {
  const complaint = sealConfigComplaint(config);
  if (complaint === undefined) return;
  throw new ServerError('invalid-request', `invalid seal configuration: ${complaint}`);
}

function sealConfigComplaint({ secretShares, secretThreshold }: SealConfig): string | undefined {
  if (!Number.isInteger(secretShares) || secretShares < 1) return 'shares must be at least one';
  if (!Number.isInteger(secretThreshold) || secretThreshold < 1) {
    return 'threshold must be at least one';
  }
  if (secretShares > 1 && secretThreshold === 1) {
    return 'threshold must be greater than one for multiple shares';
  }
  if (secretShares > SHARES_MAX || secretThreshold > SHARES_MAX) {
    return `shares must be less than ${SHARES_MAX + 1}`;
  }
  return secretThreshold > secretShares ? 'threshold cannot be larger than shares' : undefined;
}

/** A single share is the key itself: the library splits into two and more only. */
export async function splitKey(key: Buffer, config: SealConfig): Promise<Buffer[]> {
  assert.equal(key.length, KEY_BYTES);
  if (config.secretShares === 1) return [Buffer.from(key)];
  const shares = await split(Uint8Array.from(key), config.secretShares, config.secretThreshold);
  return shares.map((share) => Buffer.from(share));
}

export function createKey(): Buffer {
  return randomBytes(KEY_BYTES);
}

export function readSealConfig(physical: Pick<PhysicalStore, 'get'>): SealConfig | undefined {
  const bytes = physical.get(SEAL_CONFIG_PATH);
  return bytes === undefined
    ? undefined
    : parseSealConfig(JSON.parse(Buffer.from(bytes).toString()));
}

/** Plain text: a sealed node needs it, and it reveals nothing. */
export function sealConfigOperation(config: SealConfig): WriteOperation {
  const value = Buffer.from(JSON.stringify(sealConfigJson(config)));
  return { kind: 'put', key: SEAL_CONFIG_PATH, value };
}

export type SealConfigJson = {
  readonly type: 'shamir';
  readonly secret_shares: number;
  readonly secret_threshold: number;
};

export function sealConfigJson(config: SealConfig): SealConfigJson {
  return {
    type: 'shamir',
    secret_shares: config.secretShares,
    secret_threshold: config.secretThreshold,
  };
}

export function parseSealConfig(json: unknown): SealConfig {
  assert(typeof json === 'object' && json !== null, 'seal configuration is not an object');
  assert('secret_shares' in json && typeof json.secret_shares === 'number');
  assert('secret_threshold' in json && typeof json.secret_threshold === 'number');
  const config = { secretShares: json.secret_shares, secretThreshold: json.secret_threshold };
  validateSealConfig(config);
  return config;
}

export function rootKeyOperation(unsealKey: Buffer, rootKey: Buffer): WriteOperation {
  const value = encrypt(unsealKey, rootKey, Buffer.from(UNSEAL_KEYS_PATH));
  return { kind: 'put', key: UNSEAL_KEYS_PATH, value };
}

/** Throws `invalid-request` with OpenBao's `ErrBarrierInvalidKey` if it does not open. */
export function readRootKey(physical: Pick<PhysicalStore, 'get'>, unsealKey: Buffer): Buffer {
  const sealed = physical.get(UNSEAL_KEYS_PATH);
  if (sealed === undefined) throw new ServerError('invalid-request', 'Vault is not initialized');
  const isKey = unsealKey.length === KEY_BYTES;
  const rootKey = isKey ? decrypt(unsealKey, sealed, Buffer.from(UNSEAL_KEYS_PATH)) : undefined;
  if (rootKey === undefined) {
    throw new ServerError('invalid-request', 'Unseal failed, invalid key');
  }
  return rootKey;
}

/** A key for one `purpose`, of which no other and not the unseal key can be learned. */
export function deriveKey(unsealKey: Buffer, purpose: string): Buffer {
  return Buffer.from(hkdfSync('sha256', unsealKey, '', purpose, KEY_BYTES));
}

async function combineShares(shares: readonly Buffer[]): Promise<Buffer> {
  const [first] = shares;
  assert(first !== undefined, 'no shares to combine');
  if (shares.length === 1) return Buffer.from(first);
  try {
    return Buffer.from(await combine(shares.map((share) => Uint8Array.from(share))));
  } catch (error) {
    const reason = error instanceof Error ? error.message : String(error);
    throw invalidKey(`failed to compute combined key: ${reason}`);
  }
}

function isSame(left: Buffer, right: Buffer): boolean {
  return left.length === right.length && timingSafeEqual(left, right);
}

function invalidKey(reason: string): ServerError {
  return new ServerError('invalid-request', `invalid key: ${reason}`);
}
