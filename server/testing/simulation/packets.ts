/** What travels between whole nodes if not over streams: one frame of the real wire format each. */

import assert from 'node:assert/strict';

import type { Message, NodeId } from '../../raft/message.ts';
import { decodeFrame, encodeMessage } from '../../replica/wire.ts';
import type { Ledger } from './invariants.ts';
import type { Sent } from './network.ts';

export type Packet = {
  readonly frame: Buffer;
  /** The incarnation that received it first. */
  taker: number | undefined;
};

const FRAME_LENGTH_BYTES = 4;
/** Of a record, what its checksum covers beside the command. */
const CHECKSUMMED_HEADER_BYTES = 13;

export function packetOf(message: Message): Packet {
  const frame = Buffer.concat(encodeMessage(message)).subarray(FRAME_LENGTH_BYTES);
  return { frame, taker: undefined };
}

export function messageOf({ packet, from, to }: Sent<Packet>): Message {
  const message = decodeFrame(packet.frame, from, to);
  assert('term' in message, 'a frame is no message');
  return message;
}

/** TLS refuses what is damaged on the way. Entries carry checksums of their own, for the rest. */
export function tryCorrupted(packet: Packet, draw: () => number, ledger: Ledger): void {
  const [from, to]: NodeId[] = ['n1', 'n2'];
  assert(from !== undefined && to !== undefined);
  const message = decodeFrame(packet.frame, from, to);
  const last = message.kind === 'appendEntries' ? message.entries.at(-1) : undefined;
  if (last === undefined) return;
  const damaged = Buffer.from(packet.frame);
  const reach = last.command.length + CHECKSUMMED_HEADER_BYTES;
  const at = damaged.length - 1 - Math.floor(draw() * reach);
  damaged[at] = (damaged[at] ?? 0) ^ (1 << Math.floor(draw() * 8));
  let isRefused = false;
  try {
    decodeFrame(damaged, from, to);
  } catch {
    isRefused = true;
  }
  ledger.check('I3', isRefused, 'a damaged entry was taken for a good one');
}
