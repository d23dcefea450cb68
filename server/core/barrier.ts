/**
 * Everything the core stores passes here and is sealed: AES-256-GCM under the active term of the
 * keyring, with the path as additional data, so that a value moved to another path does not open.
 *
 *   term (u32, big endian) | version (u8) | nonce (12) | ciphertext | tag (16)
 *
 * This is also the RFC's storage shim, the one choke point of a standby: in read-only mode, which
 * is how a barrier starts, every put, delete and write throws `read-only` before anything
 * happens. OpenBao places it here too (internal/vault/barrier/aes_gcm.go).
 *
 * Invariants:
 * - Nothing reaches `physical.write` while the barrier is sealed or read-only.
 * - Without a keyring nothing opens: sealing drops it, and readers get `sealed`.
 */

import assert from 'node:assert/strict';
import { ServerError, readOnlyError } from '../errors.ts';
import { KEY_BYTES, decrypt, encrypt } from './aes-gcm.ts';
import type { Transaction, ViewOperation } from './backend.ts';
import { Keyring } from './keyring.ts';
import { OpenedValues } from './opened-values.ts';
import type { CommitOutcome, ListPage, PhysicalStore, WriteOperation } from './ports.ts';
import {
  BufferedTransaction,
  RefusedRequest,
  TRANSACTION_ATTEMPTS_MAX,
  commitFailedError,
} from './transaction.ts';
import type { Effects, OriginRequest } from './transaction.ts';

export const KEYRING_PATH = 'core/keyring';

const VERSION = 2;
const HEADER_BYTES = 5;

export class Barrier {
  readonly #physical: PhysicalStore;
  readonly #reader: Pick<PhysicalStore, 'get'>;
  readonly #opened = new OpenedValues();
  #rootKey: Buffer | undefined;
  #keyring: Keyring | undefined;
  #readOnly = true;
  #tenure = 0;
  #writesBegun = 0;
  #encryptions = 0;

  /** `reader` answers lookups: the physical store itself, or a cache before it. */
  constructor(physical: PhysicalStore, reader: Pick<PhysicalStore, 'get'>) {
    this.#physical = physical;
    this.#reader = reader;
  }

  /** Opens with a keyring that exists nowhere yet; `core/keyring` must be written with it. */
  initialize(rootKey: Uint8Array, nowMs: number): void {
    assert(this.#keyring === undefined, 'the barrier is already open');
    assert.equal(rootKey.length, KEY_BYTES);
    this.#rootKey = Buffer.from(rootKey);
    this.#keyring = Keyring.create(nowMs);
  }

  /** Throws `invalid-request` with OpenBao's `ErrBarrierInvalidKey` if the root key is wrong. */
  unseal(rootKey: Uint8Array): void {
    assert(this.#keyring === undefined, 'the barrier is already open');
    this.#keyring = this.#readKeyring(rootKey);
    this.#rootKey = Buffer.from(rootKey);
  }

  seal(): void {
    this.setReadOnly(true);
    this.#opened.clear();
    this.#keyring?.destroy();
    this.#rootKey?.fill(0);
    this.#keyring = undefined;
    this.#rootKey = undefined;
  }

  get isSealed(): boolean {
    return this.#keyring === undefined;
  }

  get isReadOnly(): boolean {
    return this.#readOnly;
  }

  setReadOnly(readOnly: boolean): void {
    if (readOnly) this.#tenure += 1;
    this.#readOnly = readOnly;
  }

  /**
   * How many writes were handed down so far. Unchanged between two moments means that nothing was
   * written in between, whatever a request tried.
   */
  get writesBegun(): number {
    return this.#writesBegun;
  }

  /** Throws `read-only` on a standby: for those who must not judge by what may be stale. */
  requireWritable(): void {
    if (this.#readOnly) throw readOnlyError();
  }

  /** Callers share what they get and must not change it. */
  get(path: string): Buffer | undefined {
    return this.#openKnown(path, this.#reader.get(path));
  }

  #openKnown(path: string, sealed: Uint8Array | undefined): Buffer | undefined {
    const keyring = this.#openKeyring();
    if (sealed === undefined) return undefined;
    const known = this.#opened.get(path, sealed);
    if (known !== undefined) return known;
    const plaintext = openAuthentic(keyring, path, sealed);
    this.#opened.remember(path, sealed, plaintext);
    return plaintext;
  }

  list(prefix: string, page?: ListPage): Promise<string[]> {
    this.#openKeyring();
    return this.#physical.list(prefix, page);
  }

  async put(path: string, value: Uint8Array): Promise<void> {
    await this.write([{ kind: 'put', key: path, value }]);
  }

  async delete(path: string): Promise<void> {
    await this.write([{ kind: 'delete', key: path }]);
  }

  /** All or nothing. Resolves with the log index, once applied here. */
  async write(operations: readonly ViewOperation[]): Promise<number> {
    this.requireWritable();
    const sealed = this.#sealAll(operations);
    this.#writesBegun += 1;
    return this.#physical.write(sealed);
  }

  /** See `View.transact`. */
  async transact<T>(
    change: (transaction: Transaction) => T | Promise<T>,
    origin?: (result: T) => OriginRequest,
  ): Promise<T> {
    for (let attempt = 0; attempt < TRANSACTION_ATTEMPTS_MAX; attempt += 1) {
      // What is stored on a standby may be old, and nothing is judged by it.
      this.requireWritable();
      const reads = new Map<string, Uint8Array | undefined>();
      const transaction = this.#begin(reads);
      let result: T;
      try {
        result = await change(transaction);
      } catch (error) {
        if (await this.#isUpheld({ reads, ...transaction.finish(), operations: [] })) throw error;
        continue;
      }
      const { operations, lists } = transaction.finish();
      if (operations.length === 0) {
        if (await this.#isUpheld({ reads, operations, lists })) return result;
        continue;
      }
      const outcome = await this.#commit({ reads, operations, lists }, origin?.(result));
      if (outcome.kind === 'applied') return result;
      if (outcome.kind !== 'conflict') throw new RefusedRequest(outcome.kind);
    }
    throw commitFailedError();
  }

  /** Writes nothing but that a request takes effect, or what came of it. */
  async recordRequest(request: OriginRequest): Promise<CommitOutcome> {
    return this.#commit({ reads: new Map(), operations: [], lists: [] }, request);
  }

  /** Changes whenever this node stops being the one that writes. */
  get tenure(): number {
    return this.#tenure;
  }

  /** Adds a key term and seals with it from now on. */
  async rotate(nowMs: number): Promise<number> {
    this.requireWritable();
    const rotated = this.#openKeyring().rotated(nowMs);
    this.#writesBegun += 1;
    await this.#physical.write([this.#keyringOperation(rotated)]);
    this.#keyring = rotated;
    return rotated.activeTerm;
  }

  /** `encryptions` counts those of this process, under any term. */
  keyStatus(): {
    readonly term: number;
    readonly installTimeMs: number;
    readonly encryptions: number;
  } {
    const keyring = this.#openKeyring();
    const term = keyring.activeTerm;
    return {
      term,
      installTimeMs: keyring.installTimeMs(term),
      encryptions: this.#encryptions,
    };
  }

  /** `core/keyring` changed below: another node added a term. */
  reloadKeyring(): void {
    assert(this.#rootKey !== undefined, 'the barrier is sealed');
    this.#keyring = this.#readKeyring(this.#rootKey);
  }

  /** Whether a keyring that was stored elsewhere opens with this barrier's root key. */
  opensKeyring(sealed: Uint8Array): boolean {
    assert(this.#rootKey !== undefined, 'the barrier is sealed');
    const bytes = decrypt(this.#rootKey, sealed, Buffer.from(KEYRING_PATH));
    bytes?.fill(0);
    return bytes !== undefined;
  }

  /** What stores the keyring that `initialize` created. */
  keyringOperation(): WriteOperation {
    return this.#keyringOperation(this.#openKeyring());
  }

  /** Seals `plaintext` as it is stored at `path`. Also for what leaves the node, as batch tokens. */
  sealFor(path: string, plaintext: Uint8Array): Buffer {
    const keyring = this.#openKeyring();
    const key = keyring.key(keyring.activeTerm);
    assert(key !== undefined);
    const header = Buffer.allocUnsafe(HEADER_BYTES);
    header.writeUInt32BE(keyring.activeTerm, 0);
    header.writeUInt8(VERSION, 4);
    this.#encryptions += 1;
    return encrypt(key, plaintext, Buffer.from(path), header);
  }

  /** For what comes from outside: undefined if it was not sealed here for `path`. */
  tryOpen(path: string, sealed: Uint8Array): Buffer | undefined {
    return openWith(this.#openKeyring(), path, sealed);
  }

  /** Throws if `sealed` was not sealed for `path`, or was changed since. */
  open(path: string, sealed: Uint8Array): Buffer {
    return openAuthentic(this.#openKeyring(), path, sealed);
  }

  #begin(reads: Map<string, Uint8Array | undefined>): BufferedTransaction {
    return new BufferedTransaction({
      get: (path) => {
        // As it is stored, not opened: that is what every node can compare.
        const sealed = reads.has(path) ? reads.get(path) : this.#reader.get(path);
        reads.set(path, sealed);
        return this.#openKnown(path, sealed);
      },
      list: (prefix, page) => this.list(prefix, page),
      requireWritable: () => this.requireWritable(),
    });
  }

  /**
   * Whether what was judged by these reads, and wrote nothing, may be told. What it judged by may
   * have changed under it: then it has judged nothing. Only the log knows, for this node may be
   * deposed and have missed what the next one acknowledged. Throws `read-only` if it knows that.
   */
  async #isUpheld(effects: Effects): Promise<boolean> {
    return (await this.#commit(effects, undefined)).kind === 'applied';
  }

  #commit(
    { reads, operations, lists }: Effects,
    request: OriginRequest | undefined,
  ): Promise<CommitOutcome> {
    this.requireWritable();
    // One that began before this node lost its office has been given up by whoever asked.
    if (request !== undefined && request.tenure !== this.#tenure) throw readOnlyError();
    const sealed = this.#sealAll(operations);
    this.#writesBegun += 1;
    return this.#physical.commit({
      reads: [...reads].map(([key, value]) => ({ key, value })),
      lists,
      operations: sealed,
      request,
    });
  }

  #sealAll(operations: readonly ViewOperation[]): WriteOperation[] {
    return operations.map((operation) =>
      operation.kind === 'delete'
        ? operation
        : { kind: 'put', key: operation.key, value: this.sealFor(operation.key, operation.value) },
    );
  }

  #openKeyring(): Keyring {
    if (this.#keyring === undefined) throw new ServerError('sealed', 'Vault is sealed');
    return this.#keyring;
  }

  #readKeyring(rootKey: Uint8Array): Keyring {
    const sealed = this.#physical.get(KEYRING_PATH);
    if (sealed === undefined) {
      throw new ServerError('invalid-request', 'Vault is not initialized');
    }
    const bytes = decrypt(rootKey, sealed, Buffer.from(KEYRING_PATH));
    if (bytes === undefined) {
      throw new ServerError('invalid-request', 'Unseal failed, invalid key');
    }
    const keyring = Keyring.parse(bytes);
    bytes.fill(0);
    return keyring;
  }

  #keyringOperation(keyring: Keyring): WriteOperation {
    assert(this.#rootKey !== undefined, 'the barrier is sealed');
    const plaintext = keyring.serialize();
    const value = encrypt(this.#rootKey, plaintext, Buffer.from(KEYRING_PATH));
    plaintext.fill(0);
    return { kind: 'put', key: KEYRING_PATH, value };
  }
}

function openAuthentic(keyring: Keyring, path: string, sealed: Uint8Array): Buffer {
  const plaintext = openWith(keyring, path, sealed);
  if (plaintext === undefined) throw new Error(`Cannot decrypt ${path}: not authentic`);
  return plaintext;
}

function openWith(keyring: Keyring, path: string, sealed: Uint8Array): Buffer | undefined {
  if (sealed.length < HEADER_BYTES || sealed[4] !== VERSION) return undefined;
  // Shifted by hand: a DataView costs an allocation per read.
  const term =
    ((sealed[0] ?? 0) << 24) |
    ((sealed[1] ?? 0) << 16) |
    ((sealed[2] ?? 0) << 8) |
    (sealed[3] ?? 0);
  const key = keyring.key(term);
  return key === undefined ? undefined : decrypt(key, sealed, Buffer.from(path), HEADER_BYTES);
}
