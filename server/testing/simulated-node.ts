/**
 * One node of a simulated cluster: the core, and a driver that does to a disk in memory what the
 * real one does to a real disk, one write at a time and only when told to.
 *
 * What is on disk survives `crash`; of the writes under way a prefix does, cut anywhere, even
 * within one `Ready`.
 */

import assert from 'node:assert/strict';

import { decodeConfiguration } from '../raft/configuration.ts';
import type { Configuration, Entry, HardState, Message, NodeId, Ready } from '../raft/message.ts';
import { Raft, type RaftOptions } from '../raft/raft.ts';

/** A log as its holder sees it: `entries` follow the position, without gaps. */
export class LogImage {
  index = 0;
  term = 0;
  entries: Entry[] = [];

  get lastIndex(): number {
    return this.index + this.entries.length;
  }

  entryAt(index: number): Entry | undefined {
    return this.entries[index - this.index - 1];
  }

  termAt(index: number): number | undefined {
    return index === this.index ? this.term : this.entryAt(index)?.term;
  }

  put(entry: Entry): void {
    assert(this.index < entry.index && entry.index <= this.lastIndex + 1, 'write with a gap');
    this.entries.length = entry.index - this.index - 1;
    this.entries.push(entry);
  }

  reset(index: number, term: number): void {
    this.index = index;
    this.term = term;
    this.entries = [];
  }

  compact(index: number): void {
    if (index <= this.index) return;
    const term = this.termAt(index);
    assert(term !== undefined, 'compaction beyond the log');
    this.entries = this.entries.slice(index - this.index);
    this.index = index;
    this.term = term;
  }
}

/** What a state machine holds. `commands` is what the golden scripts print. */
export type State = {
  readonly index: number;
  readonly term: number;
  readonly configuration: Configuration;
  readonly digest: number;
  readonly commands: readonly string[];
};

/** A message on its way, with the state that a snapshot carries. */
export type Envelope = { readonly message: Message; readonly state: State | undefined };

type Write = {
  readonly ready: Ready;
  readonly state: State | undefined;
};

export type NodeOptions = Omit<
  RaftOptions,
  'hardState' | 'snapshot' | 'entries' | 'appliedIndex' | 'configuration'
>;

export class SimulatedNode {
  readonly id: NodeId;
  readonly #options: NodeOptions;
  #raft: Raft | undefined;
  hardState: HardState = { currentTerm: 0, votedFor: null, commitIndex: 0 };
  /** What is durable. */
  readonly disk = new LogImage();
  /** What the core has handed out, durable or not. */
  readonly view = new LogImage();
  state: State;
  #writes: Write[] = [];
  #applies: (readonly Entry[])[] = [];
  #arrivedStates = new Map<string, State>();

  constructor(options: NodeOptions, configuration: Configuration) {
    this.id = options.id;
    this.#options = options;
    this.state = { index: 0, term: 0, configuration, digest: 0, commands: [] };
    this.start();
  }

  get isRunning(): boolean {
    return this.#raft !== undefined;
  }

  get raft(): Raft {
    assert(this.#raft !== undefined, `node ${this.id} is down`);
    return this.#raft;
  }

  get writeCount(): number {
    return this.#writes.length;
  }

  get applyCount(): number {
    return this.#applies.length;
  }

  start(): void {
    assert(this.#raft === undefined);
    // A crash between the import of a snapshot and the reset of the log.
    if (this.disk.termAt(this.state.index) !== this.state.term) {
      this.disk.reset(this.state.index, this.state.term);
    }
    this.view.reset(this.disk.index, this.disk.term);
    for (const entry of this.disk.entries) this.view.put(entry);
    this.#raft = new Raft({
      ...this.#options,
      hardState: this.hardState,
      snapshot: {
        lastIncludedIndex: this.disk.index,
        lastIncludedTerm: this.disk.term,
        configuration: this.state.configuration,
      },
      entries: this.disk.entries,
      appliedIndex: this.state.index,
      configuration: this.state.configuration,
    });
  }

  /** `keptFraction` of what was under way still reaches the disk, in the order of the writes. */
  crash(keptFraction: number): void {
    this.#raft = undefined;
    const applyCount = Math.floor(keptFraction * (this.#applies.length + 1));
    for (const entries of this.#applies.slice(0, applyCount)) this.#apply(entries);
    const steps = this.#writes.flatMap((write) => this.#stepsOf(write));
    for (const step of steps.slice(0, Math.floor(keptFraction * (steps.length + 1)))) step();
    this.#writes = [];
    this.#applies = [];
    this.#arrivedStates.clear();
  }

  step({ message, state }: Envelope): void {
    if (message.kind === 'installSnapshot') {
      assert(state !== undefined);
      const { lastIncludedIndex, lastIncludedTerm } = message.snapshot;
      this.#arrivedStates.set(`${lastIncludedIndex}:${lastIncludedTerm}`, state);
    }
    this.raft.step(message);
  }

  /** Queues what is to be written and applied. The messages of `Ready.messages` may leave. */
  takeReady(): Ready {
    const ready = this.raft.ready();
    let state: State | undefined;
    if (ready.snapshot !== undefined) {
      const { lastIncludedIndex, lastIncludedTerm } = ready.snapshot;
      state = this.#arrivedStates.get(`${lastIncludedIndex}:${lastIncludedTerm}`);
      assert(state !== undefined, 'a snapshot is to be installed that never arrived');
      this.view.reset(lastIncludedIndex, lastIncludedTerm);
    }
    for (const entry of ready.entries) this.view.put(entry);
    if (ready.appendToken !== 0) this.#writes.push({ ready, state });
    if (ready.committedEntries.length > 0) this.#applies.push(ready.committedEntries);
    return ready;
  }

  /** Adds the state to a snapshot, which is then as new as the state machine. */
  envelope(message: Message): Envelope {
    if (message.kind !== 'installSnapshot') return { message, state: undefined };
    const { index, term, configuration } = this.state;
    assert(message.snapshot.lastIncludedIndex <= index, 'snapshot of what is not applied');
    const snapshot = { lastIncludedIndex: index, lastIncludedTerm: term, configuration };
    return { message: { ...message, snapshot }, state: this.state };
  }

  /** Makes the oldest write durable; returns the messages that waited for it. */
  finishWrite(): readonly Message[] {
    const write = this.#writes.shift();
    assert(write !== undefined, 'no write is under way');
    for (const step of this.#stepsOf(write)) step();
    this.raft.storageAppendDone(write.ready.appendToken);
    return write.ready.messagesAfterAppend;
  }

  #stepsOf({ ready, state }: Write): (() => void)[] {
    const { hardState, entries } = ready;
    const steps: (() => void)[] = [];
    if (state !== undefined) steps.push(() => (this.state = state));
    if (hardState !== undefined) steps.push(() => (this.hardState = hardState));
    if (state !== undefined) steps.push(() => this.disk.reset(state.index, state.term));
    for (const entry of entries) steps.push(() => this.disk.put(entry));
    return steps;
  }

  /** Applies the oldest batch, and returns what of it was not applied before. */
  finishApply(): readonly Entry[] {
    const entries = this.#applies.shift();
    assert(entries !== undefined, 'nothing is to be applied');
    const applied = this.#apply(entries);
    this.raft.storageApplied(entries.at(-1)?.index ?? 0);
    return applied;
  }

  /** Atomic, like the batch of a real store. What a snapshot brought already is skipped. */
  #apply(entries: readonly Entry[]): readonly Entry[] {
    const fresh = entries.filter((entry) => this.state.index < entry.index);
    let { configuration, digest } = this.state;
    const commands = [...this.state.commands];
    let term = this.state.term;
    for (const [offset, entry] of fresh.entries()) {
      assert(entry.index === this.state.index + 1 + offset, 'apply with a gap');
      if (entry.kind === 'configuration') configuration = decodeConfiguration(entry.command);
      if (entry.kind === 'command') commands.push(new TextDecoder().decode(entry.command));
      digest = chainDigest(digest, entry);
      term = entry.term;
    }
    const index = this.state.index + fresh.length;
    this.state = { index, term, configuration, digest, commands: commands.slice(-KEPT_COMMANDS) };
    return fresh;
  }

  compact(index: number): void {
    assert(index <= this.state.index);
    this.raft.compact(index);
    this.disk.compact(index);
    this.view.compact(index);
  }
}

/** Enough for a script to show; a long simulation compares digests. */
const KEPT_COMMANDS = 12;

export function chainDigest(digest: number, entry: Entry): number {
  let hash = digest ^ Math.imul(entry.index, 0x9e3779b1) ^ Math.imul(entry.term, 0x85ebca6b);
  for (const byte of entry.command) hash = Math.imul(hash ^ byte, 0x01000193);
  return hash ^ (hash >>> 15);
}
