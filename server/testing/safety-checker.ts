/**
 * The safety of Raft, checked from outside after every event of a simulation (Raft figure 3, and
 * what asynchronous writes add to it). It sees messages, disks and statuses, never the inside of a
 * core.
 */

import assert from 'node:assert/strict';

import type { Entry, HardState, Message, NodeId, Ready } from '../raft/message.ts';
import type { RaftStatus } from '../raft/raft.ts';
import { chainDigest, type SimulatedNode } from './simulated-node.ts';

/** Terms stay far below this in any simulation, so that an entry has one number for a key. */
const TERMS_MAX = 1_000_000;

type Watermark = {
  term: number;
  commitIndex: number;
  appliedIndex: number;
  hardState: HardState;
  /** While it leads: the term, and the end of its log. */
  ledTerm: number;
  ledLastIndex: number;
};

/**
 * Invariants it checks:
 * - Election safety: a term has one leader, and a server votes for one in it, crashes included.
 * - Leader append-only: a leader never replaces an entry.
 * - Log matching: an index and a term name one command and one predecessor, everywhere.
 * - Leader completeness: a leader holds everything that was committed in earlier terms. (One that
 *   took long to hear of its votes may be elected when later terms have committed more.)
 * - State machine safety: every server applies the same entries, each once and in order.
 * - An entry is committed by a leader, when a majority of voters holds it on disk, and with it
 *   one of the leader's own term.
 * - In every log, all configurations but the last are committed.
 * - What a message claims of its sender's term, vote and log is on that sender's disk.
 * - What a core calls durable is on its disk.
 * - Term, commit and applied index never go back while a server runs; a durable term never goes
 *   back at all, and a durable vote never changes within its term.
 */
export class SafetyChecker {
  readonly #nodes: ReadonlyMap<NodeId, SimulatedNode>;
  readonly #committed: Entry[] = [];
  /** `#commitTerms[i]` is the term of the leader that committed entry `i + 1`; it ascends. */
  readonly #commitTerms: number[] = [];
  /** `#digests[i]` is that of a state machine that has applied `i` entries. */
  readonly #digests: number[] = [0];
  readonly #leaders = new Map<number, NodeId>();
  readonly #votes = new Map<string, NodeId>();
  readonly #entries = new Map<number, { readonly entry: Entry; readonly previousTerm: number }>();
  readonly #watermarks = new Map<NodeId, Watermark>();
  electionCount = 0;

  constructor(nodes: ReadonlyMap<NodeId, SimulatedNode>) {
    this.#nodes = nodes;
  }

  get committedIndex(): number {
    return this.#committed.length;
  }

  digestAt(index: number): number {
    const digest = this.#digests[index];
    assert(digest !== undefined, 'the digest of what is not committed');
    return digest;
  }

  /** A server begins to run, on what its disk holds. */
  onStart(node: SimulatedNode): void {
    const before = this.#watermarks.get(node.id);
    if (before !== undefined) assertNoRegress(before.hardState, node.hardState);
    this.#watermarks.set(node.id, {
      term: node.hardState.currentTerm,
      commitIndex: 0,
      appliedIndex: before?.appliedIndex ?? 0,
      hardState: node.hardState,
      ledTerm: 0,
      ledLastIndex: 0,
    });
    this.onChange(node);
  }

  onReady(node: SimulatedNode, ready: Ready): void {
    const watermark = this.#watermark(node);
    const first = ready.entries[0];
    if (first !== undefined && watermark.ledTerm === node.raft.status().currentTerm) {
      assert(watermark.ledLastIndex < first.index, 'a leader replaced an entry');
    }
    for (const entry of ready.entries) {
      const previousTerm = node.view.termAt(entry.index - 1);
      assert(previousTerm !== undefined);
      this.#register(entry, previousTerm);
      if (entry.kind === 'configuration') this.#checkEarlierConfigurations(node, entry);
    }
  }

  #checkEarlierConfigurations(node: SimulatedNode, last: Entry): void {
    for (const entry of node.view.entries) {
      if (entry.kind !== 'configuration' || last.index <= entry.index) continue;
      assert(entry.index <= this.committedIndex, 'two configurations wait to be committed');
    }
  }

  #register(entry: Entry, previousTerm: number): void {
    const key = entry.index * TERMS_MAX + entry.term;
    const known = this.#entries.get(key);
    if (known === undefined) {
      this.#entries.set(key, { entry, previousTerm });
      return;
    }
    assert(known.previousTerm === previousTerm, 'equal entries follow unequal ones');
    assertSameEntry(known.entry, entry);
  }

  /** A message leaves its sender. */
  onSend(node: SimulatedNode, message: Message): void {
    assert(message.from === node.id);
    const { currentTerm, votedFor } = node.hardState;
    switch (message.kind) {
      case 'appendEntries': {
        this.#checkLeader(message.term, message.from);
        let previousTerm = message.prevLogTerm;
        for (const entry of message.entries) {
          this.#register(entry, previousTerm);
          previousTerm = entry.term;
        }
        return;
      }
      case 'heartbeat':
      case 'installSnapshot':
      case 'timeoutNow':
        this.#checkLeader(message.term, message.from);
        return;
      case 'requestVote':
        if (message.isPreVote) return;
        assert(message.term <= currentTerm, 'votes are requested in a term that is not durable');
        this.#checkVote(node.id, message.term, node.id);
        return;
      case 'requestVoteResponse':
        if (message.isPreVote || !message.voteGranted) return;
        assert(message.term <= currentTerm, 'a vote was told that is not durable');
        if (message.term === currentTerm)
          assert(votedFor === message.to, 'another vote is durable');
        this.#checkVote(node.id, message.term, message.to);
        return;
      case 'appendEntriesResponse':
        if (!message.success) return;
        assert(message.term <= currentTerm, 'a match was told in a term that is not durable');
        if (message.term < currentTerm) return;
        assert(message.matchIndex <= node.disk.lastIndex, 'a match was told that is not durable');
        return;
      case 'heartbeatResponse':
        return;
    }
  }

  #checkLeader(term: number, id: NodeId): void {
    const leader = this.#leaders.get(term);
    if (leader === undefined) this.#leaders.set(term, id);
    else assert.equal(id, leader, `two leaders in term ${term}`);
  }

  #checkVote(voter: NodeId, term: number, candidate: NodeId): void {
    const key = `${voter}:${term}`;
    const vote = this.#votes.get(key);
    if (vote === undefined) this.#votes.set(key, candidate);
    else assert.equal(candidate, vote, `${voter} votes twice in term ${term}`);
  }

  onDiskChange(node: SimulatedNode): void {
    const watermark = this.#watermark(node);
    assertNoRegress(watermark.hardState, node.hardState);
    watermark.hardState = node.hardState;
  }

  onApply(node: SimulatedNode, applied: readonly Entry[]): void {
    for (const entry of applied) {
      const committed = this.#committed[entry.index - 1];
      assert(committed !== undefined, 'applied before it was committed');
      assertSameEntry(committed, entry);
    }
    const { index, digest } = node.state;
    assert(digest === this.digestAt(index), 'state machines differ');
  }

  /** To be called after every event, when the core's output has been taken. */
  onChange(node: SimulatedNode): void {
    const status = node.raft.status();
    const watermark = this.#watermark(node);
    assert(watermark.term <= status.currentTerm, 'the term went back');
    assert(watermark.commitIndex <= status.commitIndex, 'the commit index went back');
    assert(watermark.appliedIndex <= status.appliedIndex, 'the applied index went back');
    assert(status.appliedIndex <= status.commitIndex);
    assert(status.commitIndex <= status.lastIndex);
    assert(status.lastIndex === node.view.lastIndex, 'the driver was not handed the whole log');
    this.#checkDurable(node, status.durableIndex);

    if (status.role === 'leader' && watermark.ledTerm !== status.currentTerm) {
      this.#onElected(node, status.currentTerm);
    }
    for (const [, row] of status.progress) assert(row.matchIndex < row.nextIndex);

    // A removed leader may commit and step down on the same message.
    const isLeader = status.role === 'leader' || watermark.ledTerm === status.currentTerm;
    this.#checkCommitted(node, { before: watermark.commitIndex, status, isLeader });
    watermark.ledTerm = status.role === 'leader' ? status.currentTerm : 0;
    watermark.ledLastIndex = status.lastIndex;
    watermark.term = status.currentTerm;
    watermark.commitIndex = status.commitIndex;
    watermark.appliedIndex = status.appliedIndex;
  }

  #checkDurable(node: SimulatedNode, durableIndex: number): void {
    if (durableIndex < node.view.index || durableIndex < node.disk.index) return;
    assert(
      node.disk.termAt(durableIndex) === node.view.termAt(durableIndex),
      'what is called durable is not on disk',
    );
  }

  #onElected(node: SimulatedNode, term: number): void {
    this.#checkLeader(term, node.id);
    this.electionCount += 1;
    for (let index = Math.max(1, node.view.index); index <= this.committedIndex; index += 1) {
      const commitTerm = this.#commitTerms[index - 1];
      if (commitTerm === undefined || term <= commitTerm) return;
      const held = node.view.termAt(index);
      assert(held === this.#committed[index - 1]?.term, 'a new leader lacks a committed entry');
    }
  }

  #checkCommitted(
    { view }: SimulatedNode,
    seen: { readonly before: number; readonly status: RaftStatus; readonly isLeader: boolean },
  ): void {
    const { before, status, isLeader } = seen;
    if (view.index > 0 && before < view.index) {
      assert(view.term === this.#committed[view.index - 1]?.term, 'a log begins on another entry');
    }
    for (let index = Math.max(before, view.index) + 1; index <= status.commitIndex; index += 1) {
      const entry = view.entryAt(index);
      assert(entry !== undefined);
      const committed = this.#committed[index - 1];
      if (committed !== undefined) {
        assertSameEntry(committed, entry);
        continue;
      }
      assert(isLeader, 'committed by a server that does not lead');
      const lastTerm = view.termAt(status.commitIndex);
      assert(lastTerm === status.currentTerm, 'committed by counting an earlier term');
      this.#commit(entry, status);
    }
  }

  #commit(entry: Entry, status: RaftStatus): void {
    const voters = status.configuration.servers.filter((server) => server.suffrage === 'voter');
    const holders = voters.filter(({ id }) => {
      const disk = this.#nodes.get(id)?.disk;
      assert(disk !== undefined);
      return entry.index <= disk.index || disk.termAt(entry.index) === entry.term;
    });
    assert(voters.length < 2 * holders.length, 'committed without a majority of disks');
    this.#committed.push(entry);
    this.#commitTerms.push(status.currentTerm);
    assert((this.#commitTerms.at(-2) ?? 0) <= status.currentTerm, 'an old leader commits');
    const digest = this.#digests.at(-1);
    assert(digest !== undefined);
    this.#digests.push(chainDigest(digest, entry));
  }

  #watermark(node: SimulatedNode): Watermark {
    const watermark = this.#watermarks.get(node.id);
    assert(watermark !== undefined, `${node.id} was never started`);
    return watermark;
  }
}

function assertSameEntry(left: Entry, right: Entry): void {
  assert(left.index === right.index);
  assert(left.term === right.term, 'another entry is committed');
  assert(left.kind === right.kind, 'equal entries are of unequal kinds');
  assert(
    left.command === right.command || Buffer.compare(left.command, right.command) === 0,
    'equal entries have unequal commands',
  );
}

function assertNoRegress(before: HardState, after: HardState): void {
  assert(before.currentTerm <= after.currentTerm, 'a durable term went back');
  if (before.currentTerm === after.currentTerm && before.votedFor !== null) {
    assert(before.votedFor === after.votedFor, 'a durable vote changed');
  }
  assert(before.commitIndex <= after.commitIndex, 'a durable commit index went back');
}
