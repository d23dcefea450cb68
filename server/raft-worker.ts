/**
 * The thread of raft: cluster port, peers, log and the raft core. `raft-thread.ts` starts it and
 * says what the messages mean that wire it up.
 *
 * What is not caught in here ends the thread, and with it the node.
 */

import assert from 'node:assert/strict';
import { MessagePort, parentPort, workerData } from 'node:worker_threads';

import { createClusterNetwork } from './cluster/listener.ts';
import { serveNetwork } from './cluster/network-servant.ts';
import { measureEventLoopDelay } from './event-loop-delay.ts';
import type { RaftThreadInput, RaftThreadReport, RaftThreadSetUp } from './raft-thread.ts';
import { systemClock } from './replica/clock.ts';
import { createInlineRaft } from './replica/inline-raft.ts';
import { serveRaft } from './replica/raft-servant.ts';
import { logStorage } from './replica/replica-storage.ts';

const DELAY_REPORT_MS = 1_000;

const { host, port, networkPort } = workerData as RaftThreadInput;
assert(parentPort !== null);
assert(networkPort instanceof MessagePort);
const parent = parentPort;
const report = (message: RaftThreadReport): void => parent.postMessage(message);

const logger = {
  info: (fields: object, event: string) => report({ kind: 'log', level: 'info', fields, event }),
  warn: (fields: object, event: string) => report({ kind: 'log', level: 'warn', fields, event }),
  error: (fields: object, event: string) => report({ kind: 'log', level: 'error', fields, event }),
};
const network = createClusterNetwork({ host, port, logger });
serveNetwork(networkPort, network);

parent.once('message', ({ nodeId, log, settings, raftPort }: RaftThreadSetUp) => {
  const storage = logStorage(log);
  const shared = { clock: systemClock, random: Math.random, nodeId, settings, logger };
  serveRaft(raftPort, createInlineRaft({ ...shared, storage, network }), systemClock);
});

const delay = measureEventLoopDelay();
setInterval(() => report({ kind: 'delay', delay: delay() }), DELAY_REPORT_MS);
