/**
 * A message on its way, in the words of both sides. Both are given it, whichever of them sent it:
 * what a server does next depends on what it heard, not on what the other side would have said.
 */

import type { Message } from '../../server/raft/message.ts';
import type { Envelope } from '../../server/testing/simulated-node.ts';
import { fromWire, idOf, toWire, type WireMessage } from './message.ts';
import type { OurSide } from './our-side.ts';

export type Packet = { readonly wire: WireMessage; readonly envelope: Envelope };

/** `theirs`: what etcd's node sent in the same step, of which heartbeats take the context. */
export function ourPacket(envelope: Envelope, theirs: readonly WireMessage[]): Packet {
  const wire = toWire(envelope.message);
  if (wire.kind === 'heartbeat' || wire.kind === 'heartbeatResponse') {
    const context = counterpart(wire, theirs)?.context ?? '';
    return { wire: { ...wire, context }, envelope };
  }
  const { message } = envelope;
  if (message.kind !== 'requestVoteResponse') return { wire, envelope };
  const { committed: _, ...plain } = message;
  return { wire, envelope: { message: plain, state: undefined } };
}

/** Undefined for a snapshot of a state that none of ours had by itself. */
export function etcdPacket(
  wire: WireMessage,
  ours: { readonly side: OurSide; readonly sent: readonly Envelope[]; readonly round: number },
): Packet | undefined {
  switch (wire.kind) {
    case 'appendEntries':
      return { wire, envelope: { message: appendOf(wire, ours.side), state: undefined } };
    case 'installSnapshot':
      return snapshotPacket(wire, ours.side);
    default: {
      const sent = counterpart(
        wire,
        ours.sent.map(({ message }) => ({ ...toWire(message), message })),
      );
      const round = sent !== undefined && 'round' in sent.message ? sent.message.round : ours.round;
      return { wire, envelope: { message: fromWire(wire, round), state: undefined } };
    }
  }
}

/** The last of its kind on the same way. */
function counterpart<T extends WireMessage>(
  wire: WireMessage,
  others: readonly T[],
): T | undefined {
  return others.findLast(({ kind, to }) => kind === wire.kind && to === wire.to);
}

function appendOf(wire: WireMessage, side: OurSide): Message {
  const { index = 0, logTerm = 0, commit = 0, entryTerms = [] } = wire;
  const entries = entryTerms.map((term, offset) => {
    const entry = side.entry(index + 1 + offset, term);
    if (entry === undefined)
      throw new Error(`Cannot find ours of entry ${index + 1 + offset}/${term}`);
    return entry;
  });
  return {
    kind: 'appendEntries',
    from: idOf(wire.from),
    to: idOf(wire.to),
    term: wire.term,
    prevLogIndex: index,
    prevLogTerm: logTerm,
    entries,
    leaderCommit: commit,
  };
}

function snapshotPacket(wire: WireMessage, side: OurSide): Packet | undefined {
  const state = side.stateAt(wire.index ?? 0);
  if (state === undefined || state.term !== wire.logTerm) return undefined;
  const { index, term, configuration } = state;
  const snapshot = { lastIncludedIndex: index, lastIncludedTerm: term, configuration };
  const header = { from: idOf(wire.from), to: idOf(wire.to), term: wire.term };
  return { wire, envelope: { message: { kind: 'installSnapshot', ...header, snapshot }, state } };
}
