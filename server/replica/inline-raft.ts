/** Raft in the thread of its caller: every port is a direct call. */

import { rm } from 'node:fs/promises';
import type { Socket } from 'node:net';
import type { SnapshotMetadata } from '../raft/message.ts';
import type { DurableLog } from '../storage/durable-log.ts';
import type { OpenedRaft, RaftEvents, RaftHost, RaftStart } from './raft-host.ts';
import { recover } from './recovery.ts';
import type { Recovery } from './recovery.ts';
import type { LogStorage } from './replica-storage.ts';
import { Session } from './session.ts';
import type { SessionOptions } from './session.ts';
import { systemFileOperations } from './file-operations.ts';
import { findSnapshotFiles } from './snapshot-files.ts';
import type { PeerNetwork } from './transport.ts';

export type RaftNetwork = PeerNetwork & {
  /** One handler for the life of the process. */
  onConnection(protocol: 'bao-raft/1', handler: (socket: Socket) => void): void;
};

export type InlineRaftOptions = Pick<
  SessionOptions,
  'clock' | 'random' | 'nodeId' | 'settings' | 'logger'
> & {
  readonly storage: LogStorage;
  readonly network: RaftNetwork;
};

export function createInlineRaft(options: InlineRaftOptions): RaftHost {
  const { storage, network } = options;
  let session: Session | undefined;
  network.onConnection('bao-raft/1', (socket) => {
    if (session === undefined) socket.destroy();
    else session.accept(socket);
  });

  const start = async (
    opened: OpenedFiles,
    { founding, ...place }: RaftStart,
    events: RaftEvents,
  ): Promise<Session> => {
    const { snapshotDirectory } = storage;
    const recovery = await found(opened, founding);
    session = new Session(
      { ...options, ...place, ...opened, instance: storage.instance, snapshotDirectory, recovery },
      { ...events, onStop: () => (session = undefined) },
    );
    return session;
  };

  return {
    open: async (position): Promise<OpenedRaft> => {
      const opened = await openFiles(storage, position);
      const { hardState, entries } = opened.recovery;
      return {
        isEmpty: hardState.currentTerm === 0 && entries.length === 0,
        start: (place, events) => start(opened, place, events),
        close: () => opened.log.close(),
      };
    },
  };
}

type OpenedFiles = { readonly log: DurableLog; readonly recovery: Recovery };

async function openFiles(
  { openLog, snapshotDirectory }: LogStorage,
  position: SnapshotMetadata,
): Promise<OpenedFiles> {
  const { log, recovered } = await openLog();
  try {
    const files = await findSnapshotFiles(systemFileOperations, snapshotDirectory);
    const recovery = recover(recovered, position, files);
    const { reset, hardState } = recovery;
    if (reset !== undefined) await log.append({ hardState, reset, entries: [] });
    for (const { file } of files) await rm(file, { force: true });
    return { log, recovery };
  } catch (error) {
    await log.close();
    throw error;
  }
}

async function found(
  { log, recovery }: OpenedFiles,
  founding: RaftStart['founding'],
): Promise<Recovery> {
  if (founding.length === 0) return recovery;
  const hardState = { currentTerm: 1, votedFor: null, commitIndex: founding.length };
  try {
    await log.append({ hardState, entries: founding });
  } catch (error) {
    await log.close();
    throw error;
  }
  return { ...recovery, hardState, entries: founding };
}
