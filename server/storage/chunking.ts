/**
 * A command that is too large for one entry travels as several, and takes effect as one:
 *
 *     u8 format = 192 | u32 number | u32 count | a part of the command
 *
 * A leader appends all chunks of a command together, so they follow each other in the log. That is
 * the whole protocol: a sequence counts if it stands in the log complete, without anything in
 * between and in one term. If its leader fell before all of it was committed, an entry of a later
 * term comes before its end, and what there is of it does nothing, on every node alike.
 *
 * Nothing is kept of an unfinished sequence but its entries, which wait in the log's memory: they
 * are applied with their last chunk or with what cuts them off. So no position of the state
 * machine, and no snapshot, lies within a sequence that may still count.
 */

import assert from 'node:assert/strict';

import type { Entry } from '../raft/message.ts';

/** As in OpenBao (hashicorp/go-raftchunking): an append of two such entries is full. */
export const CHUNK_BYTES = 512 * 1024;
/** Beside the formats of `command.ts`. */
const FORMAT = 192;
const HEADER_BYTES = 9;

type Chunk = { readonly number: number; readonly count: number };

/** The commands of the entries that carry `command`: itself, if it is not too large. */
export function splitCommand(command: Uint8Array, chunkBytes = CHUNK_BYTES): readonly Uint8Array[] {
  const count = chunkCount(command, chunkBytes);
  if (count === 1) return [command];
  return Array.from({ length: count }, (_, number) => {
    const part = command.subarray(number * chunkBytes, (number + 1) * chunkBytes);
    const chunk = Buffer.allocUnsafeSlow(HEADER_BYTES + part.length);
    chunk.writeUInt8(FORMAT, 0);
    chunk.writeUInt32LE(number, 1);
    chunk.writeUInt32LE(count, 5);
    chunk.set(part, HEADER_BYTES);
    return chunk;
  });
}

/** How many entries `splitCommand` makes of a command. */
export function chunkCount(command: Uint8Array, chunkBytes = CHUNK_BYTES): number {
  return Math.max(1, Math.ceil(command.length / chunkBytes));
}

/** What is at the beginning of the command that an entry begins; of later chunks it is nothing. */
export function headOf(command: Uint8Array): Uint8Array {
  const chunk = chunkOf(command);
  if (chunk === undefined) return command;
  return chunk.number === 0 ? command.subarray(HEADER_BYTES) : new Uint8Array(0);
}

/** Whether the entry belongs behind the one before it, and must not be applied apart from it. */
export function continuesSequence({ kind, command }: Entry): boolean {
  return kind === 'command' && command[0] === FORMAT && (chunkOf(command)?.number ?? 0) > 0;
}

/** How many of consecutive entries can be applied: all but an unfinished sequence at their end. */
export function applicableCount(entries: readonly Entry[]): number {
  const last = entries.at(-1);
  const chunk = last?.kind === 'command' ? chunkOf(last.command) : undefined;
  if (last === undefined || chunk === undefined) return entries.length;
  const start = entries.length - 1 - chunk.number;
  const isUnfinished = chunk.number + 1 < chunk.count && isSequence(entries, start, last.term);
  return isUnfinished ? start : entries.length;
}

/**
 * What the entry at `position` does: its command, the command that it completes, or undefined if
 * it is a chunk that does nothing by itself, or not a command at all.
 */
export function commandAt(entries: readonly Entry[], position: number): Uint8Array | undefined {
  const entry = entries[position];
  if (entry?.kind !== 'command') return undefined;
  const chunk = chunkOf(entry.command);
  if (chunk === undefined) return entry.command;
  if (chunk.number + 1 < chunk.count) return undefined;
  const start = position - chunk.number;
  const sequence = entries.slice(Math.max(0, start), position + 1);
  if (!isSequence(sequence, Math.min(0, start), entry.term)) return undefined;
  return Buffer.concat(sequence.map(({ command }) => command.subarray(HEADER_BYTES)));
}

/** Whether the entries from `start` on are chunks 0, 1, 2, ... of one command. */
function isSequence(entries: readonly Entry[], start: number, term: number): boolean {
  if (start < 0) return false;
  const { count } = chunkOf(entries.at(-1)?.command ?? new Uint8Array(0)) ?? { count: 0 };
  return entries.slice(start).every((entry, number) => {
    const chunk = entry.kind === 'command' ? chunkOf(entry.command) : undefined;
    return entry.term === term && chunk?.number === number && chunk.count === count;
  });
}

/** Undefined for a whole command. Throws for a chunk that no `splitCommand` made. */
function chunkOf(command: Uint8Array): Chunk | undefined {
  if (command[0] !== FORMAT) return undefined;
  const view = new DataView(command.buffer, command.byteOffset, command.byteLength);
  assert(HEADER_BYTES < command.length, 'Cannot decode chunk: it is empty');
  const [number, count] = [view.getUint32(1, true), view.getUint32(5, true)];
  assert(number < count, 'Cannot decode chunk: its number is beyond their count');
  return { number, count };
}
