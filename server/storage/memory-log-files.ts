/**
 * The files of a durable log without a disk, with the two things a disk does that tests need: it
 * fails, and it loses power.
 *
 * What was written since the last sync may, after power loss, be there or not, sector by sector and
 * name by name. This is weaker than any file system in use, so a log that survives it is safe.
 */

import assert from 'node:assert/strict';

import type { LogFiles } from './log-files.ts';

const SECTOR_BYTES = 512;

type MemoryFile = { content: Buffer; durable: Buffer };

export class MemoryLogFiles implements LogFiles {
  readonly #files: Map<string, MemoryFile>;
  #durableNames: Map<string, MemoryFile>;
  readonly #open = new Map<number, MemoryFile>();
  #nextDescriptor = 1;
  #changesLeft = Infinity;
  #failure: Error = new Error('power loss');
  /** How often `datasync` was called. */
  syncCount = 0;

  constructor(contents: ReadonlyMap<string, Buffer> = new Map()) {
    this.#files = new Map();
    for (const [path, content] of contents) {
      this.#files.set(path, { content, durable: content });
    }
    this.#durableNames = new Map(this.#files);
  }

  /** Lets all changes after the next `count` fail. */
  failAfter(count: number, failure: Error): void {
    this.#changesLeft = count;
    this.#failure = failure;
  }

  /** The contents without any loss. */
  contents(): Map<string, Buffer> {
    return new Map([...this.#files].map(([path, file]) => [path, Buffer.from(file.content)]));
  }

  /** The contents after power loss; `isKept` decides for each thing that was not synced. */
  contentsAfterPowerLoss(isKept: () => boolean): Map<string, Buffer> {
    const contents = new Map<string, Buffer>();
    for (const path of new Set([...this.#files.keys(), ...this.#durableNames.keys()])) {
      const isSettled = this.#files.get(path) === this.#durableNames.get(path);
      const file = this.#files.get(path) ?? this.#durableNames.get(path);
      assert(file !== undefined);
      if (isSettled || isKept()) contents.set(path, mixed(file, isKept));
    }
    return contents;
  }

  enter(): () => void {
    return () => {};
  }

  list(): string[] {
    return [...this.#files.keys()].map((path) => path.slice(path.lastIndexOf('/') + 1));
  }

  read(path: string): Buffer {
    const file = this.#files.get(path);
    assert(file !== undefined, 'no such file');
    return Buffer.from(file.content);
  }

  create(path: string): number {
    this.#change();
    assert(!this.#files.has(path), 'the file exists');
    const file = { content: Buffer.alloc(0), durable: Buffer.alloc(0) };
    this.#files.set(path, file);
    return this.#descriptorOf(file);
  }

  openExisting(path: string): number {
    const file = this.#files.get(path);
    assert(file !== undefined, 'no such file');
    return this.#descriptorOf(file);
  }

  /** Writes at most half of the bytes at once if there are many, as a real file may. */
  writev(descriptor: number, buffers: readonly Uint8Array[], position: number): number {
    this.#change();
    const bytes = Buffer.concat(buffers);
    const count = bytes.length < 64 ? bytes.length : Math.ceil(bytes.length / 2);
    const file = this.#fileOf(descriptor);
    const content = Buffer.alloc(Math.max(file.content.length, position + count));
    file.content.copy(content);
    bytes.copy(content, position, 0, count);
    file.content = content;
    return count;
  }

  datasync(descriptor: number): void {
    this.#change();
    const file = this.#fileOf(descriptor);
    file.durable = file.content;
    this.syncCount += 1;
  }

  truncate(descriptor: number, length: number): void {
    this.#change();
    const file = this.#fileOf(descriptor);
    file.content = Buffer.from(file.content.subarray(0, length));
  }

  close(descriptor: number): void {
    this.#open.delete(descriptor);
  }

  rename(from: string, to: string): void {
    this.#change();
    const file = this.#files.get(from);
    assert(file !== undefined, 'no such file');
    this.#files.delete(from);
    this.#files.set(to, file);
  }

  unlink(path: string): void {
    this.#change();
    assert(this.#files.delete(path), 'no such file');
  }

  syncDirectory(): void {
    this.#change();
    this.#durableNames = new Map(this.#files);
  }

  #change(): void {
    if (this.#changesLeft <= 0) throw this.#failure;
    this.#changesLeft -= 1;
  }

  #descriptorOf(file: MemoryFile): number {
    this.#nextDescriptor += 1;
    this.#open.set(this.#nextDescriptor, file);
    return this.#nextDescriptor;
  }

  #fileOf(descriptor: number): MemoryFile {
    const file = this.#open.get(descriptor);
    assert(file !== undefined, 'no such descriptor');
    return file;
  }
}

function mixed(file: MemoryFile, isKept: () => boolean): Buffer {
  const { content, durable } = file;
  const hasNewLength = content.length !== durable.length && isKept();
  const result = Buffer.alloc(hasNewLength ? content.length : durable.length);
  durable.copy(result);
  for (let start = 0; start < result.length; start += SECTOR_BYTES) {
    const written = content.subarray(start, start + SECTOR_BYTES);
    const isChanged = !written.equals(result.subarray(start, start + SECTOR_BYTES));
    if (isChanged && isKept()) written.copy(result, start);
  }
  return result;
}
