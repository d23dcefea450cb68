/** The thread of a durable log: takes what waits, makes it durable as one batch, says so. */

import assert from 'node:assert/strict';
import { MessagePort, receiveMessageOnPort, workerData } from 'node:worker_threads';

import { systemFiles } from './log-files.ts';
import type { SinkReply, SinkRequest } from './log-sink.ts';
import { LogWriter } from './log-writer.ts';
import type { LogWrite, LogWriterOptions } from './log-writer.ts';

// Bounds how long the first write of a batch waits for the last one.
const BATCH_BYTES_MAX = 1024 * 1024;
const BATCH_WRITES_MAX = 512;
// A mark is overwritten by the next batch, so it waits until none is likely to follow at once.
const MARK_DELAY_MS = 5;

type WorkerInput = {
  readonly options: LogWriterOptions;
  readonly signal: Int32Array<SharedArrayBuffer>;
  readonly port: MessagePort;
};

function run(writer: LogWriter, { signal, port }: WorkerInput): void {
  let isClosing = false;
  let isMarkDue = false;
  while (!isClosing) {
    const seen = Atomics.load(signal, 0);
    const writes: LogWrite[] = [];
    let batchBytes = 0;
    while (batchBytes < BATCH_BYTES_MAX && writes.length < BATCH_WRITES_MAX) {
      const request = receive(port);
      if (request === undefined) break;
      if (request.kind === 'write') {
        writes.push(request.write);
        batchBytes += request.write.bytes.length;
      } else if (request.kind === 'compact') {
        writer.compact(request.index);
      } else {
        isClosing = true;
        break;
      }
    }
    if (writes.length > 0) {
      writer.write(writes);
      send(port, { kind: 'durable', writeCount: writes.length });
      isMarkDue = true;
    }
    // One step of each between two batches, so that many do not delay them all.
    const prepared = writer.prepareNext();
    const removed = writer.removeOldest();
    const isIdle = writes.length === 0 && !prepared && !removed;
    if (!isIdle || isClosing) continue;
    const woken = Atomics.wait(signal, 0, seen, isMarkDue ? MARK_DELAY_MS : Infinity);
    if (woken !== 'timed-out') continue;
    writer.mark();
    isMarkDue = false;
  }
}

function receive(port: MessagePort): SinkRequest | undefined {
  const received = receiveMessageOnPort(port) as { message: SinkRequest } | undefined;
  return received?.message;
}

function send(port: MessagePort, reply: SinkReply): void {
  port.postMessage(reply);
}

const input = workerData as WorkerInput;
assert(input.port instanceof MessagePort);
const writer = new LogWriter(input.options, systemFiles);
try {
  try {
    run(writer, input);
  } finally {
    writer.close();
  }
  send(input.port, { kind: 'closed' });
} catch (error) {
  const failure = error instanceof Error ? error : new Error(String(error));
  // An error's own enumerable fields are those of a system error: code, errno, syscall.
  send(input.port, { kind: 'failed', message: failure.message, fields: { ...failure } });
}
input.port.close();
