/**
 * Starts the thread of raft (`raft-worker.ts`) and connects to it: one port for raft, one for the
 * cluster network, and the thread's own for what it logs.
 *
 * Without the thread there is no node. When it ends, for whatever reason, everybody who waits for
 * it hears so, and the process is told to end.
 */

import { MessageChannel, Worker } from 'node:worker_threads';
import type { MessagePort } from 'node:worker_threads';

import { createRelayedNetwork } from './cluster/relayed-network.ts';
import type { EventLoopDelay } from './event-loop-delay.ts';
import type { NodeLogger } from './node-logger.ts';
import type { RaftPlace } from './raft-place.ts';
import { createThreadedRaft } from './replica/threaded-raft.ts';
import type { ThreadedRaft } from './replica/threaded-raft.ts';
import type { LogStorageOptions } from './replica/replica-storage.ts';
import type { ReplicaSettings } from './replica/settings.ts';

export type RaftThreadOptions = {
  readonly host: string;
  readonly port: number;
  readonly logger: NodeLogger;
  /** The thread has ended by itself. */
  onFatal(error: unknown): void;
};

export type RaftThreadInput = {
  readonly host: string;
  readonly port: number;
  readonly networkPort: MessagePort;
};

/** Sent once, when it is known which node this is. */
export type RaftThreadSetUp = {
  readonly nodeId: string;
  readonly log: LogStorageOptions;
  readonly settings: ReplicaSettings;
  readonly raftPort: MessagePort;
};

export type RaftThreadReport =
  | {
      readonly kind: 'log';
      readonly level: 'info' | 'warn' | 'error';
      readonly fields: object;
      readonly event: string;
    }
  | { readonly kind: 'delay'; readonly delay: EventLoopDelay };

export function startRaftThread({ host, port, logger, onFatal }: RaftThreadOptions): RaftPlace {
  const { port1: networkPort, port2: threadNetworkPort } = new MessageChannel();
  const input: RaftThreadInput = { host, port, networkPort: threadNetworkPort };
  const worker = new Worker(new URL('./raft-worker.js', import.meta.url), {
    workerData: input,
    transferList: [threadNetworkPort],
  });
  const network = createRelayedNetwork(networkPort);
  let raft: ThreadedRaft | undefined;
  let delay: EventLoopDelay | undefined;
  let isOver = false;

  const fail = (error: Error): void => {
    if (isOver) return;
    isOver = true;
    logger.error({ reason: error.message }, 'raft thread ended');
    network.fail(error);
    raft?.fail(error);
    onFatal(error);
  };
  worker.on('error', fail);
  worker.on('exit', (code) => fail(new Error(`the thread of raft ended with code ${code}`)));
  worker.on('message', (report: RaftThreadReport) => {
    if (report.kind === 'delay') delay = report.delay;
    else logger[report.level](report.fields, report.event);
  });
  return {
    network,
    raft: ({ clock, nodeId, settings, storage }) => {
      const { port1: mainPort, port2: raftPort } = new MessageChannel();
      const setUp: RaftThreadSetUp = { nodeId, log: storage.logOptions, settings, raftPort };
      worker.postMessage(setUp, [raftPort]);
      raft = createThreadedRaft(mainPort, {
        clock,
        unansweredBytesMax: settings.uncommittedBytesMax,
      });
      return raft;
    },
    eventLoopDelay: () => delay,
    close: async () => {
      isOver = true;
      await worker.terminate();
    },
  };
}
