/**
 * Tokens: making, finding, renewing, using up and ending them. The files beside it hold the parts:
 * `token-records.ts` (keys in storage), `token-revocation.ts` (trees), `token-ttl.ts` (lifetimes),
 * `token-cache.ts`, and `token-expiry.ts` (the sweep). Follows openbao
 * internal/vault/token_store.go, with a token's lease kept in its entry instead of beside it.
 *
 * Invariants:
 * - Each change is one atomic write; a token exists with its accessor and parent index or not at
 *   all. Times and ids are made before the write, never when it is applied.
 * - Whoever owns the store reports every changed key to `invalidate` in the turn in which the
 *   change becomes readable, its own writes included. Look-ups are synchronous, so none can put
 *   back what an invalidation took away.
 * - A token is refused from its expiration on, whether or not the sweep has come by.
 * - Nothing here writes on a standby: reading creates neither salts nor leases.
 */

import { randomBytes } from 'node:crypto';
import { ServerError } from '../errors.ts';
import type { Auth, TokenEntry, Transaction } from './backend.ts';
import type { Asked } from './exactly-once.ts';
import { BATCH_PREFIX, decodeBatchToken, encodeBatchToken, sealedPartOf } from './token-batch.ts';
import { TokenCache } from './token-cache.ts';
import { authOf, initialTtl, newEntry, renewedEntry } from './token-entry.ts';
import type { RenewSpec, TokenGrant, TokenSpec } from './token-entry.ts';
import { TokenExpiry } from './token-expiry.ts';
import type { Expiration, SetTimer } from './token-expiry.ts';
import { checkChosenId } from './token-id.ts';
import { SALT_KEY, TOKEN_ID_PREFIX, TokenRecords } from './token-records.ts';
import { REVOCATION_PENDING, TokenRevocation } from './token-revocation.ts';
import type { TtlSettings } from './token-ttl.ts';
import type { OriginView } from './view.ts';

/** An entry takes about 1 KiB. */
const CACHE_SIZE_MAX = 65_536;

export type TokenStoreOptions = {
  /** The root of the namespace's storage; tokens are below `sys/token/`. */
  readonly view: OriginView;
  readonly namespaceId: string;
  /** Milliseconds since the epoch. */
  readonly clock: () => number;
  readonly settings: TtlSettings;
  /** The barrier's encryption, for batch tokens. `open` yields undefined for what is not ours. */
  readonly seal: (plaintext: Uint8Array) => Uint8Array;
  readonly open: (sealed: Uint8Array) => Uint8Array | undefined;
  readonly setTimer: SetTimer;
  /** Destroys what a token owns elsewhere (its cubbyhole), before the token goes. */
  readonly destroyOwned: (tokenId: string) => Promise<void>;
  /** Hears of revocations by the sweep that failed, and of a restore that failed (no token). */
  readonly onExpiryFailure: (error: unknown, saltedId: string | undefined) => void;
};

type Birth = {
  readonly entry: TokenEntry;
  readonly isChosenId: boolean;
  readonly grant: TokenGrant;
};

export class TokenStore {
  readonly #options: TokenStoreOptions;
  readonly #records: TokenRecords;
  readonly #revocation: TokenRevocation;
  readonly #cache = new TokenCache(CACHE_SIZE_MAX);
  #expiry: TokenExpiry | undefined;

  constructor(options: TokenStoreOptions) {
    this.#options = options;
    this.#records = new TokenRecords(options.view, randomBytes);
    this.#revocation = new TokenRevocation({
      ...options,
      records: this.#records,
      onGone: (saltedId) => this.#expiry?.forget(saltedId),
    });
  }

  /** The token if it is good now. Synchronous and local; a hit costs one look-up in a map. */
  lookup(id: string): TokenEntry | undefined {
    const entry = this.#cache.get(id) ?? this.#load(id);
    if (entry === undefined || entry.numUses < 0 || !this.#isInTime(entry)) return undefined;
    return entry;
  }

  /** As `lookup`, but also a token whose last use is the request at hand. */
  lookupTainted(id: string): TokenEntry | undefined {
    const entry = this.#cache.get(id) ?? this.#load(id);
    return entry === undefined || !this.#isInTime(entry) ? undefined : entry;
  }

  /** The token that an accessor stands for, also one in its last use. */
  lookupAccessor(accessor: string): TokenEntry | undefined {
    const id = this.#records.tokenOfAccessor(accessor);
    return id === undefined ? undefined : this.lookupTainted(id);
  }

  /** Throws `read-only` on a standby. Whoever judges before writing calls this first. */
  requireWritable(): void {
    this.#options.view.requireWritable();
  }

  async listAccessors(): Promise<string[]> {
    return this.#records.accessors();
  }

  /**
   * Throws `invalid-request` if the parent is gone, or the chosen id cannot be had. With `asked`, it
   * is all that a request does, and that is what it is answered.
   */
  async create(spec: TokenSpec, asked?: Asked<TokenGrant>): Promise<TokenGrant> {
    this.requireWritable();
    const nowMs = this.#options.clock();
    const { ttlSeconds, warnings } = initialTtl(this.#options.settings, spec, nowMs);
    const entry = newEntry(this.#options.namespaceId, spec, { ttlSeconds, nowMs });
    if (spec.type === 'batch') {
      const id = `${BATCH_PREFIX}${Buffer.from(this.#options.seal(encodeBatchToken(entry))).toString('base64url')}`;
      return { auth: authOf({ ...entry, id }, ttlSeconds), warnings };
    }
    await this.#records.ensureSalt();
    const grant = { auth: authOf(entry, ttlSeconds), warnings };
    return this.#store({ entry, isChosenId: spec.id !== '', grant }, asked);
  }

  async createRootToken(): Promise<Auth> {
    const { auth } = await this.create({
      id: '',
      type: 'service',
      policies: ['root'],
      path: 'auth/token/root',
      meta: null,
      displayName: 'root',
      parent: '',
      role: '',
      numUses: 0,
      renewable: false,
      ttlSeconds: 0,
      periodSeconds: 0,
      explicitMaxTtlSeconds: 0,
      rolePeriodSeconds: 0,
      roleExplicitMaxTtlSeconds: 0,
    });
    return auth;
  }

  /** Throws `invalid-request` if the token is gone or cannot be renewed. */
  async renew(id: string, spec: RenewSpec): Promise<TokenGrant> {
    this.requireWritable();
    const saltedId = this.#records.requireSaltedId(id);
    return this.#revocation.locks.run(saltedId, () =>
      this.#options.view.transact((transaction) => {
        const entry = this.#readGood(id, transaction);
        if (entry === undefined) throw invalid('token not found');
        const { renewed, grant } = renewedEntry(entry, spec, {
          settings: this.#options.settings,
          nowMs: this.#options.clock(),
        });
        if (renewed.expireTimeMs !== null) {
          this.#expiry?.schedule(saltedId, renewed.expireTimeMs);
        }
        transaction.write([this.#records.putOperation(saltedId, renewed)]);
        return grant;
      }),
    );
  }

  /**
   * Takes one use off a limited token, durably, and returns it as it is then. A `numUses` of
   * `REVOCATION_PENDING` says that this was the last: the caller revokes the token when the
   * request is done. Throws `permission-denied` if no use was left.
   */
  async useToken(token: TokenEntry): Promise<TokenEntry> {
    if (token.numUses === 0) return token;
    this.requireWritable();
    const saltedId = this.#records.requireSaltedId(token.id);
    return this.#revocation.locks.run(saltedId, () =>
      this.#options.view.transact((transaction) => {
        const entry = this.#readGood(token.id, transaction);
        if (entry === undefined) {
          throw new ServerError('permission-denied', 'token not found or fully used already');
        }
        const numUses = entry.numUses === 1 ? REVOCATION_PENDING : entry.numUses - 1;
        const used: TokenEntry = { ...entry, numUses };
        transaction.write([this.#records.putOperation(saltedId, used)]);
        return used;
      }),
    );
  }

  /** Ends the token and all that descend from it; nothing happens if it does not exist. */
  async revokeTree(id: string): Promise<void> {
    this.requireWritable();
    const saltedId = this.#records.saltedId(id);
    if (saltedId !== undefined) await this.#revocation.revokeTree(saltedId);
  }

  /** Ends the token; its children live on as orphans. */
  async revokeOrphan(id: string): Promise<void> {
    this.requireWritable();
    const saltedId = this.#records.saltedId(id);
    if (saltedId !== undefined) await this.#revocation.revokeOrphan(saltedId);
  }

  /** Begins to revoke expired tokens, on the active node. Resolves when all expirations are read. */
  async startExpiry(): Promise<void> {
    this.stopExpiry();
    const expiry = new TokenExpiry({
      clock: this.#options.clock,
      setTimer: this.#options.setTimer,
      restore: () => this.#expirations(),
      expire: (saltedId) => this.#expire(saltedId),
      onFailure: this.#options.onExpiryFailure,
    });
    this.#expiry = expiry;
    await expiry.start();
  }

  stopExpiry(): void {
    this.#expiry?.stop();
    this.#expiry = undefined;
  }

  /** `key` as the view names it; undefined if everything may have changed. */
  invalidate(key: string | undefined): void {
    if (key === undefined || key === SALT_KEY) {
      this.#records.forgetSalt();
      this.#cache.clear();
    } else if (key.startsWith(TOKEN_ID_PREFIX)) {
      this.#cache.forgetSaltedId(key.slice(TOKEN_ID_PREFIX.length));
    }
  }

  #load(id: string): TokenEntry | undefined {
    if (id.startsWith(BATCH_PREFIX)) return this.#loadBatch(id);
    const saltedId = this.#records.saltedId(id);
    if (saltedId === undefined) return undefined;
    const entry = this.#records.read(saltedId);
    if (entry === undefined) return undefined;
    this.#cache.set(entry, saltedId);
    return entry;
  }

  #loadBatch(id: string): TokenEntry | undefined {
    const sealed = sealedPartOf(id);
    const plaintext = sealed === undefined ? undefined : this.#options.open(sealed);
    if (plaintext === undefined) return undefined;
    const entry = decodeBatchToken(id, plaintext);
    this.#cache.set(entry, undefined);
    return entry;
  }

  #isInTime(entry: TokenEntry): boolean {
    if (entry.expireTimeMs !== null && entry.expireTimeMs < this.#options.clock()) return false;
    // Nothing in storage ends a batch token with its parent, so the parent is asked each time.
    if (entry.type === 'service' || entry.parent === '') return true;
    return this.lookup(entry.parent) !== undefined;
  }

  async #store(birth: Birth, asked: Asked<TokenGrant> | undefined): Promise<TokenGrant> {
    const { entry, isChosenId } = birth;
    const saltedId = this.#records.requireSaltedId(entry.id);
    // Before the write: one whose outcome is unknown may still come true.
    if (entry.expireTimeMs !== null) this.#expiry?.schedule(saltedId, entry.expireTimeMs);
    const write = (): Promise<TokenGrant> => {
      const { view } = this.#options;
      const change = (transaction: Transaction): TokenGrant =>
        this.#createIn(transaction, saltedId, birth);
      return asked?.origin === undefined
        ? view.transact(change)
        : asked.origin.transact(view, change, asked.answer);
    };
    const track = (): Promise<TokenGrant> => {
      if (entry.parent === '') return write();
      return this.#revocation.trackBirth(this.#records.requireSaltedId(entry.parent), write());
    };
    if (!isChosenId) return track();
    checkChosenId(entry.id);
    return this.#revocation.locks.run(saltedId, track);
  }

  /** The parent that is read here is there when the token is: or this is done again, or refused. */
  #createIn(transaction: Transaction, saltedId: string, birth: Birth): TokenGrant {
    const { entry, isChosenId, grant } = birth;
    if (isChosenId && this.#records.read(saltedId, transaction) !== undefined) {
      throw invalid('cannot create a token with a duplicate ID');
    }
    if (entry.parent !== '' && this.#readGood(entry.parent, transaction) === undefined) {
      throw invalid('parent token lookup failed: no parent found');
    }
    transaction.write(this.#records.createOperations(saltedId, entry));
    return grant;
  }

  /** As `lookup`, on the condition that the token stays as it is read; and not while it is ended. */
  #readGood(id: string, transaction: Transaction): TokenEntry | undefined {
    if (id.startsWith(BATCH_PREFIX)) return this.lookup(id);
    const saltedId = this.#records.requireSaltedId(id);
    const entry = this.#records.read(saltedId, transaction);
    if (entry === undefined || entry.numUses < 0 || !this.#isInTime(entry)) return undefined;
    return this.#revocation.isRevoking(saltedId) ? undefined : entry;
  }

  async *#expirations(): AsyncGenerator<readonly Expiration[]> {
    for await (const page of this.#records.saltedIds()) {
      yield page.flatMap((saltedId) => {
        const dueMs = dueOf(this.#records.read(saltedId));
        return dueMs === null ? [] : { saltedId, dueMs };
      });
    }
  }

  async #expire(saltedId: string): Promise<number | null> {
    const dueMs = dueOf(this.#records.read(saltedId));
    if (dueMs === null || this.#options.clock() <= dueMs) return dueMs;
    await this.#revocation.revokeTree(saltedId);
    return null;
  }
}

/** Null if it never expires or does not exist. One marked as revoked is due at once. */
function dueOf(entry: TokenEntry | undefined): number | null {
  if (entry === undefined) return null;
  return entry.numUses === REVOCATION_PENDING ? 0 : entry.expireTimeMs;
}

function invalid(message: string): ServerError {
  return new ServerError('invalid-request', message);
}
