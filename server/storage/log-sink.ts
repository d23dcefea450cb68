/**
 * Where the front of the durable log sends its writes: a `LogWriter` in place, or in a thread.
 *
 * The thread sleeps in `Atomics.wait` instead of in an event loop: waking it is cheaper, and it has
 * nothing else to wait for. The counter it waits on is raised after each message, so that a message
 * that arrives while it looks for messages is not slept through.
 */

import assert from 'node:assert/strict';
import { MessageChannel, Worker, receiveMessageOnPort } from 'node:worker_threads';

import type { LogFiles } from './log-files.ts';
import { LogWriter } from './log-writer.ts';
import type { LogWrite, LogWriterOptions } from './log-writer.ts';

export type SinkEvents = {
  /** The oldest `writeCount` writes are durable. */
  onDurable(writeCount: number): void;
  /** Nothing will become durable any more. Repeated calls mean nothing. */
  onFailure(failure: unknown): void;
};

export type LogSink = {
  write(write: LogWrite): void;
  compact(index: number): void;
  /** Resolves when everything is written, or cannot be, and the file is closed. */
  close(): Promise<void>;
};

/** How a log gets its sink: in place, or as a simulation has it. */
export type StartSink = (options: LogWriterOptions, files: LogFiles, events: SinkEvents) => LogSink;

export type SinkRequest =
  | { readonly kind: 'write'; readonly write: LogWrite }
  | { readonly kind: 'compact'; readonly index: number }
  | { readonly kind: 'close' };

/** Errors cross threads as plain data: a clone of an `Error` loses its code. */
export type SinkReply =
  | { readonly kind: 'durable'; readonly writeCount: number }
  | { readonly kind: 'failed'; readonly message: string; readonly fields: object }
  | { readonly kind: 'closed' };

export function startInlineSink(
  options: LogWriterOptions,
  files: LogFiles,
  events: SinkEvents,
): LogSink {
  const writer = new LogWriter(options, files);
  let isDead = false;
  function attempt(action: () => void): void {
    if (isDead) return;
    try {
      action();
    } catch (error) {
      isDead = true;
      events.onFailure(error);
    }
  }
  return {
    write: (write) =>
      attempt(() => {
        writer.write([write]);
        events.onDurable(1);
        writer.mark();
        while (writer.prepareNext());
        while (writer.removeOldest());
      }),
    compact: (index) =>
      attempt(() => {
        writer.compact(index);
        while (writer.removeOldest());
      }),
    close: async () => writer.close(),
  };
}

export function startThreadSink(options: LogWriterOptions, events: SinkEvents): LogSink {
  const signal = new Int32Array(new SharedArrayBuffer(4));
  const { port1: port, port2: threadPort } = new MessageChannel();
  const worker = new Worker(new URL('./log-worker.js', import.meta.url), {
    workerData: { options, signal, port: threadPort },
    transferList: [threadPort],
  });
  const exited = new Promise<void>((resolve) => worker.once('exit', () => resolve()));

  const onReply = (reply: SinkReply): void => {
    switch (reply.kind) {
      case 'durable':
        return events.onDurable(reply.writeCount);
      case 'failed':
        return events.onFailure(Object.assign(new Error(reply.message), reply.fields));
      case 'closed':
        return port.close();
      default:
        return assert.fail(reply satisfies never);
    }
  };
  port.on('message', onReply);
  worker.on('error', events.onFailure.bind(events));
  worker.on('exit', () => {
    // The end of the thread may be heard of before its last words, which say why.
    for (;;) {
      const received = receiveMessageOnPort(port) as { message: SinkReply } | undefined;
      if (received === undefined) break;
      onReply(received.message);
    }
    port.close();
    events.onFailure(new Error('the thread of the log has ended'));
  });

  function send(request: SinkRequest, transfer: ArrayBuffer[]): void {
    port.postMessage(request, transfer);
    Atomics.add(signal, 0, 1);
    Atomics.notify(signal, 0);
  }
  return {
    write(write) {
      const buffer = write.bytes.buffer;
      assert(buffer instanceof ArrayBuffer);
      assert(buffer.byteLength === write.bytes.length, 'a write must own its memory');
      // The hard state is a view into a pool, which a clone would copy as a whole.
      const hardState = new Uint8Array(write.hardState);
      send({ kind: 'write', write: { ...write, hardState } }, [buffer]);
    },
    compact: (index) => send({ kind: 'compact', index }, []),
    async close() {
      send({ kind: 'close' }, []);
      await exited;
    },
  };
}
