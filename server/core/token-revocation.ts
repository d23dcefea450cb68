/**
 * Ends tokens: one with all its descendants, or one whose children become orphans
 * (openbao internal/vault/token_store.go, `revokeTreeInternal`, `revokeInternal`).
 *
 * Small trees go in one write. Larger ones first mark the token as revoked, which kills it for
 * every node, then go from the leaves up and remove the marked token last: after a crash at any
 * point the expiration sweep finds the mark and ends the work.
 *
 * From the moment a revocation knows of a token, no child can be created under it and no change
 * of it can be written (`isRevoking`); children already on their way to storage are waited for.
 */

import type { TokenEntry, Transaction, View, ViewOperation } from './backend.ts';
import { KeyedLock } from './keyed-lock.ts';
import type { TokenRecords } from './token-records.ts';

/** `numUses` of a token that nothing may use any more (OpenBao's `tokenRevocationPending`). */
export const REVOCATION_PENDING = -1;

/** Some 64 KiB of keys, three or fewer operations for a token. */
const TOKENS_PER_WRITE_MAX = 100;
/** Entries that are written again may carry large metadata; a log entry ends at 1 MiB. */
const BYTES_PER_WRITE_MAX = 262_144;

type Options = {
  readonly view: View;
  readonly records: TokenRecords;
  /** Destroys what the token owns elsewhere, above all its cubbyhole. */
  readonly destroyOwned: (tokenId: string) => Promise<void>;
  /** Told of each token that is gone from storage. */
  readonly onGone: (saltedId: string) => void;
};

export class TokenRevocation {
  readonly #view: View;
  readonly #records: TokenRecords;
  readonly #destroyOwned: (tokenId: string) => Promise<void>;
  readonly #onGone: (saltedId: string) => void;
  /** Serialises changes of one token: uses, renewals, orphaning. */
  readonly locks = new KeyedLock();
  /** How many revocations are at work on a token. */
  readonly #revoking = new Map<string, number>();
  /** Creations of children under way, by salted id of the parent. */
  readonly #births = new Map<string, Set<Promise<unknown>>>();

  constructor(options: Options) {
    this.#view = options.view;
    this.#records = options.records;
    this.#destroyOwned = options.destroyOwned;
    this.#onGone = options.onGone;
  }

  isRevoking(saltedId: string): boolean {
    return this.#revoking.has(saltedId);
  }

  /** Registers the write of a new child, so that a revocation of the parent waits for it. */
  async trackBirth<T>(parentSaltedId: string, write: Promise<T>): Promise<T> {
    let births = this.#births.get(parentSaltedId);
    if (births === undefined) {
      births = new Set();
      this.#births.set(parentSaltedId, births);
    }
    births.add(write);
    try {
      return await write;
    } finally {
      births.delete(write);
      if (births.size === 0) this.#births.delete(parentSaltedId);
    }
  }

  /** Does nothing if the token does not exist. */
  async revokeTree(saltedId: string): Promise<void> {
    const claimed: string[] = [];
    try {
      const tree = await this.#collectTree(saltedId, claimed);
      if (TOKENS_PER_WRITE_MAX < tree.length) await this.#mark(saltedId);
      for (let end = tree.length; end > 0; end -= TOKENS_PER_WRITE_MAX) {
        await this.#deleteAll(
          tree.slice(Math.max(0, end - TOKENS_PER_WRITE_MAX), end).toReversed(),
        );
      }
    } finally {
      for (const id of claimed) this.#release(id);
    }
  }

  async revokeOrphan(saltedId: string): Promise<void> {
    this.#claim(saltedId);
    try {
      await this.#settleBirths(saltedId);
      const batches = this.#batchesOf(await this.#records.children(saltedId));
      const last = batches.pop() ?? [];
      if (batches.length > 0) await this.#mark(saltedId);
      for (const batch of batches) await this.#orphan(saltedId, batch, []);
      const entry = this.#records.read(saltedId);
      if (entry === undefined) return;
      await this.#destroyOwned(entry.id);
      await this.#orphan(saltedId, last, this.#records.deleteOperations(saltedId, entry));
      this.#onGone(saltedId);
    } finally {
      this.#release(saltedId);
    }
  }

  /** Parents before children. */
  async #collectTree(root: string, claimed: string[]): Promise<string[]> {
    const tree: string[] = [];
    const seen = new Set([root]);
    for (const saltedId of seen) {
      this.#claim(saltedId);
      claimed.push(saltedId);
      tree.push(saltedId);
      await this.#settleBirths(saltedId);
      // A set yields what is added while it is walked, and each token once, cycles or not.
      for (const child of await this.#records.children(saltedId)) seen.add(child);
    }
    return tree;
  }

  async #deleteAll(saltedIds: readonly string[]): Promise<void> {
    const found = saltedIds.flatMap((saltedId) => {
      const entry = this.#records.read(saltedId);
      return entry === undefined ? [] : [{ saltedId, entry }];
    });
    for (const { entry } of found) await this.#destroyOwned(entry.id);
    await this.#view.transact((transaction) => {
      // As they are then: one that was orphaned has no index under its parent any more.
      const operations = found.flatMap(({ saltedId }) => {
        const entry = this.#records.read(saltedId, transaction);
        return entry === undefined ? [] : this.#records.deleteOperations(saltedId, entry);
      });
      transaction.write(operations);
    });
    for (const { saltedId } of found) this.#onGone(saltedId);
  }

  /** Batches whose entries fit into one write each. */
  #batchesOf(children: readonly string[]): string[][] {
    const batches: string[][] = [];
    let bytes = 0;
    for (const child of children) {
      const size = this.#records.entryBytes(child);
      const batch = batches.at(-1);
      const fits =
        batch !== undefined &&
        batch.length < TOKENS_PER_WRITE_MAX &&
        bytes + size <= BYTES_PER_WRITE_MAX;
      if (fits) batch.push(child);
      else batches.push([child]);
      bytes = fits ? bytes + size : size;
    }
    return batches;
  }

  async #orphan(parent: string, children: readonly string[], last: ViewOperation[]): Promise<void> {
    const releases: (() => void)[] = [];
    try {
      // In the order of the index, the same for everyone who takes several.
      for (const child of children) releases.push(await this.locks.acquire(child));
      await this.#view.transact((transaction) => {
        const orphaned = children.flatMap((child) =>
          this.#orphanOperations(parent, child, transaction),
        );
        transaction.write([...orphaned, ...last]);
      });
    } finally {
      for (const release of releases) release();
    }
  }

  #orphanOperations(parent: string, child: string, transaction: Transaction): ViewOperation[] {
    const unlink = this.#records.deleteIndexOperation(parent, child);
    const entry = this.#records.read(child, transaction);
    // One that is being revoked itself must not be written again.
    if (entry === undefined || this.isRevoking(child)) return [unlink];
    return [unlink, this.#records.putOperation(child, { ...entry, parent: '', orphan: true })];
  }

  async #mark(saltedId: string): Promise<void> {
    await this.#view.transact((transaction) => {
      const entry = this.#records.read(saltedId, transaction);
      if (entry === undefined || entry.numUses === REVOCATION_PENDING) return;
      const marked: TokenEntry = { ...entry, numUses: REVOCATION_PENDING };
      transaction.write([this.#records.putOperation(saltedId, marked)]);
    });
  }

  async #settleBirths(saltedId: string): Promise<void> {
    const births = this.#births.get(saltedId);
    if (births !== undefined) await Promise.allSettled(births);
  }

  #claim(saltedId: string): void {
    this.#revoking.set(saltedId, (this.#revoking.get(saltedId) ?? 0) + 1);
  }

  #release(saltedId: string): void {
    const count = (this.#revoking.get(saltedId) ?? 0) - 1;
    if (count <= 0) this.#revoking.delete(saltedId);
    else this.#revoking.set(saltedId, count);
  }
}
