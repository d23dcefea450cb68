/**
 * Which process holds the other end of a loopback connection, from `/proc`. TLS hides from a proxy
 * who dials it; the kernel knows.
 */

import { readFileSync, readdirSync, readlinkSync } from 'node:fs';

/** Of `processIds`, the one with a socket bound to `port`; undefined if it is gone already. */
export function findSocketOwner(port: number, processIds: readonly number[]): number | undefined {
  const inodes = socketInodes(port);
  return processIds.find((processId) => holdsSocket(processId, inodes));
}

/** `sl local_address rem_address st tx:rx tr:when retrnsmt uid timeout inode`, ports in hex. */
function socketInodes(port: number): Set<string> {
  const suffix = `:${port.toString(16).toUpperCase().padStart(4, '0')}`;
  const rows = readFileSync('/proc/net/tcp', 'utf8').split('\n').slice(1);
  return new Set(
    rows
      .map((row) => row.trim().split(/\s+/))
      .filter((fields) => fields[1]?.endsWith(suffix) === true)
      .map((fields) => `socket:[${fields[9]}]`),
  );
}

function holdsSocket(processId: number, inodes: ReadonlySet<string>): boolean {
  const folder = `/proc/${processId}/fd`;
  return descriptorsOf(folder).some((name) => inodes.has(targetOf(`${folder}/${name}`)));
}

/** A process may end while it is looked at. */
function descriptorsOf(folder: string): string[] {
  try {
    return readdirSync(folder);
  } catch {
    return [];
  }
}

function targetOf(link: string): string {
  try {
    return readlinkSync(link);
  } catch {
    return '';
  }
}
