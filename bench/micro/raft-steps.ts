/** The consensus core at the two messages that make up a write: pure, no disk, no sockets. */

import assert from 'node:assert/strict';

import type {
  AppendEntries,
  AppendEntriesResponse,
  Entry,
  Ready,
} from '../../server/raft/message.ts';
import { Raft } from '../../server/raft/raft.ts';
import type { MicroBenchmark, MicroGroup } from './benchmark.ts';

const COMMAND = Buffer.alloc(256, 7);
const RESPONSES = 64;
const APPENDS = 16;
const ENTRIES_PER_APPEND = 16;
const TURNS_MAX = 10;

export function raftSteps(): MicroGroup {
  return { benchmarks: [leaderSteps(), followerSteps()], close: async () => undefined };
}

/** Each response acknowledges one append of one entry, and commits it: two of three hold it. */
function leaderSteps(): MicroBenchmark {
  const raft = createRaft('a');
  raft.campaign();
  for (let turn = 0; raft.status().role !== 'leader'; turn += 1) {
    assert(turn < TURNS_MAX, 'nobody was elected');
    grantVotes(raft, takeReady(raft));
  }
  const { currentTerm: term } = raft.status();
  const respond = (from: string, matchIndex: number): AppendEntriesResponse => ({
    kind: 'appendEntriesResponse',
    from,
    to: 'a',
    term,
    success: true,
    matchIndex,
    rejectedIndex: 0,
    hintIndex: 0,
    hintTerm: 0,
    appliedIndex: matchIndex,
  });
  const everyoneHolds = (index: number): void => {
    for (const from of ['b', 'c']) raft.step(respond(from, index));
    takeReady(raft);
    takeReady(raft);
    raft.compact(index);
  };
  let responses: AppendEntriesResponse[] = [];
  return {
    kind: 'sync',
    name: 'raft: leader takes an append response, commits',
    callsPerSample: RESPONSES,
    prepare: () => {
      const { lastIndex, commitIndex } = raft.status();
      assert(responses.length === 0 || commitIndex === lastIndex, 'a response did not commit');
      everyoneHolds(lastIndex);
      responses = [];
      for (let index = lastIndex + 1; index <= lastIndex + RESPONSES; index += 1) {
        assert(raft.propose([COMMAND]).kind === 'accepted');
        takeReady(raft);
        responses.push(respond('b', index));
      }
    },
    run: () => {
      for (const response of responses) raft.step(response);
      return responses.length;
    },
  };
}

function followerSteps(): MicroBenchmark {
  const raft = createRaft('b');
  const term = 1;
  let messages: AppendEntries[] = [];
  return {
    kind: 'sync',
    name: `raft: follower takes an append of ${ENTRIES_PER_APPEND} entries`,
    callsPerSample: APPENDS,
    prepare: () => {
      takeReady(raft);
      takeReady(raft);
      const { lastIndex, appliedIndex, firstIndex } = raft.status();
      assert.equal(lastIndex, messages.length * ENTRIES_PER_APPEND + firstIndex - 1);
      raft.compact(appliedIndex);
      messages = Array.from({ length: APPENDS }, (_, at): AppendEntries => {
        const prevLogIndex = lastIndex + at * ENTRIES_PER_APPEND;
        const entries = Array.from({ length: ENTRIES_PER_APPEND }, (_each, i): Entry => {
          return { index: prevLogIndex + i + 1, term, kind: 'command', command: COMMAND };
        });
        return {
          kind: 'appendEntries',
          from: 'a',
          to: 'b',
          term,
          prevLogIndex,
          prevLogTerm: prevLogIndex === 0 ? 0 : term,
          entries,
          // All of it, so that the log can be cut before the next sample.
          leaderCommit: prevLogIndex + ENTRIES_PER_APPEND,
        };
      });
    },
    run: () => {
      for (const message of messages) raft.step(message);
      return messages.length;
    },
  };
}

function createRaft(id: string): Raft {
  return new Raft({
    id,
    hardState: { currentTerm: 0, votedFor: null, commitIndex: 0 },
    snapshot: { lastIncludedIndex: 0, lastIncludedTerm: 0, configuration: { servers: [] } },
    entries: [],
    appliedIndex: 0,
    configuration: {
      servers: ['a', 'b', 'c'].map((each) => {
        return { id: each, address: `${each}:1`, suffrage: 'voter' as const };
      }),
    },
    electionTicks: 10,
    heartbeatTicks: 1,
    leaseMs: 0,
    random: () => 0.5,
    commitNotify: { kind: 'push', isGathered: false },
    limits: {
      appendBytesMax: 1024 * 1024,
      inflightAppendsMax: 4 * RESPONSES,
      uncommittedBytesMax: 64 * 1024 * 1024,
    },
  });
}

/** Does at once what a `Ready` asks for. */
function takeReady(raft: Raft): Ready {
  const ready = raft.ready();
  if (ready.appendToken !== 0) raft.storageAppendDone(ready.appendToken);
  const last = ready.committedEntries.at(-1);
  if (last !== undefined) raft.storageApplied(last.index);
  return ready;
}

function grantVotes(raft: Raft, { messages, messagesAfterAppend }: Ready): void {
  for (const message of [...messages, ...messagesAfterAppend]) {
    if (message.kind !== 'requestVote') continue;
    const { from, to, term, isPreVote } = message;
    raft.step({
      kind: 'requestVoteResponse',
      from: to,
      to: from,
      term,
      isPreVote,
      voteGranted: true,
    });
  }
}
