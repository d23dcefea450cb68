/** What every `Store` must do. Each implementation runs this suite in its own test file. */

import { afterEach, beforeEach, expect, test } from 'vitest';

import { CHUNK_BYTES_MAX } from './snapshot-codec.ts';
import type { Store, StoreOperation, StorePosition, StoreStream } from './store.ts';

export function position(index: number): StorePosition {
  return {
    lastIncludedIndex: index,
    lastIncludedTerm: 3,
    configuration: { servers: [{ id: 'n1', address: '127.0.0.1:8201', suffrage: 'voter' }] },
  };
}

export function put(key: string, value: string): StoreOperation {
  return { kind: 'put', key, value: Buffer.from(value) };
}

export function remove(key: string): StoreOperation {
  return { kind: 'delete', key };
}

export async function applyAndPublish(
  store: Store,
  operations: readonly StoreOperation[],
  index: number,
): Promise<void> {
  await store.apply(operations, position(index));
  store.publish();
}

export function textAt(store: Store, key: string): string | undefined {
  const value = store.get(key);
  return value === undefined ? undefined : Buffer.from(value).toString();
}

export async function collect(chunks: StoreStream): Promise<Buffer[]> {
  const collected: Buffer[] = [];
  for await (const chunk of chunks) collected.push(Buffer.from(chunk));
  return collected;
}

async function* streamOf(chunks: Iterable<Uint8Array>): StoreStream {
  yield* chunks;
}

const KEYS = ['a', 'a-b', 'a/1', 'a/b/2', 'a/b/3', 'b', 'c/x', 'c/y/z', 'c0', 'd//e', 'é/ü', '😀'];

/** Declares the suite; `open` returns a new, empty store. */
export function declareStoreContract(open: () => Promise<Store>): void {
  let store: Store;
  beforeEach(async () => {
    store = await open();
  });
  afterEach(() => store.close());

  const subject = { store: () => store, open };
  declareVisibility(subject);
  declareDurability(subject);
  declareLists(subject);
  declareSnapshots(subject);
  declareDamage(subject);
}

type Subject = { readonly store: () => Store; readonly open: () => Promise<Store> };

function declareVisibility({ store }: Subject): void {
  test('a new store is empty, at index 0 of term 0', async () => {
    expect(store().position()).toEqual({
      lastIncludedIndex: 0,
      lastIncludedTerm: 0,
      configuration: { servers: [] },
    });
    expect(await store().list('', {})).toEqual([]);
  });

  test('a batch is invisible until it is published, then visible as a whole', async () => {
    await applyAndPublish(store(), [put('old', '1'), put('gone', '1')], 1);
    await store().apply([put('new', '2'), put('old', '2'), remove('gone')], position(2));

    expect(store().position()).toEqual(position(1));
    expect(['old', 'gone', 'new'].map((key) => textAt(store(), key))).toEqual([
      '1',
      '1',
      undefined,
    ]);
    expect(await store().list('', {})).toEqual(['gone', 'old']);

    store().publish();
    expect(store().position()).toEqual(position(2));
    expect(['old', 'gone', 'new'].map((key) => textAt(store(), key))).toEqual([
      '2',
      undefined,
      '2',
    ]);
    expect(await store().list('', {})).toEqual(['new', 'old']);
  });

  test('within a batch the last operation on a key counts', async () => {
    const operations = [put('k', '1'), remove('k'), put('k', '2'), put('l', '1'), remove('l')];
    await applyAndPublish(store(), operations, 1);
    expect(textAt(store(), 'k')).toBe('2');
    expect(textAt(store(), 'l')).toBeUndefined();
  });

  test('a batch without operations moves the position', async () => {
    await applyAndPublish(store(), [], 7);
    expect(store().position()).toEqual(position(7));
  });

  test('an empty value is a value, and the key of the position is nobody’s', async () => {
    await applyAndPublish(store(), [put('empty', ''), put('p', 'mine'), remove('d')], 1);
    expect(textAt(store(), 'empty')).toBe('');
    expect(textAt(store(), 'p')).toBe('mine');
    expect(textAt(store(), '')).toBeUndefined();
    expect(store().position()).toEqual(position(1));
  });

  test('who was given a value may do with it what they like', async () => {
    await applyAndPublish(store(), [put('k', 'before')], 1);
    store().get('k')?.fill(0);
    expect(textAt(store(), 'k')).toBe('before');
  });
}

function declareDurability({ store }: Subject): void {
  test('what is published becomes durable, in order, and the observer hears of it', async () => {
    const heard: number[] = [];
    store().observe({
      onDurable: () => heard.push(store().durablePosition().lastIncludedIndex),
      onFailure: (error) => expect.fail(String(error)),
    });
    for (let index = 1; index <= 3; index += 1) {
      await applyAndPublish(store(), [put('a', String(index))], index);
      expect(store().durablePosition().lastIncludedIndex).toBeLessThanOrEqual(index);
    }
    await store().flush();
    expect(store().durablePosition()).toEqual(position(3));
    expect(store().position()).toEqual(position(3));
    expect(heard.at(-1)).toBe(3);
    expect(heard).toEqual(heard.toSorted((a, b) => a - b));
    await store().flush();
  });

  test('reads are the same before and after what they see is durable', async () => {
    const look = async () => ({
      values: ['a', 'b', 'c', 'd/1'].map((key) => textAt(store(), key)),
      list: await store().list('', {}),
      page: await store().list('', { after: 'a', limit: 1 }),
      hash: await store().stateHash(),
    });
    await applyAndPublish(store(), [put('a', '1'), put('b', '1'), put('d/1', '1')], 1);
    await store().flush();
    await applyAndPublish(store(), [remove('b'), put('c', '2'), remove('d/1')], 2);
    const before = await look();
    expect(before.values).toEqual(['1', undefined, '2', undefined]);
    expect(before.list).toEqual(['a', 'c']);
    expect(before.page).toEqual(['c']);
    await store().flush();
    expect(await look()).toEqual(before);
  });
}

function declareLists({ store }: Subject): void {
  const rows: [string, { after?: string; limit?: number }, string[]][] = [
    ['', {}, ['a', 'a-b', 'a/', 'b', 'c/', 'c0', 'd/', 'é/', '\uff21', '😀']],
    ['', { after: 'a' }, ['a-b', 'a/', 'b', 'c/', 'c0', 'd/', 'é/', '\uff21', '😀']],
    ['', { after: 'a/' }, ['b', 'c/', 'c0', 'd/', 'é/', '\uff21', '😀']],
    ['', { after: 'a/b' }, ['b', 'c/', 'c0', 'd/', 'é/', '\uff21', '😀']],
    ['', { after: 'c/w/' }, ['c0', 'd/', 'é/', '\uff21', '😀']],
    ['', { after: 'a', limit: 2 }, ['a-b', 'a/']],
    ['', { limit: 3 }, ['a', 'a-b', 'a/']],
    ['', { after: '😀' }, []],
    ['a/', {}, ['1', 'b/']],
    ['a/', { after: '1', limit: 1 }, ['b/']],
    ['a/b/', {}, ['2', '3']],
    ['c/', {}, ['x', 'y/']],
    ['d/', {}, ['/']],
    ['d//', {}, ['e']],
    ['é/', {}, ['ü']],
    ['nothing/', {}, []],
  ];
  test.each(rows)('list(%j, %j)', async (prefix, page, children) => {
    const operations = [...KEYS, '\uff21'].map((key) => put(key, key));
    await applyAndPublish(store(), operations, 1);
    expect(await store().list(prefix, page)).toEqual(children);
  });

  test('a listing passes over large directories', async () => {
    const operations: StoreOperation[] = [];
    for (let i = 0; i < 300; i += 1) {
      operations.push(put(`t/big/${i}`, ''), put(`t/leaf-${String(i).padStart(3, '0')}`, ''));
    }
    operations.push(put('t/big', ''), put('t/zoo/1', ''));
    await applyAndPublish(store(), operations, 1);
    const children = await store().list('t/', {});
    expect(children.length).toBe(303);
    expect([...children.slice(0, 3), children.at(-1)]).toEqual(['big', 'big/', 'leaf-000', 'zoo/']);
  });

  test('a listing that began before a batch was published does not see it', async () => {
    const operations = Array.from({ length: 500 }, (_, i) => put(`key-${i}`, ''));
    await applyAndPublish(store(), operations, 1);
    const listings = [store().list('', {}), store().list('', { after: 'key-5' })];
    await applyAndPublish(store(), [put('key-500', '')], 2);
    const [whole, rest] = await Promise.all(listings);
    expect(whole?.length).toBe(500);
    expect(rest).toEqual(whole?.filter((key) => 'key-5' < key));
  });
}

function declareSnapshots({ store, open }: Subject): void {
  test('an export is of the state that was published when it began', async () => {
    await applyAndPublish(store(), [put('a', '1'), put('b', '1')], 1);
    await store().apply([put('a', '2')], position(2));
    const snapshot = store().exportSnapshot();
    store().publish();
    await applyAndPublish(store(), [remove('b')], 3);
    const chunks = await collect(snapshot.chunks);
    await snapshot.close();

    const copy = await open();
    await copy.importSnapshot(snapshot.position, streamOf(chunks));
    expect(copy.position()).toEqual(position(1));
    expect([textAt(copy, 'a'), textAt(copy, 'b')]).toEqual(['1', '1']);
    await copy.close();
  });

  test('an import replaces everything, and the store goes on from there', async () => {
    await applyAndPublish(store(), [put('a/1', 'x'), put('large', 'y'.repeat(3e5))], 5);
    const snapshot = store().exportSnapshot();
    const chunks = await collect(snapshot.chunks);
    await snapshot.close();
    expect(Math.max(...chunks.map(({ length }) => length))).toBeLessThanOrEqual(CHUNK_BYTES_MAX);

    const copy = await open();
    await applyAndPublish(copy, [put('other', '')], 2);
    await copy.importSnapshot(position(5), streamOf(chunks));
    expect(await copy.list('', {})).toEqual(['a/', 'large']);
    expect(await copy.stateHash()).toBe(await store().stateHash());

    await applyAndPublish(copy, [put('b', '')], 6);
    await copy.importSnapshot(position(5), streamOf(chunks));
    await applyAndPublish(copy, [put('c', '')], 6);
    expect(await copy.list('', {})).toEqual(['a/', 'c', 'large']);
    await copy.close();
  });

  test('the state hash covers keys, values and position', async () => {
    const hashes = new Set<string>();
    const hash = async () => hashes.add(await store().stateHash());
    await hash();
    await applyAndPublish(store(), [put('a', '1')], 1);
    await hash();
    await applyAndPublish(store(), [], 2);
    await hash();
    await applyAndPublish(store(), [put('a', '2')], 2);
    await hash();
    await applyAndPublish(store(), [remove('a'), put('b', '2')], 2);
    await hash();
    expect(hashes.size).toBe(5);
    await store().apply([put('c', '')], position(3));
    await hash();
    expect(hashes.size).toBe(5);
    store().publish();
  });

  test('a store closes in spite of an export that nobody closed', async () => {
    const other = await open();
    await applyAndPublish(other, [put('a', '1')], 1);
    other.exportSnapshot();
    await expect(other.close()).resolves.toBeUndefined();
  });
}

function declareDamage({ store, open }: Subject): void {
  async function exported(): Promise<Buffer> {
    const source = await open();
    await applyAndPublish(source, [put('a', '1'), put('b', '2')], 1);
    const snapshot = source.exportSnapshot();
    const bytes = Buffer.concat(await collect(snapshot.chunks));
    await snapshot.close();
    await source.close();
    return bytes;
  }

  async function expectRefusal(bytes: Buffer, at: StorePosition): Promise<void> {
    // Pieces of odd sizes, as a network cuts them.
    const pieces = [bytes.subarray(0, 3), bytes.subarray(3, 20), bytes.subarray(20)];
    await expect(store().importSnapshot(at, streamOf(pieces))).rejects.toThrow(/Cannot (im|re)/);
  }

  test('a damaged or cut snapshot is refused, and changes nothing', async () => {
    const whole = await exported();
    await applyAndPublish(store(), [put('kept', '1')], 9);
    const before = await store().stateHash();

    for (let offset = 0; offset < whole.length; offset += 5) {
      const damaged = Buffer.from(whole);
      damaged.writeUInt8(damaged.readUInt8(offset) ^ 0x02, offset);
      await expectRefusal(damaged, position(1));
    }
    for (let length = 0; length < whole.length; length += 11) {
      await expectRefusal(whole.subarray(0, length), position(1));
    }
    await expectRefusal(Buffer.concat([whole, Buffer.alloc(1)]), position(1));
    await expectRefusal(whole, position(2));

    expect(await store().stateHash()).toBe(before);
    await applyAndPublish(store(), [put('more', '1')], 10);
    await store().importSnapshot(position(1), streamOf([whole]));
    expect(await store().list('', {})).toEqual(['a', 'b']);
  });
}
