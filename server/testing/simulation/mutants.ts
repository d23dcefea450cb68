/**
 * Bugs to plant: does the simulation bite? Each is a small change of one emitted file, found by a
 * text that must occur there exactly once: when the code has moved on, the mutant fails loudly
 * instead of planting nothing. Most are bugs that some Raft implementation has had.
 *
 * `npm run mutants` plants them one by one and runs seeds until one fails (`scripts/mutants.ts`).
 */

export type Mutant = {
  readonly name: string;
  /** Under `server/`, as emitted. */
  readonly file: string;
  readonly find: string;
  readonly replace: string;
  readonly world: 'core' | 'node';
};

export const MUTANTS: readonly Mutant[] = [
  // Elections.
  {
    name: 'a vote is told before it is durable',
    file: 'raft/election.js',
    find: 'this.#outbox.sendAfterAppend({',
    replace: 'this.#outbox.send({',
    world: 'core',
  },
  {
    name: 'votes are requested before the term is durable',
    file: 'raft/election.js',
    find: 'this.#outbox.sendAfterAppend(message)',
    replace: 'this.#outbox.send(message)',
    world: 'core',
  },
  {
    name: 'a vote is not remembered',
    file: 'raft/election.js',
    find: 'this.#votedFor = from;',
    replace: '',
    world: 'core',
  },
  {
    name: 'a vote is forgotten by a restart',
    file: 'raft/election.js',
    find: 'return hardState;',
    replace: 'return { ...hardState, votedFor: null };',
    world: 'core',
  },
  {
    name: 'a vote alone is not written',
    file: 'raft/write-out.js',
    find: 'this.#hardState.votedFor !== this.#election.votedFor',
    replace: 'false',
    world: 'core',
  },
  {
    name: 'votes go to candidates with old logs',
    file: 'raft/election.js',
    find: 'return isFree && this.#log.isUpToDate(message);',
    replace: 'return isFree;',
    world: 'core',
  },
  {
    name: 'logs are compared by length, not by last term',
    file: 'raft/log.js',
    find: 'if (last.lastLogTerm !== this.lastTerm)',
    replace: 'if (false)',
    world: 'core',
  },
  {
    name: 'no pre-vote',
    file: 'raft/election.js',
    find: 'this.#becomePreCandidate();',
    replace: 'this.#becomeCandidate({ isTransfer: false });',
    world: 'core',
  },
  {
    name: 'the own vote counts before it is durable',
    file: 'raft/campaign.js',
    find: 'return this.#ownVoteToken !== 0 && this.#ownVoteToken <= tokenDone;',
    replace: 'return true;',
    world: 'core',
  },
  {
    name: 'old votes count in a new round',
    file: 'raft/election.js',
    find: 'if (isOfThisRound)',
    replace: 'if (true)',
    world: 'core',
  },
  {
    name: 'a leader without a quorum leads on',
    file: 'raft/replication.js',
    find: "return 'quorumLost';",
    replace: "return 'leading';",
    world: 'core',
  },
  // Counting.
  {
    name: 'a majority of an even number is half of it',
    file: 'raft/quorum.js',
    find: 'return Math.floor(voterCount / 2) + 1;',
    replace: 'return Math.ceil(voterCount / 2);',
    world: 'core',
  },
  {
    name: 'learners count',
    file: 'raft/quorum.js',
    find: "suffrage === 'voter'",
    replace: 'suffrage !== null',
    world: 'core',
  },
  {
    name: 'entries of earlier terms are committed by counting',
    file: 'raft/replication.js',
    find: '|| !this.#log.holds(index, this.term)',
    replace: '',
    world: 'core',
  },
  {
    name: 'a leader counts what it has not written',
    file: 'raft/replication.js',
    find: '? this.#log.durableIndex\n',
    replace: '? this.#log.lastIndex\n',
    world: 'core',
  },
  // Logs.
  {
    name: 'a match is acknowledged before it is durable',
    file: 'raft/raft.js',
    find: 'this.#outbox.sendAfterAppend(response);',
    replace: 'this.#outbox.send(response);',
    world: 'core',
  },
  {
    name: 'messages do not wait for a write under way',
    file: 'raft/raft.js',
    find: '!this.#writer.hasToWrite && !this.#log.isWriting',
    replace: '!this.#writer.hasToWrite',
    world: 'core',
  },
  {
    name: 'the previous term is not compared',
    file: 'raft/follower.js',
    find: 'if (!this.#log.holds(prevLogIndex, prevLogTerm))',
    replace: 'if (this.#log.lastIndex < prevLogIndex)',
    world: 'core',
  },
  {
    name: 'every append truncates',
    file: 'raft/log.js',
    find: 'this.#snapshotIndex < entry.index && this.termAt(entry.index) !== entry.term',
    replace: 'this.#commitIndex < entry.index',
    world: 'core',
  },
  {
    name: 'a write under way proves what was truncated (A-B-A)',
    file: 'raft/log.js',
    find: 'write.provesIndex = Math.min(write.provesIndex, lastIndex);',
    replace: '',
    world: 'core',
  },
  {
    name: 'entries are applied before they are durable here',
    file: 'raft/log.js',
    find: 'const last = Math.min(this.#commitIndex, this.#durableIndex);',
    replace: 'const last = this.#commitIndex;',
    world: 'core',
  },
  {
    name: 'the commit index is believed beyond the match',
    file: 'raft/follower.js',
    find: 'Math.min(this.#leaderCommit, this.#matchedIndex)',
    replace: 'Math.min(this.#leaderCommit, this.#log.lastIndex)',
    world: 'core',
  },
  {
    name: 'a commit index beyond the log is forgotten',
    file: 'raft/follower.js',
    find: 'this.#leaderCommit = Math.max(this.#leaderCommit, message.leaderCommit);\n        if',
    replace:
      'this.#leaderCommit = Math.min(message.leaderCommit, this.#log.lastIndex);\n        if',
    world: 'core',
  },
  {
    name: 'the stored commit index is ahead of the stored log',
    file: 'raft/write-out.js',
    find: 'Math.min(this.#log.commitIndex, this.#log.writtenIndex)',
    replace: 'this.#log.commitIndex',
    world: 'core',
  },
  {
    name: 'a heartbeat commits what the follower was not known to hold',
    file: 'raft/replication.js',
    find: 'Math.min(this.#log.commitIndex, progress.matchIndex)',
    replace: 'this.#log.commitIndex',
    world: 'core',
  },
  {
    name: 'a lost commit index is never repeated',
    file: 'raft/replication.js',
    find: 'Math.min(this.#log.commitIndex, progress.matchIndex)',
    replace: '0',
    world: 'core',
  },
  // Progress and limits.
  {
    name: 'the window by count is ignored',
    file: 'raft/progress.js',
    find: 'this.#limits.inflightAppendsMax <= this.#inflight.length ||',
    replace: '',
    world: 'core',
  },
  {
    name: 'uncommitted bytes have no limit',
    file: 'raft/replication.js',
    find: 'if (this.#uncommittedBytes > 0 && isOverLimit)',
    replace: 'if (false)',
    world: 'core',
  },
  {
    name: 'appends have no size',
    file: 'raft/log.js',
    find: 'if (bytes > 0 && bytes + entryBytes > bytesMax)',
    replace: 'if (false)',
    world: 'core',
  },
  {
    name: 'a probe that was lost is not sent again',
    file: 'raft/progress.js',
    find: 'this.#isProbeSent = false;\n        this.#isNudgeDue = this.#kind',
    replace: 'this.#isNudgeDue = this.#kind',
    world: 'core',
  },
  {
    name: 'a lost append is not noticed by the heartbeat',
    file: 'raft/progress.js',
    find: "this.#isNudgeDue = this.#kind === 'replicate' && this.#matchIndex < lastIndex;",
    replace: '',
    world: 'core',
  },
  {
    name: 'a failed snapshot is never sent again',
    file: 'raft/progress.js',
    find: "if (this.#kind !== 'snapshot')",
    replace: "if (this.#kind !== 'snapshot' || !ok)",
    world: 'core',
  },
  {
    name: 'a transfer is never given up',
    file: 'raft/transfer.js',
    find: 'if (this.#electionTicks <= this.#elapsedTicks)',
    replace: 'if (false)',
    world: 'core',
  },
  // Membership and snapshots.
  {
    name: 'a configuration does not wait for the one before it',
    file: 'raft/replication.js',
    find: 'return this.#log.appliedIndex < this.#pendingConfigurationIndex;',
    replace: 'return false;',
    world: 'core',
  },
  {
    name: 'a server campaigns with a configuration it knows to be old',
    file: 'raft/election.js',
    find: '!this.#log.hasUnappliedConfiguration()',
    replace: 'true',
    world: 'core',
  },
  {
    name: 'the configuration of a snapshot is not taken over',
    file: 'raft/raft.js',
    find: 'this.#applyConfiguration(message.snapshot.configuration);',
    replace: '',
    world: 'core',
  },
  {
    name: 'a removed leader never lets go',
    file: 'raft/replication.js',
    find: 'return this.#removedAtIndex <= this.#quorum.index(appliedBy);',
    replace: 'return false;',
    world: 'core',
  },
  {
    name: 'a smaller quorum does not commit what it already holds',
    file: 'raft/replication.js',
    find: 'have answered.\n        this.advanceCommit();',
    replace: 'have answered.',
    world: 'core',
  },
  // Joint configurations.
  {
    name: 'one half of a joint configuration decides alone',
    file: 'raft/quorum.js',
    find: 'return this.#halves.every(',
    replace: 'return this.#halves.some(',
    world: 'core',
  },
  {
    name: 'the outgoing half does not count for commitment',
    file: 'raft/quorum.js',
    find: 'for (const half of this.#halves)',
    replace: 'for (const half of this.#halves.slice(0, 1))',
    world: 'core',
  },
  // Reads.
  {
    name: 'reads are confirmed without a round',
    file: 'raft/read-index.js',
    find: 'if (this.#isLeaseValid())\n            this.#confirm(question, index);',
    replace: 'if (true)\n            this.#confirm(question, index);',
    world: 'core',
  },
  {
    name: 'reads are served before an entry of the own term is committed',
    file: 'raft/read-index.js',
    find: 'return this.#log.holds(this.#log.commitIndex, this.#term);',
    replace: 'return true;',
    world: 'core',
  },
  {
    name: 'a read is confirmed by the round before it',
    file: 'raft/read-index.js',
    find: 'this.#unconfirmed.push({ question, index, round: this.#rounds.last + 1 });',
    replace: 'this.#unconfirmed.push({ question, index, round: this.#rounds.last });',
    world: 'core',
  },
  {
    name: 'a lease lasts longer than voters keep to it',
    file: 'raft/read-index.js',
    find: 'this.#rounds.confirmedSentMs + this.#leaseMs',
    replace: 'this.#rounds.confirmedSentMs + 3 * this.#leaseMs',
    world: 'core',
  },
  {
    name: 'a lease outlives the order to hand over',
    file: 'raft/read-index.js',
    find: 'this.#isLeaseForbidden = true;',
    replace: '',
    world: 'core',
  },
  {
    name: 'a lease outlives a change of the configuration',
    file: 'raft/replication.js',
    find: 'this.readIndex.dropLease();',
    replace: '',
    world: 'core',
  },
  {
    name: 'voters do not keep to the lease',
    file: 'raft/election.js',
    find: "return this.#role === 'leader' || this.#isWithinLease();",
    replace: 'return false;',
    world: 'core',
  },
  {
    name: 'reads of a leader that is deposed are confirmed by its successor',
    file: 'raft/raft.js',
    find: 'this.#replication.readIndex.end();',
    replace: '',
    world: 'core',
  },
  {
    name: 'a heartbeat that comes once more is news',
    file: 'raft/reads.js',
    find: 'if (round <= this.#answeredRound)',
    replace: 'if (false)',
    world: 'core',
  },
  {
    name: "freshness is counted from the leader's word",
    file: 'raft/reads.js',
    find: 'this.refresh({ asOfMs: newest.sentMs, index });',
    replace: 'this.refresh({ asOfMs: this.#nowMs, index });',
    world: 'core',
  },
  {
    name: 'an answer is fresh though no later round has confirmed the leader',
    file: 'raft/read-index.js',
    find: 'each.confirmedBy <= this.#rounds.confirmed',
    replace: 'true',
    world: 'core',
  },
];
