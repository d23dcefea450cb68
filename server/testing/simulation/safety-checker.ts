/**
 * The safety of Raft, checked from outside after every event of a simulation (Raft figure 3, and
 * what asynchronous writes add to it): invariants I1 to I13, I16 to I18, I20, I21 and I23 of
 * `invariants.ts`. It sees messages, disks and statuses, never the inside of a core, and counts
 * majorities itself: a core that counts wrong must not be its own judge.
 *
 * All of it is incremental. What is known of the whole cluster (committed entries, leaders, votes,
 * who named which entry) grows with the run; what is known of a node is its watermark.
 */

import type {
  Configuration,
  Entry,
  HardState,
  Message,
  NodeId,
  Ready,
} from '../../raft/message.ts';
import type { RaftStatus } from '../../raft/raft.ts';
import { chainDigest, type LogImage } from '../simulated-node.ts';
import { ConfigurationHistory, isMajority } from './configuration-history.ts';
import { Ledger } from './invariants.ts';
import { LeaderContact } from './leader-contact.ts';
import { AppendWindows, type WindowLimits } from './append-windows.ts';

/** What the checker sees of a node. */
export type ObservedNode = {
  readonly id: NodeId;
  readonly raft: { status(): RaftStatus };
  /** Durable. */
  readonly hardState: HardState;
  /** What of the log is durable. */
  readonly disk: LogImage;
  /** What of the log was handed out to be written. */
  readonly view: LogImage;
  readonly state: { readonly index: number; readonly digest: number };
};

/** Terms stay far below this in any simulation, so that an entry has one number for a key. */
const TERMS_MAX = 1_000_000;

type Watermark = {
  term: number;
  commitIndex: number;
  appliedIndex: number;
  firstIndex: number;
  stateIndex: number;
  hardState: HardState;
  /** While it leads: the term. */
  ledTerm: number;
  /** The same when its output was last taken, and the end of its log then. */
  handedOutTerm: number;
  handedOutIndex: number;
  /** In force when it began to stand in its term: it asks these voters, whatever is applied since. */
  campaign: { readonly term: number; readonly configuration: Configuration } | undefined;
  /** Those in force while it is a pre-candidate: it counts by the one in which it began to ask. */
  asked: Configuration[];
  /** The term of a `timeoutNow` that it was given. */
  calledInTerm: number;
  configuration: RaftStatus['configuration'] | undefined;
  /** Up to where the configuration in force was compared with what is applied. */
  checkedIndex: number;
};

export type CheckerOptions = {
  readonly electionTicks: number;
  readonly limits: WindowLimits & { readonly uncommittedBytesMax: number };
  /** The most that one call of `propose` brings. */
  readonly proposalBytesMax: number;
  /** What names a client's command, if a command must not take effect twice. */
  serialOf(command: Uint8Array): string | undefined;
};

export class SafetyChecker {
  readonly ledger: Ledger = new Ledger();
  readonly contact: LeaderContact;
  readonly windows: AppendWindows;
  readonly #options: CheckerOptions;
  readonly #nodes: ReadonlyMap<NodeId, ObservedNode>;
  readonly #committed: Entry[] = [];
  /** `#commitTerms[i]` is the term of the leader that committed entry `i + 1`; it ascends. */
  readonly #commitTerms: number[] = [];
  /** `#digests[i]` is that of a state machine that has applied `i` entries. */
  readonly #digests: number[] = [0];
  readonly #configurations: ConfigurationHistory;
  readonly #leaders = new Map<number, NodeId>();
  readonly #votes = new Map<string, NodeId>();
  readonly #consents = new Set<string>();
  readonly #entries = new Map<number, { readonly entry: Entry; readonly previousTerm: number }>();
  readonly #watermarks = new Map<NodeId, Watermark>();
  readonly #serials = new Set<string>();
  electionCount = 0;
  termMax = 0;
  #electedTermMax = 0;

  constructor(nodes: ReadonlyMap<NodeId, ObservedNode>, options: CheckerOptions) {
    this.#nodes = nodes;
    this.#options = options;
    this.contact = new LeaderContact(this.ledger, options.electionTicks);
    this.windows = new AppendWindows(this.ledger, options.limits);
    this.#configurations = new ConfigurationHistory(this.ledger);
  }

  get committedIndex(): number {
    return this.#committed.length;
  }

  committedAt(index: number): Entry {
    const entry = this.#committed[index - 1];
    if (entry === undefined) this.ledger.violated('I5', 'an entry that is not committed');
    return entry;
  }

  digestAt(index: number): number {
    const digest = this.#digests[index];
    if (digest === undefined) this.ledger.violated('I5', 'a state of what is not committed');
    return digest;
  }

  /** A server begins to run, on what its disk holds. */
  onStart(node: ObservedNode): void {
    const ledger: Ledger = this.ledger;
    const before = this.#watermarks.get(node.id);
    if (before !== undefined) this.#checkHardState(before.hardState, node.hardState);
    const { index, digest } = node.state;
    ledger.check('I18', index <= this.committedIndex, 'a state holds what is not committed');
    ledger.check('I18', digest === this.#digests[index], 'a state is no prefix');
    this.contact.forget(node.id);
    this.windows.forget(node.id);
    this.#watermarks.set(node.id, {
      term: node.hardState.currentTerm,
      commitIndex: 0,
      appliedIndex: index,
      firstIndex: 0,
      stateIndex: index,
      hardState: node.hardState,
      ledTerm: 0,
      handedOutTerm: 0,
      handedOutIndex: 0,
      campaign: undefined,
      asked: [],
      calledInTerm: 0,
      configuration: undefined,
      checkedIndex: index,
    });
    this.onChange(node);
  }

  onReady(node: ObservedNode, ready: Ready): void {
    this.windows.onReady(node.id);
    const watermark = this.#watermark(node);
    const first = ready.entries[0];
    if (first !== undefined && watermark.handedOutTerm === node.raft.status().currentTerm) {
      const isAppended = watermark.handedOutIndex < first.index;
      this.ledger.check('I2', isAppended, 'a leader replaced an entry');
    }
    for (const entry of ready.entries) {
      this.#register(entry, node.view.termAt(entry.index - 1));
      if (entry.kind === 'configuration') {
        this.#configurations.checkEarlier(node.view, entry, this.committedIndex);
      }
    }
  }

  #register(entry: Entry, previousTerm: number | undefined): void {
    const key = entry.index * TERMS_MAX + entry.term;
    const known = this.#entries.get(key);
    if (known === undefined) {
      this.ledger.check('I3', previousTerm !== undefined, 'an entry follows none');
      this.#entries.set(key, { entry, previousTerm });
      return;
    }
    const isPrevious = known.previousTerm === previousTerm;
    this.ledger.check('I3', isPrevious, 'equal entries follow unequal ones');
    this.ledger.check('I3', isSameEntry(known.entry, entry), 'equal positions, unequal entries');
  }

  /** A message leaves its sender. */
  onSend(node: ObservedNode, message: Message): void {
    const ledger: Ledger = this.ledger;
    const { currentTerm, votedFor } = node.hardState;
    switch (message.kind) {
      case 'appendEntries': {
        this.#checkLeader(message.term, message.from);
        let previousTerm = message.prevLogTerm;
        for (const entry of message.entries) {
          this.#register(entry, previousTerm);
          previousTerm = entry.term;
        }
        this.windows.onAppend(message);
        return;
      }
      case 'heartbeat':
      case 'installSnapshot':
      case 'timeoutNow':
        this.#checkLeader(message.term, message.from);
        return;
      case 'requestVote':
        if (message.isPreVote) return;
        ledger.check('I10', message.term <= currentTerm, 'votes requested in no durable term');
        if (message.term < currentTerm) return;
        ledger.check('I10', votedFor === message.from, 'votes requested without an own one');
        // One that already follows the leader of this term no longer asks in earnest.
        if (node.raft.status().role === 'candidate') {
          ledger.check('I10', holdsLast(node, message), 'a log is named that is not durable');
        }
        this.#checkVote(node.id, message.term, node.id);
        return;
      case 'requestVoteResponse':
        if (!message.voteGranted) return;
        if (message.isPreVote) {
          this.#consents.add(`${message.from}:${message.to}:${message.term}`);
          return;
        }
        ledger.check('I10', message.term <= currentTerm, 'a vote is told that is not durable');
        if (message.term === currentTerm) {
          ledger.check('I10', votedFor === message.to, 'another vote is durable');
        }
        this.#checkVote(node.id, message.term, message.to);
        return;
      case 'appendEntriesResponse':
        if (!message.success) return;
        ledger.check('I10', message.term <= currentTerm, 'a match is told in no durable term');
        if (message.term < currentTerm) return;
        ledger.check('I10', message.matchIndex <= node.disk.lastIndex, 'a match is not durable');
        return;
      default:
        return;
    }
  }

  /** A running server is handed a message. */
  onDeliver(node: ObservedNode, message: Message): void {
    if (message.kind === 'timeoutNow') this.#watermark(node).calledInTerm = message.term;
    this.contact.onDeliver(node.id, message.from);
    this.windows.onDeliver(message);
  }

  #checkLeader(term: number, id: NodeId): void {
    const leader = this.#leaders.get(term);
    if (leader === undefined) this.#leaders.set(term, id);
    else this.ledger.check('I1', id === leader, 'two leaders in one term');
  }

  #checkVote(voter: NodeId, term: number, candidate: NodeId): void {
    const key = `${voter}:${term}`;
    const vote = this.#votes.get(key);
    if (vote === undefined) this.#votes.set(key, candidate);
    else this.ledger.check('I1', candidate === vote, 'a server votes twice in a term');
  }

  /** What is durable on the node has changed. */
  onDiskChange(node: ObservedNode): void {
    const watermark = this.#watermark(node);
    this.#checkHardState(watermark.hardState, node.hardState);
    watermark.hardState = node.hardState;
    if (node.state.index !== watermark.stateIndex) this.#onInstall(node, watermark);
  }

  #onInstall({ state }: ObservedNode, watermark: Watermark): void {
    this.ledger.check('I21', watermark.stateIndex < state.index, 'a snapshot takes a node back');
    this.ledger.check('I21', state.digest === this.#digests[state.index], 'it is of another state');
    watermark.stateIndex = state.index;
  }

  #checkHardState(before: HardState, after: HardState): void {
    const ledger: Ledger = this.ledger;
    ledger.check('I8', before.currentTerm <= after.currentTerm, 'a durable term went back');
    ledger.check('I8', before.commitIndex <= after.commitIndex, 'a durable commit index went back');
    if (before.currentTerm !== after.currentTerm || before.votedFor === null) return;
    ledger.check('I8', before.votedFor === after.votedFor, 'a durable vote changed');
  }

  onApply(node: ObservedNode, applied: readonly Entry[]): void {
    const ledger: Ledger = this.ledger;
    for (const entry of applied) {
      const committed = this.#committed[entry.index - 1];
      ledger.check('I5', committed !== undefined, 'applied before it was committed');
      ledger.check('I5', isSameEntry(committed, entry), 'another entry is applied');
      const isDurable = entry.index <= node.disk.index || holdsOnDisk(node, entry);
      ledger.check('I9', isDurable, 'applied what is not durable here');
    }
    const { index, digest } = node.state;
    ledger.check('I5', digest === this.#digests[index], 'state machines differ');
    this.#watermark(node).stateIndex = index;
  }

  /** After every input of a core, whether or not its output has been taken. */
  onStep(node: ObservedNode, status: RaftStatus): void {
    const ledger: Ledger = this.ledger;
    const watermark = this.#watermark(node);
    ledger.check('I8', watermark.term <= status.currentTerm, 'the term went back');
    ledger.check('I8', watermark.commitIndex <= status.commitIndex, 'the commit index went back');
    ledger.check(
      'I8',
      watermark.appliedIndex <= status.appliedIndex,
      'the applied index went back',
    );
    ledger.check('I8', watermark.firstIndex <= status.firstIndex, 'the snapshot index went back');
    ledger.check('I9', status.appliedIndex <= status.commitIndex, 'applied before committed');
    ledger.check('I9', status.commitIndex <= status.lastIndex, 'committed beyond the log');
    if (status.role === 'preCandidate') {
      if (watermark.asked.at(-1) !== status.configuration) {
        watermark.asked.push(status.configuration);
      }
    } else if (status.role !== 'candidate') {
      watermark.asked = [];
    }
    if (status.role === 'candidate' && watermark.term < status.currentTerm) {
      this.#onCandidacy(node, status, watermark);
    }
    if (status.role === 'leader') this.#checkLeading(node, status, watermark);
    // A removed leader may commit and step down on the same message.
    if (status.role === 'leader' || watermark.ledTerm === status.currentTerm) {
      this.#checkCommitted(node, { before: watermark.commitIndex, status, isLeader: true });
      watermark.commitIndex = status.commitIndex;
    }
    watermark.ledTerm = status.role === 'leader' ? status.currentTerm : 0;
    watermark.term = status.currentTerm;
    watermark.appliedIndex = status.appliedIndex;
    watermark.firstIndex = status.firstIndex;
    if (this.termMax < status.currentTerm) this.termMax = status.currentTerm;
  }

  /** To be called after every event, when the core's output has been taken. */
  onChange(node: ObservedNode, status: RaftStatus = node.raft.status()): void {
    this.onStep(node, status);
    const watermark = this.#watermark(node);
    this.#checkStorageView(node, status);
    const hasNewStep = this.#configurations.isPassed(watermark.checkedIndex, status.appliedIndex);
    if (status.configuration !== watermark.configuration || hasNewStep) {
      watermark.configuration = status.configuration;
      this.#configurations.checkInForce(status);
    }
    watermark.checkedIndex = status.appliedIndex;
    this.#checkCommitted(node, { before: watermark.commitIndex, status, isLeader: false });
    watermark.commitIndex = status.commitIndex;
    watermark.handedOutTerm = watermark.ledTerm;
    watermark.handedOutIndex = status.lastIndex;
  }

  #checkStorageView({ view, disk }: ObservedNode, status: RaftStatus): void {
    const { lastIndex, durableIndex } = status;
    this.ledger.check('I13', lastIndex === view.lastIndex, 'storage was not given the whole log');
    if (durableIndex < view.index || durableIndex < disk.index) return;
    const isOnDisk = disk.termAt(durableIndex) === view.termAt(durableIndex);
    this.ledger.check('I13', isOnDisk, 'what is called durable is not on disk');
  }

  #onCandidacy({ id }: ObservedNode, status: RaftStatus, watermark: Watermark): void {
    const { configuration, currentTerm } = status;
    watermark.campaign = { term: currentTerm, configuration };
    if (watermark.calledInTerm === currentTerm - 1) return;
    const consents = (voter: NodeId): boolean =>
      voter === id || this.#consents.has(`${voter}:${id}:${currentTerm}`);
    const asked = [...watermark.asked, configuration];
    const hasConsent = asked.some((each) => isMajority(each, consents));
    this.ledger.check('I23', hasConsent, 'a server stands that nobody asked to');
  }

  #checkLeading(node: ObservedNode, status: RaftStatus, watermark: Watermark): void {
    if (watermark.ledTerm !== status.currentTerm) this.#onElected(node, status, watermark);
    for (const [, row] of status.progress) {
      this.ledger.check('I16', row.matchIndex < row.nextIndex, 'next is not beyond match');
      this.ledger.check('I16', row.matchIndex <= status.lastIndex, 'a match beyond the log');
    }
  }

  /** In the turn of an input, of which the core knows the time. */
  checkLease({ hasLease, currentTerm }: RaftStatus): void {
    if (!hasLease) return;
    const isAlone = this.#electedTermMax <= currentTerm;
    this.ledger.check('I15', isAlone, 'a lease is believed in while another leads');
  }

  #onElected(node: ObservedNode, status: RaftStatus, { campaign }: Watermark): void {
    const { currentTerm } = status;
    const isOfTerm = campaign?.term === currentTerm;
    const configuration = isOfTerm ? campaign.configuration : status.configuration;
    this.#checkLeader(currentTerm, node.id);
    this.electionCount += 1;
    this.#electedTermMax = Math.max(this.#electedTermMax, currentTerm);
    this.contact.onElected(node.id);
    const isElected = isMajority(configuration, (voter) => {
      const hardState = this.#nodes.get(voter)?.hardState;
      if (hardState?.currentTerm === currentTerm) return hardState.votedFor === node.id;
      return this.#votes.get(`${voter}:${currentTerm}`) === node.id;
    });
    this.ledger.check('I12', isElected, 'elected without a majority of durable votes');
    for (let index = Math.max(1, node.view.index); index <= this.committedIndex; index += 1) {
      const commitTerm = this.#commitTerms[index - 1];
      // One that took long to hear of its votes may find that later terms have committed more.
      if (commitTerm === undefined || currentTerm <= commitTerm) return;
      const isHeld = node.view.termAt(index) === this.#committed[index - 1]?.term;
      this.ledger.check('I4', isHeld, 'a new leader lacks a committed entry');
    }
  }

  #checkCommitted(
    node: ObservedNode,
    seen: { readonly before: number; readonly status: RaftStatus; readonly isLeader: boolean },
  ): void {
    const { before, status, isLeader } = seen;
    const { view } = node;
    if (view.index > 0 && before < view.index) {
      const isSame = view.term === this.#committed[view.index - 1]?.term;
      this.ledger.check('I6', isSame, 'a log begins on another entry');
    }
    let isNew = false;
    for (let index = Math.max(before, view.index) + 1; index <= status.commitIndex; index += 1) {
      const entry = view.entryAt(index);
      this.ledger.check('I13', entry !== undefined, 'committed what storage was not given');
      const committed = this.#committed[index - 1];
      if (committed !== undefined) {
        this.ledger.check('I6', isSameEntry(committed, entry), 'another entry was committed');
        continue;
      }
      this.ledger.check('I7', isLeader, 'committed by a server that does not lead');
      isNew = true;
      this.#commit(entry, status);
    }
    if (isNew) this.#checkUncommittedBytes(node, status);
    if (!isNew) return;
    const isOfTerm = view.termAt(status.commitIndex) === status.currentTerm;
    this.ledger.check('I7', isOfTerm, 'committed by counting an earlier term');
  }

  #commit(entry: Entry, status: RaftStatus): void {
    const ledger: Ledger = this.ledger;
    const isHeld = isMajority(status.configuration, (voter) => {
      const disk = this.#nodes.get(voter)?.disk;
      if (disk === undefined) return false;
      return entry.index <= disk.index || disk.termAt(entry.index) === entry.term;
    });
    ledger.check('I7', isHeld, 'committed without a majority of disks');
    const isLater = (this.#commitTerms.at(-1) ?? 0) <= status.currentTerm;
    ledger.check('I7', isLater, 'an old leader commits');
    this.#committed.push(entry);
    this.#commitTerms.push(status.currentTerm);
    this.#digests.push(chainDigest(this.#digests.at(-1) ?? 0, entry));
    this.#configurations.onCommit(entry);
    const serial = entry.kind === 'command' ? this.#options.serialOf(entry.command) : undefined;
    if (serial === undefined) return;
    ledger.check('I20', !this.#serials.has(serial), 'a command is committed twice');
    this.#serials.add(serial);
  }

  /** Only own entries count: a leader inherits whatever its predecessors left. */
  #checkUncommittedBytes({ view }: ObservedNode, status: RaftStatus): void {
    const { limits, proposalBytesMax } = this.#options;
    let bytes = 0;
    for (let index = status.commitIndex + 1; index <= status.lastIndex; index += 1) {
      const entry = view.entryAt(index);
      if (entry?.kind !== 'command' || entry.term !== status.currentTerm) continue;
      bytes += entry.command.length;
    }
    const bytesMax = Math.max(limits.uncommittedBytesMax, proposalBytesMax);
    this.ledger.check('I17', bytes <= bytesMax, 'too many bytes wait to be committed');
  }

  #watermark(node: ObservedNode): Watermark {
    const watermark = this.#watermarks.get(node.id);
    if (watermark === undefined) this.ledger.violated('I8', 'a node runs that was never started');
    return watermark;
  }
}

function holdsOnDisk({ disk }: ObservedNode, entry: Entry): boolean {
  return disk.termAt(entry.index) === entry.term;
}

/** A snapshot that is being installed is ahead of the disk's log, and behind nothing. */
function holdsLast(
  { disk, view }: ObservedNode,
  last: { readonly lastLogIndex: number; readonly lastLogTerm: number },
): boolean {
  if (last.lastLogIndex <= view.index) return true;
  return disk.termAt(last.lastLogIndex) === last.lastLogTerm;
}

function isSameEntry(left: Entry, right: Entry): boolean {
  if (left === right) return true;
  return (
    left.index === right.index &&
    left.term === right.term &&
    left.kind === right.kind &&
    (left.command === right.command || Buffer.compare(left.command, right.command) === 0)
  );
}
