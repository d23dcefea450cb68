/**
 * Keeps two processes off one directory: a file `lock` that names its holder. The lock of a process
 * that is gone is taken over; a process is known by its pid, its start time, and the boot it runs
 * in, so that neither a reused pid nor a reboot keeps a directory locked.
 */

import { linkSync, readFileSync, renameSync, rmSync, writeFileSync } from 'node:fs';
import { join } from 'node:path';

// Between two looks at the lock somebody else may take it over or release it.
const ATTEMPTS_MAX = 5;

export class DirectoryLockedError extends Error {
  override readonly name = 'DirectoryLockedError';
}

/** Locks a directory and returns the release; throws `DirectoryLockedError` if it is in use. */
export function lockDirectory(directory: string): () => void {
  const path = join(directory, 'lock');
  const claimPath = `${path}.${process.pid}.${process.hrtime.bigint()}`;
  const claim = `${describeProcess(process.pid)}\n`;
  writeFileSync(claimPath, claim, { flag: 'wx', mode: 0o600 });
  try {
    for (let attempt = 0; attempt < ATTEMPTS_MAX; attempt += 1) {
      // A link appears whole, with its contents, or not at all.
      if (succeeds(() => linkSync(claimPath, path), 'EEXIST')) return () => rmSync(path);
      removeStaleLock(path, `${claimPath}.stale`);
    }
    throw new DirectoryLockedError(`Cannot lock ${directory}: it changes hands all the time`);
  } finally {
    rmSync(claimPath);
  }
}

function removeStaleLock(path: string, stalePath: string): void {
  const holder = readIfPresent(path);
  if (holder === undefined) return;
  const pid = Number(holder.split(' ')[0]);
  if (Number.isInteger(pid) && describeProcess(pid) === holder.trimEnd()) {
    throw new DirectoryLockedError(`Cannot lock ${path}: held by the running process ${pid}`);
  }

  if (!succeeds(() => renameSync(path, stalePath), 'ENOENT')) return;
  // Somebody may have replaced the stale lock by a good one just before it was renamed.
  if (readFileSync(stalePath, 'utf8') !== holder) {
    succeeds(() => linkSync(stalePath, path), 'EEXIST');
  }
  rmSync(stalePath);
}

/** `pid boot-id start-time`, with `gone` as the start time of a process that does not run. */
function describeProcess(pid: number): string {
  const bootId = readIfPresent('/proc/sys/kernel/random/boot_id')?.trim() ?? 'unknown';
  const status = readIfPresent(`/proc/${pid}/stat`);
  // The second field, the command, may hold spaces; the start time is the 22nd (proc(5)).
  const fields = status?.slice(status.lastIndexOf(')') + 2).split(' ');
  const isZombie = fields?.[0] === 'Z';
  return `${pid} ${bootId} ${isZombie ? 'gone' : (fields?.[19] ?? 'gone')}`;
}

function readIfPresent(path: string): string | undefined {
  let text: string | undefined;
  succeeds(() => (text = readFileSync(path, 'utf8')), 'ENOENT');
  return text;
}

function succeeds(action: () => void, expectedCode: string): boolean {
  try {
    action();
    return true;
  } catch (error) {
    if (error instanceof Error && 'code' in error && error.code === expectedCode) return false;
    throw error;
  }
}
