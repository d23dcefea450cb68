import { describe, expect, test } from 'vitest';

import { PowerLoss, SimulatedDisk } from './disk.ts';
import type { CrashLoss } from './nemesis.ts';

const bytes = (character: string, count: number): Buffer => Buffer.alloc(count, character);

/** A synced file of three sectors, then the middle and the last one written over, unsynced. */
function written(): SimulatedDisk {
  const disk = new SimulatedDisk();
  const file = disk.create('/log/a');
  for (let at = 0; at < 1536;) at += disk.writev(file, [bytes('a', 1536 - at)], at);
  disk.datasync(file);
  disk.syncDirectory();
  for (let at = 512; at < 1536;) at += disk.writev(file, [bytes('b', 1536 - at)], at);
  return disk;
}

function sectorsAfter(loss: CrashLoss, draw: () => number): string {
  const disk = written();
  disk.crash(loss, draw);
  const content = disk.read('/log/a');
  return [0, 512, 1024].map((at) => String.fromCharCode(content[at] ?? 0)).join('');
}

describe('a crash of the simulated disk', () => {
  test('keeps all, nothing, a prefix, or any subset of what was not synced', () => {
    expect(sectorsAfter('nothing', () => 0)).toBe('abb');
    expect(sectorsAfter('everything', () => 0.99)).toBe('aaa');
    expect(sectorsAfter('suffix', () => 0.2)).toBe('aba');
    const draws = [0.9, 0.1];
    expect(sectorsAfter('subset', () => draws.shift() ?? 0.9)).not.toBe('abb');
  });

  test('gives back what a name that was not synced has replaced', () => {
    const disk = written();
    disk.create('/log/b');
    disk.rename('/log/a', '/log/b');
    disk.syncDirectory();
    disk.create('/log/c');
    disk.rename('/log/c', '/log/b');
    disk.crash('everything', () => 0.99);
    expect(disk.list()).toEqual(['b']);
    expect(disk.read('/log/b')).toHaveLength(1536);
  });

  test('never takes back what was synced', () => {
    const disk = written();
    const file = disk.openExisting('/log/a');
    disk.datasync(file);
    disk.crash('everything', () => 0.99);
    expect(disk.read('/log/a').subarray(512).equals(bytes('b', 1024))).toBe(true);
  });

  test('takes names that the directory was not synced for', () => {
    const disk = written();
    disk.datasync(disk.create('/log/b'));
    disk.unlink('/log/a');
    disk.crash('everything', () => 0.99);
    expect(disk.list()).toEqual(['a']);
  });

  test('comes before the change it was armed for', () => {
    const disk = written();
    disk.crashAfter(1);
    const file = disk.create('/log/b');
    expect(() => disk.writev(file, [bytes('c', 10)], 0)).toThrow(PowerLoss);
    expect([...disk.coverage.keys()]).toEqual(['crash before write']);
  });
});

test('a failed sync drops what it was to write, and the next one proves nothing', () => {
  const disk = written();
  const file = disk.openExisting('/log/a');
  disk.failNext('syncError');
  expect(() => disk.datasync(file)).toThrow('syncError');
  disk.datasync(file);
  disk.crash('nothing', () => 0);
  expect(disk.read('/log/a').subarray(512).equals(bytes('a', 1024))).toBe(true);
});

test('rot flips one bit of a segment that is not the last one', () => {
  const disk = new SimulatedDisk();
  disk.writev(disk.create('/log/1.wal'), [bytes('a', 50)], 0);
  expect(disk.rot(() => 0)).toBeUndefined();
  disk.create('/log/2.wal');
  disk.create('/log/spare');
  const before = disk.read('/log/1.wal');
  expect(disk.rot(() => 0.9)).toBe('/log/1.wal');
  expect(disk.read('/log/1.wal').equals(before)).toBe(false);
  expect(disk.holds('/log/1.wal')).toBe(true);
});
