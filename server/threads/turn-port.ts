/**
 * One end of a connection between two threads. What is posted within a turn travels as one message:
 * crossing costs some twenty microseconds, whatever is in it.
 */

import type { MessagePort } from 'node:worker_threads';

export type TurnPort<Sent> = {
  /** What `transfer` names belongs to the other side afterwards; it must own its memory. */
  post(message: Sent, transfer?: readonly ArrayBuffer[]): void;
  close(): void;
};

/** `defer` says when a turn ends: it runs its argument once, later. */
export function openTurnPort<Sent, Received>(
  port: MessagePort,
  defer: (flush: () => void) => void,
  receive: (message: Received) => void,
): TurnPort<Sent> {
  let pending: Sent[] = [];
  let transfers: ArrayBuffer[] = [];
  let isClosed = false;
  const flush = (): void => {
    const messages = pending;
    const transferred = transfers;
    pending = [];
    transfers = [];
    if (!isClosed) port.postMessage(messages, transferred);
  };
  port.on('message', (messages: readonly Received[]) => {
    for (const message of messages) if (!isClosed) receive(message);
  });
  return {
    post: (message, transfer = []) => {
      if (pending.length === 0) defer(flush);
      pending.push(message);
      transfers.push(...transfer);
    },
    close: () => {
      isClosed = true;
      port.close();
    },
  };
}
