import { setImmediate as nextTurn } from 'node:timers/promises';
import { MessageChannel } from 'node:worker_threads';
import { expect, test } from 'vitest';
import type { Entry, SnapshotMetadata } from '../raft/message.ts';
import { systemClock } from './clock.ts';
import type { RaftEvents, RaftHost, RaftStart, RunningRaft } from './raft-host.ts';
import { serveRaft } from './raft-servant.ts';
import type { FromRaft, ToRaft } from './thread-protocol.ts';

const MIB = 1024 * 1024;

/** A servant over a raft that does nothing by itself. */
async function start() {
  const started: RaftEvents[] = [];
  const raft = { status: () => null, applied: () => undefined } as unknown as RunningRaft;
  const host: RaftHost = {
    open: () =>
      Promise.resolve({
        isEmpty: true,
        start: (_start, events) => {
          started.push(events);
          return Promise.resolve(raft);
        },
        close: () => Promise.resolve(),
      }),
  };
  const { port1, port2 } = new MessageChannel();
  serveRaft(port2, host, systemClock);
  const told: FromRaft[] = [];
  port1.on('message', (messages: readonly FromRaft[]) => told.push(...messages));
  const settle = async (): Promise<void> => {
    for (let turns = 0; turns < 8; turns += 1) await nextTurn();
  };
  const tell = async (message: ToRaft): Promise<void> => {
    port1.postMessage([message]);
    await settle();
  };
  await tell({ kind: 'open', request: 1, position: snapshotOf(0) });
  await tell({ kind: 'start', request: 2, start: {} as RaftStart });
  const [events] = started;
  if (events === undefined) throw new Error('raft was not started');
  return { events, told, tell, settle, end: () => port1.close() };
}

function snapshotOf(lastIncludedIndex: number): SnapshotMetadata {
  return { lastIncludedIndex, lastIncludedTerm: 1, configuration: { servers: [] } };
}

function entry(index: number): Entry {
  return { index, term: 1, kind: 'command', command: new Uint8Array(5 * MIB) };
}

const handedOut = (told: readonly FromRaft[]): (string | number)[] =>
  told.flatMap((each): (string | number)[] => {
    if (each.kind === 'install') return ['snapshot'];
    return each.kind === 'entries' ? [each.entries.firstIndex] : [];
  });

test('a snapshot takes the place of the entries that were held back', async () => {
  const { events, told, tell, settle, end } = await start();
  events.applyEntries([entry(1), entry(2), entry(3)]);
  void events.installSnapshot(snapshotOf(10), 'file');
  await settle();
  expect(handedOut(told)).toEqual([1, 'snapshot']);
  await tell({ kind: 'applied', index: 1 });
  expect(handedOut(told)).toEqual([1, 'snapshot']);
  events.applyEntries([entry(11), entry(12)]);
  await settle();
  expect(handedOut(told)).toEqual([1, 'snapshot', 11]);
  await tell({ kind: 'applied', index: 11 });
  expect(handedOut(told)).toEqual([1, 'snapshot', 11, 12]);
  end();
});
