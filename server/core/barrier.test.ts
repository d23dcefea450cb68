import { describe, expect, test } from 'vitest';
import { createMemoryCluster } from '../testing/memory-physical.ts';
import type { MemoryNode } from '../testing/memory-physical.ts';
import { ROOT_NAMESPACE } from './backend.ts';
import { Barrier, KEYRING_PATH } from './barrier.ts';
import { createKey } from './seal.ts';
import { clearPrefix, createView } from './view.ts';

const ROOT_KEY = createKey();

async function openBarrier(): Promise<{ barrier: Barrier; node: MemoryNode }> {
  const node = createMemoryCluster().leader();
  const barrier = new Barrier(node.physical, node.physical);
  barrier.initialize(ROOT_KEY, 0);
  await node.physical.write([barrier.keyringOperation()]);
  barrier.setReadOnly(false);
  return { barrier, node };
}

function stored(node: MemoryNode, path: string): Buffer {
  return Buffer.from(node.physical.get(path) ?? []);
}

describe('barrier', () => {
  test('returns what was put, and nothing readable lies below', async () => {
    const { barrier, node } = await openBarrier();
    const secret = 'a secret that is long enough to be found';
    await barrier.put('logical/x/a', Buffer.from(secret));
    expect(barrier.get('logical/x/a')?.toString()).toBe(secret);
    expect(stored(node, 'logical/x/a').includes(secret)).toBe(false);
    expect(barrier.get('logical/x/b')).toBeUndefined();
  });

  test('the same value sealed twice differs', async () => {
    const { barrier } = await openBarrier();
    const seal = (): Buffer => barrier.sealFor('a', Buffer.from('value'));
    expect(seal()).not.toEqual(seal());
  });

  test('an empty value is a value', async () => {
    const { barrier } = await openBarrier();
    await barrier.put('a', Buffer.alloc(0));
    expect(barrier.get('a')).toEqual(Buffer.alloc(0));
  });

  test('any changed byte is noticed', async () => {
    const { barrier, node } = await openBarrier();
    await barrier.put('a', Buffer.from('value'));
    const sealed = stored(node, 'a');
    for (let position = 0; position < sealed.length; position += 1) {
      const tampered = Buffer.from(sealed);
      tampered.writeUInt8((tampered.readUInt8(position) + 1) % 256, position);
      await node.physical.write([{ kind: 'put', key: 'a', value: tampered }]);
      expect(() => barrier.get('a'), `byte ${position}`).toThrow('Cannot decrypt a: not authentic');
    }
    for (let length = 0; length < sealed.length; length += 1) {
      await node.physical.write([{ kind: 'put', key: 'a', value: sealed.subarray(0, length) }]);
      expect(() => barrier.get('a'), `${length} bytes`).toThrow('not authentic');
    }
  });

  test('a value moved to another path does not open', async () => {
    const { barrier, node } = await openBarrier();
    await barrier.put('a', Buffer.from('value'));
    await node.physical.write([{ kind: 'put', key: 'b', value: stored(node, 'a') }]);
    expect(() => barrier.get('b')).toThrow('Cannot decrypt b: not authentic');
    expect(barrier.tryOpen('b', stored(node, 'a'))).toBeUndefined();
  });

  test('after a rotation old values open and new ones carry the new term', async () => {
    const { barrier, node } = await openBarrier();
    await barrier.put('old', Buffer.from('1'));
    expect(await barrier.rotate(5)).toBe(2);
    await barrier.put('new', Buffer.from('2'));
    expect(stored(node, 'old').readUInt32BE(0)).toBe(1);
    expect(stored(node, 'new').readUInt32BE(0)).toBe(2);
    expect(barrier.keyStatus()).toMatchObject({ term: 2, installTimeMs: 5 });

    const other = new Barrier(node.physical, node.physical);
    other.unseal(ROOT_KEY);
    expect([other.get('old')?.toString(), other.get('new')?.toString()]).toEqual(['1', '2']);
  });

  test('another node reads new terms when it is told of them', async () => {
    const { barrier, node } = await openBarrier();
    const other = new Barrier(node.physical, node.physical);
    other.unseal(ROOT_KEY);
    await barrier.rotate(5);
    await barrier.put('new', Buffer.from('2'));
    expect(() => other.get('new')).toThrow('not authentic');
    other.reloadKeyring();
    expect(other.get('new')?.toString()).toBe('2');
  });

  test('a wrong root key opens nothing, and the right one still does', async () => {
    const { node } = await openBarrier();
    const other = new Barrier(node.physical, node.physical);
    expect(() => other.unseal(createKey())).toThrow('Unseal failed, invalid key');
    expect(other.isSealed).toBe(true);
    other.unseal(ROOT_KEY);
    expect(other.isSealed).toBe(false);
  });

  test('sealed: nothing can be read, listed, sealed or opened', async () => {
    const { barrier } = await openBarrier();
    await barrier.put('a', Buffer.from('value'));
    barrier.seal();
    expect(() => barrier.get('a')).toThrow('Vault is sealed');
    expect(() => barrier.list('')).toThrow('Vault is sealed');
    expect(() => barrier.sealFor('a', Buffer.from('b'))).toThrow('Vault is sealed');
    await expect(barrier.put('a', Buffer.from('b'))).rejects.toMatchObject({ code: 'read-only' });
  });

  test('is read-only until told otherwise: each kind of write is refused and none arrives', async () => {
    const { barrier, node } = await openBarrier();
    await barrier.put('a', Buffer.from('value'));
    barrier.setReadOnly(true);
    const index = node.physical.appliedIndex();
    const begun = barrier.writesBegun;
    const view = createView(barrier, ROOT_NAMESPACE, 'logical/x/');
    const writes = [
      () => barrier.put('a', Buffer.from('b')),
      () => barrier.delete('a'),
      () => barrier.write([]),
      () => barrier.rotate(0),
      () => view.put('a', Buffer.from('b')),
      () => view.delete('a'),
      () => view.write([{ kind: 'delete', key: 'a' }]),
    ];
    for (const write of writes) await expect(write()).rejects.toMatchObject({ code: 'read-only' });
    expect(() => view.requireWritable()).toThrow('cannot write to readonly storage');
    expect(node.physical.appliedIndex()).toBe(index);
    expect(barrier.writesBegun).toBe(begun);
    expect(barrier.get('a')?.toString()).toBe('value');
  });

  test('keys are nowhere to be found in what is stored', async () => {
    const { barrier, node } = await openBarrier();
    await barrier.rotate(0);
    expect(stored(node, KEYRING_PATH).includes('"value"')).toBe(false);
    expect(stored(node, KEYRING_PATH).includes(ROOT_KEY)).toBe(false);
  });
});

describe('view', () => {
  test('sees only what is below its prefix', async () => {
    const { barrier } = await openBarrier();
    const view = createView(barrier, ROOT_NAMESPACE, 'logical/x/');
    await view.write([
      { kind: 'put', key: 'a', value: Buffer.from('1') },
      { kind: 'put', key: 'd/b', value: Buffer.from('2') },
    ]);
    expect(barrier.get('logical/x/a')?.toString()).toBe('1');
    expect(await view.list('')).toEqual(['a', 'd/']);
    expect(await view.list('', { after: 'a', limit: 5 })).toEqual(['d/']);
    expect(view.get('d/b')?.toString()).toBe('2');
  });

  test('a namespace other than root keeps its own below namespaces/<uuid>/', async () => {
    const { barrier } = await openBarrier();
    const namespace = { id: 'n1', uuid: 'u-1', path: 'team/' };
    await createView(barrier, namespace, 'logical/x/').put('a', Buffer.from('1'));
    expect(barrier.get('namespaces/u-1/logical/x/a')?.toString()).toBe('1');
    expect(createView(barrier, ROOT_NAMESPACE, 'logical/x/').get('a')).toBeUndefined();
  });

  test('clearPrefix() deletes all that is below, at any depth and number, and nothing else', async () => {
    const { barrier } = await openBarrier();
    const keys = Array.from({ length: 300 }, (_, each) => `x/${each % 7}/${each}`);
    for (const key of [...keys, 'x/top', 'xy', 'y/a']) await barrier.put(key, Buffer.from('1'));
    await clearPrefix(barrier, 'x/');
    expect(await barrier.list('x/')).toEqual([]);
    expect(await barrier.list('')).toEqual(['core/', 'xy', 'y/']);
  });
});
