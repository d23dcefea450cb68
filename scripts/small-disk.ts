/**
 * A disk that runs full when told to: a small tmpfs where this process may mount one, else a limit
 * on the size of files (`prlimit`) that is set on the process that writes.
 */

import { spawnSync } from 'node:child_process';
import {
  closeSync,
  mkdirSync,
  openSync,
  readdirSync,
  rmSync,
  statSync,
  statfsSync,
  writeSync,
} from 'node:fs';
import { join } from 'node:path';

export type SmallDisk = {
  readonly directory: string;
  /** Leaves room for `bytes` more, be it in all or in the largest file; the process is its user. */
  leave(bytes: number, processId: number): void;
  /** Makes room again, for processes that start from now on. */
  free(): void;
  remove(): void;
};

const DISK_BYTES = 16 * 1024 * 1024;
const FILL_BYTES = 64 * 1024;

/** Returns undefined where there is no way to make one. */
export function createSmallDisk(directory: string): SmallDisk | undefined {
  mkdirSync(directory, { recursive: true });
  return mountedDisk(directory) ?? limitedFiles(directory);
}

function mountedDisk(directory: string): SmallDisk | undefined {
  if (!succeeds('mount', ['-t', 'tmpfs', '-o', `size=${DISK_BYTES}`, 'tmpfs', directory])) {
    return undefined;
  }
  const filler = join(directory, 'filler');
  return {
    directory,
    leave: (bytes) => fillUp(filler, bytes),
    free: () => rmSync(filler, { force: true }),
    remove: () => {
      if (!succeeds('umount', [directory])) throw new Error(`cannot unmount ${directory}`);
      rmSync(directory, { recursive: true, force: true });
    },
  };
}

function fillUp(filler: string, bytesLeft: number): void {
  const file = openSync(filler, 'w');
  const block = Buffer.alloc(FILL_BYTES, 1);
  try {
    for (;;) {
      const { bavail, bsize } = statfsSync(filler);
      const bytes = Math.min(FILL_BYTES, bavail * bsize - bytesLeft);
      if (bytes <= 0) return;
      writeSync(file, block, 0, bytes);
    }
  } finally {
    closeSync(file);
  }
}

function limitedFiles(directory: string): SmallDisk | undefined {
  if (!succeeds('prlimit', ['--version'])) return undefined;
  return {
    directory,
    leave: (bytes, processId) => {
      const limit = largestFile(directory) + bytes;
      if (!succeeds('prlimit', [`--pid=${processId}`, `--fsize=${limit}`])) {
        throw new Error(`cannot limit the files of process ${processId}`);
      }
    },
    free: () => undefined,
    remove: () => rmSync(directory, { recursive: true, force: true }),
  };
}

function largestFile(directory: string): number {
  const files = readdirSync(directory, { recursive: true, encoding: 'utf8' });
  return Math.max(0, ...files.map((file) => statSync(join(directory, file)).size));
}

function succeeds(command: string, args: readonly string[]): boolean {
  return spawnSync(command, args, { stdio: 'ignore' }).status === 0;
}
