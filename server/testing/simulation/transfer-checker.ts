/**
 * What must hold of states that travel as files: one that arrives whole is one that somebody built
 * (I21), what its sender is told to be installed is (I10), peers understand each
 * other (I24), and files do not pile up (I17).
 */

import { createHash } from 'node:crypto';

import type { InstallSnapshot, SnapshotMetadata } from '../../raft/message.ts';
import type { BuiltSnapshot } from '../../replica/snapshot-builder.ts';
import { snapshotFileName } from '../../replica/snapshot-files.ts';
import type { SimulatedDisk } from './disk.ts';
import type { Ledger } from './invariants.ts';
import type { Member } from './node-member.ts';
import { SNAPSHOT_DIRECTORY } from './node-peers.ts';

export class TransferChecker {
  readonly #ledger: Ledger;
  /** Digests by position. */
  readonly #built = new Map<string, Set<string>>();

  constructor(ledger: Ledger) {
    this.#ledger = ledger;
  }

  onBuilt({ snapshot, manifest }: BuiltSnapshot): void {
    const key = positionOf(snapshot);
    const digests = this.#built.get(key) ?? new Set();
    digests.add(manifest.sha256.toString('hex'));
    this.#built.set(key, digests);
  }

  /** `bytes` of the file that raft is about to hear of. */
  onReceived({ snapshot }: InstallSnapshot, bytes: Buffer): void {
    const digest = createHash('sha256').update(bytes).digest('hex');
    const isBuilt = this.#built.get(positionOf(snapshot))?.has(digest) === true;
    this.#ledger.check('I21', isBuilt, 'a file arrived that nobody has built');
  }

  /** The sender hears that a snapshot is installed, or was of no use: its file is gone by then. */
  onInstalled({ term, snapshot }: InstallSnapshot, { process, disks }: Member): void {
    // Who follows another leader by now may have it from that one.
    if (process === undefined || term < process.raft.status().currentTerm) return;
    const file = `${SNAPSHOT_DIRECTORY}/${snapshotFileName(snapshot, 'snapshot')}`;
    const isAwaited = disks.snapshots.holds(file);
    this.#ledger.check('I10', !isAwaited, 'a snapshot is called installed too early');
  }

  /** A connection was given up because of what came over it. */
  onRefused(what: string): never {
    this.#ledger.violated('I24', what);
  }

  onFrame(): void {
    this.#ledger.count('I24');
  }

  /** `underWay` transfers read a file each; one more is kept for the next, and one is being built. */
  onRest(disk: SimulatedDisk, underWay: number): void {
    const count = disk.list().filter((name) => name.endsWith('.outgoing')).length;
    this.#ledger.check('I17', count <= underWay + 2, 'files of snapshots pile up');
  }
}

function positionOf({ lastIncludedIndex, lastIncludedTerm }: SnapshotMetadata): string {
  return `${lastIncludedIndex}-${lastIncludedTerm}`;
}
