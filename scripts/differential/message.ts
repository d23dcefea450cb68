/**
 * One vocabulary for the messages of both implementations, with servers as numbers. Entries are
 * named by term and position alone: each side keeps the entries of its own (`etcd/wire.go`).
 *
 * What only one side has: a heartbeat's round is ours and its `context` etcd's, so each message
 * keeps its original beside this form (`packet.ts`); our `committed` of a refused vote and our
 * term of a hint have no counterpart.
 */

import type { Message, NodeId, Server } from '../../server/raft/message.ts';

export type WireMessage = {
  readonly kind: Message['kind'];
  readonly from: number;
  readonly to: number;
  readonly term: number;
  readonly isPreVote?: boolean;
  readonly isTransfer?: boolean;
  readonly granted?: boolean;
  /** Of the last entry, the previous one, the one matched or refused, the snapshot's, or a read's. */
  readonly index?: number;
  readonly logTerm?: number;
  readonly entryTerms?: readonly number[];
  readonly commit?: number;
  readonly refused?: boolean;
  readonly hint?: number;
  /** Of a read or, at etcd, of the heartbeat that confirms one. */
  readonly context?: string;
  readonly appliedIndex?: number;
};

export function numberOf(id: NodeId): number {
  return Number(id.slice(1));
}

export function idOf(number: number): NodeId {
  return `n${number}`;
}

export function serverOf(number: number, suffrage: Server['suffrage']): Server {
  return { id: idOf(number), address: '', suffrage };
}

export function toWire(message: Message): WireMessage {
  const { kind, from, to, term } = message;
  const header = { kind, from: numberOf(from), to: numberOf(to), term };
  switch (message.kind) {
    case 'requestVote': {
      const { isPreVote, isTransfer, lastLogIndex: index, lastLogTerm: logTerm } = message;
      return { ...header, isPreVote, isTransfer, index, logTerm };
    }
    case 'requestVoteResponse':
      return { ...header, isPreVote: message.isPreVote, granted: message.voteGranted };
    case 'appendEntries': {
      const { prevLogIndex: index, prevLogTerm: logTerm, leaderCommit: commit } = message;
      return { ...header, index, logTerm, commit, entryTerms: message.entries.map((e) => e.term) };
    }
    case 'appendEntriesResponse': {
      const { appliedIndex, matchIndex, rejectedIndex, hintIndex } = message;
      if (message.success) return { ...header, appliedIndex, index: matchIndex };
      // Without an index it speaks of its term alone.
      if (rejectedIndex === 0) return { ...header, appliedIndex, index: 0 };
      return { ...header, appliedIndex, refused: true, index: rejectedIndex, hint: hintIndex };
    }
    case 'heartbeat':
      return { ...header, commit: message.leaderCommit };
    case 'heartbeatResponse':
      return { ...header, appliedIndex: message.appliedIndex };
    case 'installSnapshot': {
      const { lastIncludedIndex: index, lastIncludedTerm: logTerm } = message.snapshot;
      return { ...header, index, logTerm };
    }
    case 'timeoutNow':
      return header;
    case 'readIndex':
      return { ...header, context: String(message.id) };
    case 'readIndexResponse':
      return { ...header, context: String(message.id), index: message.index };
  }
}

/** Messages that carry entries or states are made in `packet.ts`, which has these. */
export function fromWire(
  wire: WireMessage,
  round: number,
): Exclude<Message, { kind: 'appendEntries' | 'installSnapshot' }> {
  const { term, index = 0, appliedIndex = 0 } = wire;
  const header = { from: idOf(wire.from), to: idOf(wire.to), term };
  const { isPreVote = false, isTransfer = false } = wire;
  switch (wire.kind) {
    case 'requestVote': {
      const last = { lastLogIndex: index, lastLogTerm: wire.logTerm ?? 0 };
      return { kind: 'requestVote', ...header, isPreVote, isTransfer, ...last };
    }
    case 'requestVoteResponse':
      return {
        kind: 'requestVoteResponse',
        ...header,
        isPreVote,
        voteGranted: wire.granted === true,
      };
    case 'appendEntriesResponse':
      return {
        kind: 'appendEntriesResponse',
        ...header,
        success: wire.refused !== true && index > 0,
        matchIndex: wire.refused === true ? 0 : index,
        rejectedIndex: wire.refused === true ? index : 0,
        hintIndex: wire.hint ?? 0,
        // The release has no term to skip by: any.
        hintTerm: Number.MAX_SAFE_INTEGER,
        appliedIndex,
      };
    case 'heartbeat': {
      const stale = { freshRound: 0, freshIndex: 0 };
      return { kind: 'heartbeat', ...header, leaderCommit: wire.commit ?? 0, round, ...stale };
    }
    case 'heartbeatResponse':
      return { kind: 'heartbeatResponse', ...header, appliedIndex, round };
    case 'timeoutNow':
      return { kind: 'timeoutNow', ...header };
    case 'readIndex':
      return { kind: 'readIndex', ...header, id: Number(wire.context) };
    case 'readIndexResponse': {
      return {
        kind: 'readIndexResponse',
        ...header,
        id: Number(wire.context),
        success: true,
        index,
      };
    }
    case 'appendEntries':
    case 'installSnapshot':
      throw new Error(`Cannot make ${wire.kind} of what travels alone`);
  }
}
