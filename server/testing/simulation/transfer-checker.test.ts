/** Each violation of what must hold of transfers, brought about by hand. */

import { createHash } from 'node:crypto';
import { describe, expect, test } from 'vitest';

import type { InstallSnapshot } from '../../raft/message.ts';
import { SimulatedDisk } from './disk.ts';
import { InvariantViolation, Ledger, type InvariantId } from './invariants.ts';
import type { Member } from './node-member.ts';
import { TransferChecker } from './transfer-checker.ts';

const snapshot = { lastIncludedIndex: 9, lastIncludedTerm: 2, configuration: { servers: [] } };
const message: InstallSnapshot = {
  kind: 'installSnapshot',
  from: 'n1',
  to: 'n2',
  term: 3,
  snapshot,
};
const state = Buffer.from('state');

function violated(run: () => void): InvariantId | undefined {
  try {
    run();
  } catch (error) {
    if (error instanceof InvariantViolation) return error.id;
    throw error;
  }
  return undefined;
}

function disk(...names: string[]): SimulatedDisk {
  const made = new SimulatedDisk();
  for (const name of names) made.create(`/snapshots/${name}`);
  return made;
}

describe('a file that arrives', () => {
  const checker = new TransferChecker(new Ledger());
  const sha256 = createHash('sha256').update(state).digest();
  checker.onBuilt({ snapshot, file: '', manifest: { id: Buffer.alloc(16), size: 5, sha256 } });

  test('is one that was built', () => {
    expect(violated(() => checker.onReceived(message, state))).toBeUndefined();
    expect(violated(() => checker.onReceived(message, Buffer.from('other')))).toBe('I21');
  });

  test('is of the position that it was built at', () => {
    const other = { ...message, snapshot: { ...snapshot, lastIncludedIndex: 10 } };
    expect(violated(() => checker.onReceived(other, state))).toBe('I21');
  });
});

describe('a snapshot is called installed', () => {
  const called = (names: string[], currentTerm: number): InvariantId | undefined => {
    const process = { raft: { status: () => ({ currentTerm }) } };
    const member = { process, disks: { snapshots: disk(...names) } } as unknown as Member;
    return violated(() => new TransferChecker(new Ledger()).onInstalled(message, member));
  };

  test('when nobody waits for its file any more', () => {
    expect(called([], 3)).toBeUndefined();
    expect(called(['8-2.snapshot'], 3)).toBeUndefined();
    expect(called(['9-2.snapshot'], 3)).toBe('I10');
  });

  test('unless a later leader sends it, too', () => {
    expect(called(['9-2.snapshot'], 4)).toBeUndefined();
  });
});

test('files that nobody sends do not pile up', () => {
  const names = Array.from({ length: 4 }, (_, number) => `${number}.outgoing`);
  const checker = new TransferChecker(new Ledger());
  expect(violated(() => checker.onRest(disk(...names), 2))).toBeUndefined();
  expect(violated(() => checker.onRest(disk(...names), 1))).toBe('I17');
});

test('no frame of a peer is refused', () => {
  expect(violated(() => new TransferChecker(new Ledger()).onRefused('garbage'))).toBe('I24');
});
