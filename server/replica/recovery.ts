/**
 * What a node starts from, given what its disk holds: the log, the store, and perhaps a snapshot
 * file. They are written one after the other, so a crash can leave them apart in one known way:
 *
 *     snapshot file complete -> store replaced -> log reset -> snapshot file removed
 *                                             ^
 *                                  the store stands where the log does not reach
 *
 * The snapshot file of exactly that position says that the reset is only missing. Without it, what
 * the log had promised is gone, and a node that has lost promises must not vote: starting fails.
 */

import type { Entry, HardState, SnapshotMetadata } from '../raft/message.ts';
import type { OpenedLog } from '../storage/durable-log.ts';

export type Recovery = {
  readonly hardState: HardState;
  readonly snapshot: SnapshotMetadata;
  readonly entries: readonly Entry[];
  /** To be written to the log before anything else. */
  readonly reset: { readonly index: number; readonly term: number } | undefined;
};

/** Throws if log and store cannot belong together. */
export function recover(
  recovered: OpenedLog['recovered'],
  position: SnapshotMetadata,
  snapshotFiles: readonly { readonly index: number; readonly term: number }[],
): Recovery {
  const { lastIncludedIndex: index, lastIncludedTerm: term, configuration } = position;
  const { hardState, snapshot, entries } = recovered;
  const termInLog =
    index === snapshot.index ? snapshot.term : entries[index - snapshot.index - 1]?.term;
  if (termInLog === term) {
    const start = { lastIncludedIndex: snapshot.index, lastIncludedTerm: snapshot.term };
    return { hardState, snapshot: { ...start, configuration }, entries, reset: undefined };
  }
  const isInstalling = snapshotFiles.some((file) => file.index === index && file.term === term);
  if (!isInstalling) {
    const last = snapshot.index + entries.length;
    throw new Error(
      `the raft log holds ${snapshot.index + 1} to ${last}, but the store stands at ${index} ` +
        `of term ${term}: acknowledged data was lost; remove the node and join it anew`,
    );
  }
  return {
    hardState: {
      // No vote of a later term can have left this node: its hard state would have been durable.
      currentTerm: Math.max(hardState.currentTerm, term),
      votedFor: hardState.currentTerm < term ? null : hardState.votedFor,
      commitIndex: Math.max(hardState.commitIndex, index),
    },
    snapshot: position,
    entries: [],
    reset: { index, term },
  };
}
