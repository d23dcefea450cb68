/** The replicated store as the core sees it: local reads, and writes that go through the log. */

import type { Commit, CommitOutcome, PhysicalStore } from '../core/ports.ts';
import { encodeCommand, encodeConditional } from '../storage/command.ts';
import { fingerprintOf, fingerprintOfList } from '../storage/fingerprint.ts';
import type { Store } from '../storage/store.ts';
import { isSessionKey, readRecorded } from './session-table.ts';

export type PhysicalParts = {
  readonly store: Pick<Store, 'get' | 'list'>;
  /** Rejects if this node cannot propose. `operations` is left out for a plain write. */
  readonly propose: (command: Uint8Array, operations?: number) => Promise<CommitOutcome>;
  readonly appliedIndex: PhysicalStore['appliedIndex'];
  readonly awaitApplied: PhysicalStore['awaitApplied'];
};

export function createPhysical(parts: PhysicalParts): PhysicalStore {
  const { store, propose, appliedIndex, awaitApplied } = parts;
  return {
    get: (key) => store.get(key),
    list: (prefix, page) => store.list(prefix, { after: page?.after, limit: limitOf(page?.limit) }),
    write: async (operations) => {
      checkKeys(operations);
      const outcome = await propose(encodeCommand(operations));
      if (outcome.kind !== 'applied') throw new Error(`a plain write ended as ${outcome.kind}`);
      return outcome.index;
    },
    commit: async (commit) => {
      checkKeys(commit.operations);
      checkKeys(commit.reads);
      return propose(encodeCommit(commit), commit.operations.length);
    },
    recorded: (stamp) => readRecorded((key) => store.get(key), stamp),
    appliedIndex,
    awaitApplied,
  };
}

/** A commit as the command that every replica verifies. */
export function encodeCommit({ reads, lists, operations, request }: Commit): Uint8Array {
  const isPlain = reads.length + lists.length === 0 && request === undefined;
  if (isPlain) return encodeCommand(operations);
  return encodeConditional({
    stamp:
      request === undefined
        ? undefined
        : { ...request.stamp, phase: request.phase, result: request.result },
    reads: reads.map(({ key, value }) => ({ key, fingerprint: fingerprintOf(value) })),
    lists: lists.map(({ prefix, page, children }) => ({
      prefix,
      after: page.after ?? '',
      limit: limitOf(page.limit) ?? 0,
      fingerprint: fingerprintOfList(children),
    })),
    operations,
  });
}

function limitOf(limit: number | undefined): number | undefined {
  return limit !== undefined && limit > 0 ? limit : undefined;
}

/** Sessions are written by the state machine, group by group, and read by nobody else. */
export function checkKeys(named: readonly { readonly key: string }[]): void {
  const found = named.find(({ key }) => isSessionKey(key));
  if (found !== undefined) throw new RangeError(`${found.key} belongs to the state machine`);
}
