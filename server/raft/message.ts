/**
 * The vocabulary of the consensus core: entries, configurations, messages, and what one step asks
 * the outside world to do. Names are the Raft paper's (§5, figure 2); what the paper leaves out
 * (pre-vote, leadership transfer, learners) follows the thesis (§9.6, §3.10, §4.2.1).
 *
 * Plain data only. Messages are encoded by `server/replica`, entries by `server/storage`.
 */

/**
 * A server's name. It may be given anew, to another disk; then `Server.instance` tells the two apart,
 * and whoever carries messages sees to it that nobody takes the one for the other.
 */
export type NodeId = string;

/** `command` is opaque, except that a `configuration` entry holds an encoded `Configuration`. */
export type Entry = {
  readonly index: number;
  readonly term: number;
  readonly kind: 'command' | 'noop' | 'configuration';
  readonly command: Uint8Array;
};

export type Server = {
  readonly id: NodeId;
  /** `host:port` of the cluster listener. The core passes it through and never reads it. */
  readonly address: string;
  /**
   * Which disk it is that keeps what this server promises: random, made with the disk. The core
   * passes it through. Unknown for a server that was added before there were any.
   */
  readonly instance?: string;
  /** `leaving` only in a joint configuration: a voter of its outgoing half and nothing more. */
  readonly suffrage: 'voter' | 'learner' | 'leaving';
};

/**
 * Everyone who is sent the log. In a joint configuration (thesis §4.3) `suffrage` speaks of the
 * incoming half, and a decision needs a majority of each half. A voter that becomes a learner is
 * a `learner` of `votersOutgoing` until then (etcd-io/raft keeps a list of those, `LearnersNext`).
 */
export type Configuration = {
  readonly servers: readonly Server[];
  readonly joint?: {
    readonly votersOutgoing: readonly NodeId[];
    /** The leader proposes to leave as soon as it has applied the joint configuration. */
    readonly autoLeave: boolean;
  };
};

/** What must be durable before a message that reveals it leaves the node (Raft §5, figure 2). */
export type HardState = {
  readonly currentTerm: number;
  readonly votedFor: NodeId | null;
  /** A hint that saves replay time after a restart; its loss is harmless. */
  readonly commitIndex: number;
};

export type SnapshotMetadata = {
  readonly lastIncludedIndex: number;
  readonly lastIncludedTerm: number;
  readonly configuration: Configuration;
};

type Addressed = { readonly from: NodeId; readonly to: NodeId; readonly term: number };

export type RequestVote = Addressed & {
  readonly kind: 'requestVote';
  /** A pre-vote asks without raising any term (thesis §9.6); `term` is then the term to come. */
  readonly isPreVote: boolean;
  readonly lastLogIndex: number;
  readonly lastLogTerm: number;
  /** Set by a leadership transfer: voters answer in spite of a live leader (thesis §4.2.3). */
  readonly isTransfer: boolean;
};

export type RequestVoteResponse = Addressed & {
  readonly kind: 'requestVoteResponse';
  readonly isPreVote: boolean;
  readonly voteGranted: boolean;
  /**
   * With a refusal: an entry that the voter knows to be committed. A candidate that holds it too
   * learns that it is committed, and with it the configuration it may have missed: without that,
   * the vote of a server removed since then could be needed and never be won.
   */
  readonly committed?: { readonly index: number; readonly term: number };
};

export type AppendEntries = Addressed & {
  readonly kind: 'appendEntries';
  readonly prevLogIndex: number;
  readonly prevLogTerm: number;
  readonly entries: readonly Entry[];
  readonly leaderCommit: number;
};

export type AppendEntriesResponse = Addressed & {
  readonly kind: 'appendEntriesResponse';
  readonly success: boolean;
  /** On success: the last index that is durable here and equal to the leader's log. */
  readonly matchIndex: number;
  /** On refusal: the `prevLogIndex` refused, and where this log could agree at the latest. */
  readonly rejectedIndex: number;
  readonly hintIndex: number;
  readonly hintTerm: number;
  /** The sender's applied index: lag, seen from the leader. */
  readonly appliedIndex: number;
};

/** Liveness, and the commit index as far as the follower is known to hold the log. */
export type Heartbeat = Addressed & {
  readonly kind: 'heartbeat';
  readonly leaderCommit: number;
  /** Heartbeats are numbered within a term; all that leave together have the same number. */
  readonly round: number;
  /**
   * When the receiver's answer to this round arrived, `freshIndex` was committed and the sender
   * still led, as a quorum has shown since. 0 and 0: nothing to tell.
   */
  readonly freshRound: number;
  readonly freshIndex: number;
};

export type HeartbeatResponse = Addressed & {
  readonly kind: 'heartbeatResponse';
  readonly appliedIndex: number;
  /** Of the heartbeat that this answers. */
  readonly round: number;
};

/** Asks the leader for a read index (thesis §6.4). No id is ever used twice by a server. */
export type ReadIndexRequest = Addressed & { readonly kind: 'readIndex'; readonly id: number };

export type ReadIndexResponse = Addressed & {
  readonly kind: 'readIndexResponse';
  readonly id: number;
  /** Without success the question must be asked again; `index` is then 0. */
  readonly success: boolean;
  readonly index: number;
};

/**
 * Announces a snapshot. The core emits it with the metadata of what it knows to be applied; the
 * driver replaces that by the metadata of the state it really streams (never older), and hands
 * it to the receiving core only when every byte is there.
 */
export type InstallSnapshot = Addressed & {
  readonly kind: 'installSnapshot';
  readonly snapshot: SnapshotMetadata;
};

/** Tells the target of a leadership transfer to campaign at once (thesis §3.10). */
export type TimeoutNow = Addressed & { readonly kind: 'timeoutNow' };

export type Message =
  | RequestVote
  | RequestVoteResponse
  | AppendEntries
  | AppendEntriesResponse
  | Heartbeat
  | HeartbeatResponse
  | InstallSnapshot
  | TimeoutNow
  | ReadIndexRequest
  | ReadIndexResponse;

/** The end of one `readIndex(id)`: everything acknowledged before it lies at or below `index`. */
export type ReadState =
  | { readonly kind: 'confirmed'; readonly id: number; readonly index: number }
  /** Term or leader changed, or there is no leader. */
  | { readonly kind: 'failed'; readonly id: number };

/** A state that has applied `index` holds everything that was acknowledged before `asOfMs`. */
export type Freshness = { readonly asOfMs: number; readonly index: number };

export type Role = 'follower' | 'preCandidate' | 'candidate' | 'leader';

/**
 * What a node must do next. Everything in it belongs together:
 *
 * - `hardState`, `snapshot` and `entries` go to durable storage in this order, as one write. When
 *   all of it is durable, the driver calls `storageAppendDone(appendToken)`. Writes are handed out
 *   and reported in the same order. `entries[0].index` may lie below what earlier writes held:
 *   everything from there on is replaced.
 * - `messages` may leave at once, in parallel with that write.
 * - `messagesAfterAppend` may leave only when it is durable: they grant a vote, or claim a match.
 * - `committedEntries` are applied in order; the driver then calls `storageApplied(index)`. They
 *   are always durable on this node.
 */
export type Ready = {
  /** Non-zero exactly if `hardState`, `snapshot`, `entries` or `messagesAfterAppend` is present. */
  readonly appendToken: number;
  readonly hardState: HardState | undefined;
  readonly snapshot: SnapshotMetadata | undefined;
  readonly entries: readonly Entry[];
  readonly messages: readonly Message[];
  readonly messagesAfterAppend: readonly Message[];
  readonly committedEntries: readonly Entry[];
  readonly readStates: readonly ReadState[];
};
