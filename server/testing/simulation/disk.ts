/**
 * A disk for the durable log: what was synced, and over it a volatile cache of sectors and names.
 *
 * A crash keeps of the cache everything, nothing, a prefix in the order of the writes, or any
 * subset: torn writes and reordering are both in that. A failed sync drops what it was to write
 * and calls it clean, as Linux does, so that a later sync succeeds and proves nothing.
 *
 * Every change is a fault point: `crashAfter(n)` lets the n-th next one end the node instead, in
 * the middle of a batch, between a segment's creation and its header, before the sync of a
 * directory. `coverage` counts where that happened.
 */

import assert from 'node:assert/strict';

import type { LogFiles } from '../../storage/log-files.ts';
import type { CrashLoss, DiskFault } from './nemesis.ts';

const SECTOR_BYTES = 512;

/** The node has lost its power; whatever it was doing ends here. */
export class PowerLoss extends Error {
  override readonly name = 'PowerLoss';
}

type DiskFile = { content: Buffer; length: number; durableLength: number };

/** Something that is not durable, and how to take it back. */
type Unsynced = {
  readonly file: DiskFile | undefined;
  readonly name: string | undefined;
  undo(): void;
};

export class SimulatedDisk implements LogFiles {
  readonly #files = new Map<string, DiskFile>();
  readonly #open = new Map<number, DiskFile>();
  /** In the order in which it was written. */
  #unsynced: Unsynced[] = [];
  #nextDescriptor = 1;
  #changesUntilCrash = Infinity;
  #fault: DiskFault | undefined;
  /** Crashes and faults by the operation that they hit. */
  readonly coverage = new Map<string, number>();

  crashAfter(changeCount: number): void {
    this.#changesUntilCrash = changeCount;
  }

  /** The next operation that can fail in this way does; without one, the fault is over. */
  failNext(fault: DiskFault | undefined): void {
    this.#fault = fault;
  }

  /** Loses the power: what is left is what a new process finds. */
  crash(loss: CrashLoss, draw: () => number): void {
    const unsynced = this.#unsynced;
    this.#unsynced = [];
    const keptCount = loss === 'suffix' ? Math.floor(draw() * (unsynced.length + 1)) : 0;
    // Newest first, so that what lies under it comes back.
    for (let position = unsynced.length - 1; position >= 0; position -= 1) {
      const isKept =
        loss === 'nothing' ||
        (loss === 'suffix' && position < keptCount) ||
        (loss === 'subset' && draw() < 0.5);
      if (!isKept) unsynced[position]?.undo();
    }
    for (const file of this.#files.values()) file.durableLength = file.length;
    this.#open.clear();
    this.#changesUntilCrash = Infinity;
    this.#fault = undefined;
  }

  /** Flips a bit of a segment that is not the last one. Returns which, if there was one. */
  rot(draw: () => number): string | undefined {
    const segments = [...this.#files.keys()].filter((path) => path.endsWith('.wal')).toSorted();
    const path = segments[Math.floor(draw() * (segments.length - 1))];
    const file = this.#files.get(path ?? '');
    if (segments.length < 2 || file === undefined || file.length === 0) return undefined;
    const at = Math.floor(draw() * file.length);
    file.content[at] = (file.content[at] ?? 0) ^ (1 << Math.floor(draw() * 8));
    return path;
  }

  holds(path: string): boolean {
    return this.#files.has(path);
  }

  enter(): () => void {
    return () => {};
  }

  list(): string[] {
    return [...this.#files.keys()].map((path) => path.slice(path.lastIndexOf('/') + 1));
  }

  read(path: string): Buffer {
    this.#mayFail('read', 'readError');
    const file = this.#files.get(path);
    assert(file !== undefined, 'no such file');
    return Buffer.from(file.content.subarray(0, file.length));
  }

  readAt(descriptor: number, position: number, bytes: number): Buffer {
    this.#mayFail('read', 'readError');
    const { content, length } = this.#fileOf(descriptor);
    return content.subarray(position, Math.min(length, position + bytes));
  }

  lengthOf(descriptor: number): number {
    return this.#fileOf(descriptor).length;
  }

  create(path: string): number {
    this.#change('create');
    this.#mayFail('create', 'noSpace');
    assert(!this.#files.has(path), 'the file exists');
    const file = { content: Buffer.alloc(8 * SECTOR_BYTES), length: 0, durableLength: 0 };
    this.#files.set(path, file);
    this.#unsynced.push({ file: undefined, name: path, undo: () => this.#files.delete(path) });
    return this.#descriptorOf(file);
  }

  openExisting(path: string): number {
    const file = this.#files.get(path);
    assert(file !== undefined, 'no such file');
    return this.#descriptorOf(file);
  }

  /** Writes at most half of the bytes at once if there are many, as a real file may. */
  writev(descriptor: number, buffers: readonly Uint8Array[], position: number): number {
    this.#change('write');
    this.#mayFail('write', 'writeError');
    this.#mayFail('write', 'noSpace');
    const file = this.#fileOf(descriptor);
    const bytes = Buffer.concat(buffers);
    const count = bytes.length < 64 ? bytes.length : Math.ceil(bytes.length / 2);
    grow(file, position + count);
    for (let at = position - (position % SECTOR_BYTES); at < position + count; at += SECTOR_BYTES) {
      this.#saveSector(file, at);
    }
    this.#setLength(file, Math.max(file.length, position + count));
    bytes.copy(file.content, position, 0, count);
    return count;
  }

  datasync(descriptor: number): void {
    this.#change('sync');
    const file = this.#fileOf(descriptor);
    if (this.#fault === 'syncError') {
      this.#undoAll(file);
      this.#mayFail('sync', 'syncError');
    }
    this.#unsynced = this.#unsynced.filter((each) => each.file !== file);
    file.durableLength = file.length;
  }

  truncate(descriptor: number, length: number): void {
    this.#change('truncate');
    const file = this.#fileOf(descriptor);
    for (let at = length - (length % SECTOR_BYTES); at < file.length; at += SECTOR_BYTES) {
      this.#saveSector(file, at);
    }
    file.content.fill(0, length, file.length);
    this.#setLength(file, length);
  }

  close(descriptor: number): void {
    this.#open.delete(descriptor);
  }

  rename(from: string, to: string): void {
    this.#change('rename');
    const file = this.#files.get(from);
    assert(file !== undefined, 'no such file');
    const replaced = this.#files.get(to);
    this.#files.delete(from);
    this.#files.set(to, file);
    const undo = (): void => {
      this.#files.set(from, file);
      if (replaced === undefined) this.#files.delete(to);
      else this.#files.set(to, replaced);
    };
    this.#unsynced.push({ file: undefined, name: to, undo });
  }

  unlink(path: string): void {
    this.#change('unlink');
    const file = this.#files.get(path);
    assert(file !== undefined, 'no such file');
    this.#files.delete(path);
    this.#unsynced.push({ file: undefined, name: path, undo: () => this.#files.set(path, file) });
  }

  syncDirectory(): void {
    this.#change('directory sync');
    this.#unsynced = this.#unsynced.filter((each) => each.name === undefined);
  }

  #saveSector(file: DiskFile, at: number): void {
    const before = Buffer.from(file.content.subarray(at, at + SECTOR_BYTES));
    this.#unsynced.push({
      file,
      name: undefined,
      undo: () => before.copy(file.content, at),
    });
  }

  #setLength(file: DiskFile, length: number): void {
    if (length === file.length) return;
    const before = file.length;
    file.length = length;
    this.#unsynced.push({ file, name: undefined, undo: () => (file.length = before) });
  }

  #undoAll(file: DiskFile): void {
    for (const each of this.#unsynced.toReversed()) if (each.file === file) each.undo();
    this.#unsynced = this.#unsynced.filter((each) => each.file !== file);
  }

  #change(operation: string): void {
    if (this.#changesUntilCrash <= 0) {
      this.#count(`crash before ${operation}`);
      throw new PowerLoss(`power loss before ${operation}`);
    }
    this.#changesUntilCrash -= 1;
  }

  #mayFail(operation: string, fault: DiskFault): void {
    if (this.#fault !== fault) return;
    this.#count(`disk fault ${fault} at ${operation}`);
    // A full disk stays full, and a failed one may work again: a restart finds out.
    if (fault !== 'noSpace') this.#fault = undefined;
    throw Object.assign(new Error(`${fault} at ${operation}`), {
      code: fault === 'noSpace' ? 'ENOSPC' : 'EIO',
    });
  }

  #count(name: string): void {
    this.coverage.set(name, (this.coverage.get(name) ?? 0) + 1);
  }

  #descriptorOf(file: DiskFile): number {
    this.#nextDescriptor += 1;
    this.#open.set(this.#nextDescriptor, file);
    return this.#nextDescriptor;
  }

  #fileOf(descriptor: number): DiskFile {
    const file = this.#open.get(descriptor);
    assert(file !== undefined, 'no such descriptor');
    return file;
  }
}

function grow(file: DiskFile, length: number): void {
  if (length <= file.content.length) return;
  const content = Buffer.alloc(Math.max(length, 2 * file.content.length) + SECTOR_BYTES);
  file.content.copy(content);
  file.content = content;
}
