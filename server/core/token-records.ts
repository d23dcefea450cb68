/**
 * How tokens lie in storage, and nothing else. All names are salted, so that a list of keys gives
 * no token away (openbao internal/vault/token_store.go, `SaltID`; salted with HMAC-SHA256 only).
 *
 * ```
 * sys/token/salt                                      the salt
 * sys/token/id/<saltedId>                             the entry, as JSON
 * sys/token/accessor/<salted accessor>                {tokenId, accessor}
 * sys/token/parent/<parent saltedId>/<child saltedId> empty
 * ```
 */

import { createHmac } from 'node:crypto';
import { ServerError } from '../errors.ts';
import type { TokenEntry, Transaction, View, ViewOperation } from './backend.ts';

export const TOKEN_PREFIX = 'sys/token/';
export const TOKEN_ID_PREFIX = 'sys/token/id/';
export const SALT_KEY = 'sys/token/salt';
const ACCESSOR_PREFIX = 'sys/token/accessor/';
const PARENT_PREFIX = 'sys/token/parent/';

const SALT_BYTES = 32;
/** Reading and opening so many entries keeps other requests waiting for a few milliseconds. */
const PAGE_SIZE = 250;
const EMPTY = new Uint8Array(0);

/** Storage, or a transaction on it. */
type Reader = Pick<View | Transaction, 'get'>;

type AccessorRecord = { readonly tokenId: string; readonly accessor: string };

export class TokenRecords {
  readonly #view: View;
  readonly #randomBytes: (size: number) => Uint8Array;
  #salt: Uint8Array | undefined;
  #creatingSalt: Promise<void> | undefined;

  constructor(view: View, randomBytes: (size: number) => Uint8Array) {
    this.#view = view;
    this.#randomBytes = randomBytes;
  }

  /** Creates the salt if there is none. Active node only. */
  async ensureSalt(): Promise<void> {
    if (this.#readSalt() !== undefined) return;
    this.#creatingSalt ??= this.#createSalt().finally(() => (this.#creatingSalt = undefined));
    await this.#creatingSalt;
  }

  forgetSalt(): void {
    this.#salt = undefined;
  }

  /** Undefined before the first token exists. */
  saltedId(id: string): string | undefined {
    const salt = this.#readSalt();
    if (salt === undefined) return undefined;
    return `h${createHmac('sha256', salt).update(id).digest('hex')}`;
  }

  /** As `saltedId`, where the salt must exist. */
  requireSaltedId(id: string): string {
    const saltedId = this.saltedId(id);
    if (saltedId === undefined) throw new ServerError('internal', 'the token salt is missing');
    return saltedId;
  }

  read(saltedId: string, reader: Reader = this.#view): TokenEntry | undefined {
    return readJson<TokenEntry>(reader, TOKEN_ID_PREFIX + saltedId);
  }

  /** The size of a stored entry; 0 if there is none. */
  entryBytes(saltedId: string): number {
    return this.#view.get(TOKEN_ID_PREFIX + saltedId)?.length ?? 0;
  }

  tokenOfAccessor(accessor: string): string | undefined {
    const saltedId = this.saltedId(accessor);
    if (saltedId === undefined) return undefined;
    return readJson<AccessorRecord>(this.#view, ACCESSOR_PREFIX + saltedId)?.tokenId;
  }

  async accessors(): Promise<string[]> {
    const accessors: string[] = [];
    for await (const page of this.#pages(ACCESSOR_PREFIX)) {
      for (const key of page) {
        const record = readJson<AccessorRecord>(this.#view, ACCESSOR_PREFIX + key);
        if (record !== undefined) accessors.push(record.accessor);
      }
    }
    return accessors;
  }

  async children(saltedId: string): Promise<string[]> {
    return this.#view.list(`${PARENT_PREFIX}${saltedId}/`);
  }

  /** All salted ids, page by page. */
  saltedIds(): AsyncGenerator<readonly string[]> {
    return this.#pages(TOKEN_ID_PREFIX);
  }

  putOperation(saltedId: string, entry: TokenEntry): ViewOperation {
    const value = Buffer.from(JSON.stringify(entry));
    return { kind: 'put', key: TOKEN_ID_PREFIX + saltedId, value };
  }

  createOperations(saltedId: string, entry: TokenEntry): ViewOperation[] {
    const record: AccessorRecord = { tokenId: entry.id, accessor: entry.accessor };
    const operations: ViewOperation[] = [
      this.putOperation(saltedId, entry),
      {
        kind: 'put',
        key: ACCESSOR_PREFIX + this.requireSaltedId(entry.accessor),
        value: Buffer.from(JSON.stringify(record)),
      },
    ];
    if (entry.parent !== '') {
      const key = this.#parentKey(entry.parent, saltedId);
      operations.push({ kind: 'put', key, value: EMPTY });
    }
    return operations;
  }

  deleteOperations(saltedId: string, entry: TokenEntry): ViewOperation[] {
    const accessorKey = ACCESSOR_PREFIX + this.requireSaltedId(entry.accessor);
    const operations: ViewOperation[] = [
      { kind: 'delete', key: TOKEN_ID_PREFIX + saltedId },
      { kind: 'delete', key: accessorKey },
    ];
    if (entry.parent !== '') {
      operations.push({ kind: 'delete', key: this.#parentKey(entry.parent, saltedId) });
    }
    return operations;
  }

  deleteIndexOperation(parentSaltedId: string, childSaltedId: string): ViewOperation {
    return { kind: 'delete', key: `${PARENT_PREFIX}${parentSaltedId}/${childSaltedId}` };
  }

  #parentKey(parent: string, childSaltedId: string): string {
    return `${PARENT_PREFIX}${this.requireSaltedId(parent)}/${childSaltedId}`;
  }

  async *#pages(prefix: string): AsyncGenerator<readonly string[]> {
    let after: string | undefined;
    for (;;) {
      const page = await this.#view.list(prefix, { after, limit: PAGE_SIZE });
      if (page.length > 0) yield page;
      if (page.length < PAGE_SIZE) return;
      after = page.at(-1);
    }
  }

  #readSalt(): Uint8Array | undefined {
    this.#salt ??= this.#view.get(SALT_KEY);
    return this.#salt;
  }

  /** Were there a salt by then, to replace it would orphan every token. */
  #createSalt(): Promise<void> {
    return this.#view.transact((transaction) => {
      if (transaction.get(SALT_KEY) !== undefined) return;
      transaction.write([{ kind: 'put', key: SALT_KEY, value: this.#randomBytes(SALT_BYTES) }]);
    });
  }
}

function readJson<T>(reader: Reader, key: string): T | undefined {
  const bytes = reader.get(key);
  // Written by `TokenRecords` only.
  return bytes === undefined ? undefined : (JSON.parse(Buffer.from(bytes).toString()) as T);
}
