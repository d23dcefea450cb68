/**
 * Keeps the policies of a namespace, and compiles those of a token into an ACL.
 *
 * Invariants:
 * - Nothing is cached that storage does not say now: whoever owns the store reports every changed
 *   key to `invalidate` in the turn in which the change becomes readable (design D3), its own
 *   writes included. Reads are synchronous, so no fill can straddle an invalidation.
 * - An ACL is made of all its policies or of none: any change of any policy drops every ACL.
 *
 * Follows openbao internal/vault/policy/policy_store.go. `root` and `response-wrapping` cannot be
 * changed or deleted, `default` can be changed but not deleted; the three need not be stored.
 */

import assert from 'node:assert/strict';
import { ServerError } from '../errors.ts';
import { compileAcl } from './acl.ts';
import type { Acl } from './acl.ts';
import type { Transaction, View, ViewOperation } from './backend.ts';
import { DEFAULT_POLICY, RESPONSE_WRAPPING_POLICY } from './builtin-policies.ts';
import { PolicyError, parsePolicy } from './policy.ts';
import type { Policy } from './policy.ts';

export const POLICY_PREFIX = 'sys/policy/';

/** OpenBao's `policyCacheSize`. */
const POLICY_CACHE_MAX = 1024;
/** An ACL of a few rules takes some KiB; distinct sets of policies are few in practice. */
const ACL_CACHE_MAX = 4096;

export type StoredPolicy = {
  readonly name: string;
  /** The text as it was written. */
  readonly text: string;
  /** Counts writes, for check-and-set. 0 for a built-in that was never written. */
  readonly version: number;
  readonly casRequired: boolean;
  /** null for a built-in. */
  readonly modifiedMs: number | null;
  /** The whole policy is void after this moment; null means never. */
  readonly expireTimeMs: number | null;
};

export type PolicyChange = {
  readonly text: string;
  /** Must equal the stored version; -1 means that there must be none. */
  readonly cas?: number;
  readonly casRequired?: boolean;
  readonly expireTimeMs?: number;
};

type CachedPolicy = { readonly stored: StoredPolicy; readonly policy: Policy };

const BUILTIN_TEXTS: { readonly [name: string]: string } = {
  root: '',
  default: DEFAULT_POLICY,
  'response-wrapping': RESPONSE_WRAPPING_POLICY,
};
const IMMUTABLE_NAMES: ReadonlySet<string> = new Set(['root', 'response-wrapping']);

export class PolicyStore {
  readonly #view: View;
  readonly #clock: () => number;
  readonly #policies = new Map<string, CachedPolicy>();
  readonly #acls = new Map<string, Acl>();
  /** The list of a cached token is one object, so most requests find their ACL without a key. */
  #aclsByList = new WeakMap<readonly string[], Acl>();
  /** Writes one after the other: each judges by what the one before has stored. */
  #lastWrite: Promise<unknown> = Promise.resolve();

  /** `view` is the root of the namespace's storage; policies are at `sys/policy/<name>`. */
  constructor(options: { readonly view: View; readonly clock: () => number }) {
    this.#view = options.view;
    this.#clock = options.clock;
  }

  /** Undefined if there is no such policy, or if it has expired. */
  get(name: string): StoredPolicy | undefined {
    return this.#load(normalize(name))?.stored;
  }

  exists(name: string): boolean {
    return this.#load(normalize(name)) !== undefined;
  }

  /** Stored and built-in names, sorted, then `root`, as OpenBao lists them. */
  async list(): Promise<string[]> {
    const stored = await this.#collect('');
    const names = new Set(['default', ...stored]);
    for (const immutable of IMMUTABLE_NAMES) names.delete(immutable);
    return [...[...names].toSorted(), 'root'];
  }

  async set(name: string, change: PolicyChange): Promise<void> {
    this.#view.requireWritable?.();
    const key = normalize(name);
    if (key === '') throw invalid('policy name missing');
    if (IMMUTABLE_NAMES.has(key)) throw invalid(`cannot update ${JSON.stringify(key)} policy`);
    parseForStorage(key, change.text);
    const write = this.#lastWrite.then(() => this.#write(key, change));
    // The next write waits for this one, whatever becomes of it; the caller hears of a failure.
    this.#lastWrite = write.catch(() => undefined);
    await write;
  }

  async delete(name: string): Promise<void> {
    this.#view.requireWritable?.();
    const key = normalize(name);
    if (IMMUTABLE_NAMES.has(key)) throw invalid(`cannot delete ${JSON.stringify(key)} policy`);
    if (key === 'default') throw invalid('cannot delete default policy');
    await this.#view.delete(POLICY_PREFIX + key);
  }

  /** What a token with these policies may do. Policies that do not exist grant nothing. */
  acl(names: readonly string[]): Acl {
    const found = this.#aclsByList.get(names);
    if (found !== undefined && this.#isCurrent(found)) return found;
    const key = names.toSorted().join('\0');
    let acl = this.#acls.get(key);
    if (acl === undefined || !this.#isCurrent(acl)) {
      acl = this.#compile(names);
      this.#acls.delete(key);
      dropOldest(this.#acls, ACL_CACHE_MAX);
      this.#acls.set(key, acl);
    }
    this.#aclsByList.set(names, acl);
    return acl;
  }

  /** `key` as the view names it; undefined if everything may have changed. */
  invalidate(key: string | undefined): void {
    if (key === undefined) this.#policies.clear();
    else if (key.startsWith(POLICY_PREFIX)) this.#policies.delete(key.slice(POLICY_PREFIX.length));
    else return;
    this.#acls.clear();
    this.#aclsByList = new WeakMap();
  }

  #write(key: string, change: PolicyChange): Promise<void> {
    return this.#view.transact((transaction) => {
      const existing = this.#read(key, transaction);
      checkVersion(existing, change);
      transaction.write([this.#changed(key, change, existing)]);
    });
  }

  #changed(key: string, change: PolicyChange, existing: StoredPolicy | undefined): ViewOperation {
    const stored: StoredPolicy = {
      name: key,
      text: change.text,
      version: (existing?.version ?? 0) + 1,
      casRequired: change.casRequired ?? existing?.casRequired ?? false,
      modifiedMs: this.#clock(),
      expireTimeMs: change.expireTimeMs ?? null,
    };
    const value = Buffer.from(JSON.stringify(stored));
    return { kind: 'put', key: POLICY_PREFIX + key, value };
  }

  #isCurrent(acl: Acl): boolean {
    return acl.expireTimeMs === null || this.#clock() <= acl.expireTimeMs;
  }

  #compile(names: readonly string[]): Acl {
    const loaded = names.flatMap((name) => this.#load(normalize(name)) ?? []);
    const acl = compileAcl(
      loaded.map((entry) => entry.policy),
      this.#clock(),
    );
    const wholeExpirations = loaded.flatMap((entry) => entry.stored.expireTimeMs ?? []);
    if (wholeExpirations.length === 0) return acl;
    return withExpiration(acl, Math.min(...wholeExpirations));
  }

  #load(name: string): CachedPolicy | undefined {
    let entry = this.#policies.get(name);
    if (entry === undefined) {
      const stored = this.#read(name) ?? builtin(name);
      if (stored === undefined) return undefined;
      entry = { stored, policy: parsePolicy(name, stored.text) };
      dropOldest(this.#policies, POLICY_CACHE_MAX);
      this.#policies.set(name, entry);
    }
    const { expireTimeMs } = entry.stored;
    return expireTimeMs !== null && expireTimeMs < this.#clock() ? undefined : entry;
  }

  #read(
    name: string,
    reader: Pick<View | Transaction, 'get'> = this.#view,
  ): StoredPolicy | undefined {
    if (IMMUTABLE_NAMES.has(name)) return undefined;
    const bytes = reader.get(POLICY_PREFIX + name);
    // Written by `set`.
    return bytes === undefined
      ? undefined
      : (JSON.parse(Buffer.from(bytes).toString()) as StoredPolicy);
  }

  /** Names may hold slashes, so folders are followed. */
  async #collect(folder: string): Promise<string[]> {
    const names: string[] = [];
    for (const child of await this.#view.list(POLICY_PREFIX + folder)) {
      if (child.endsWith('/')) names.push(...(await this.#collect(folder + child)));
      else names.push(folder + child);
    }
    return names;
  }
}

function normalize(name: string): string {
  return name.trim().toLowerCase();
}

function builtin(name: string): StoredPolicy | undefined {
  if (!Object.hasOwn(BUILTIN_TEXTS, name)) return undefined;
  const text = BUILTIN_TEXTS[name];
  assert(text !== undefined, 'own key');
  return { name, text, version: 0, casRequired: false, modifiedMs: null, expireTimeMs: null };
}

function parseForStorage(name: string, text: string): void {
  try {
    parsePolicy(name, text);
  } catch (error) {
    if (!(error instanceof PolicyError)) throw error;
    throw new ServerError('invalid-request', error.message, { cause: error });
  }
}

function checkVersion(existing: StoredPolicy | undefined, change: PolicyChange): void {
  const { cas } = change;
  if (cas === undefined) {
    if (existing?.casRequired === true || change.casRequired === true) {
      throw invalid('check-and-set parameter required for this call');
    }
    return;
  }
  if (cas === -1) {
    if (existing !== undefined) {
      throw invalid('check-and-set parameter set to -1 on existing entry');
    }
  } else if (cas !== (existing?.version ?? 0)) {
    throw invalid('check-and-set parameter did not match the current version');
  }
}

function withExpiration(acl: Acl, expireTimeMs: number): Acl {
  return {
    isRoot: acl.isRoot,
    expireTimeMs: Math.min(expireTimeMs, acl.expireTimeMs ?? expireTimeMs),
    check: (operation, path, data, wrapTtlSeconds) =>
      acl.check(operation, path, data, wrapTtlSeconds),
    capabilities: (path) => acl.capabilities(path),
    hasMountAccess: (path) => acl.hasMountAccess(path),
  };
}

function dropOldest<K, V>(cache: Map<K, V>, sizeMax: number): void {
  if (cache.size < sizeMax) return;
  const oldest = cache.keys().next();
  if (oldest.done !== true) cache.delete(oldest.value);
}

function invalid(message: string): ServerError {
  return new ServerError('invalid-request', message);
}
