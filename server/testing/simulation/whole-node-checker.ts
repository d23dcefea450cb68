/**
 * What only a whole node can break: that its log gives back what it reported as durable (I19), that
 * its store holds an exact prefix (I18), that commands take effect as they should, and once (I5,
 * I20), that a snapshot is the state of its index (I21), and what readers are shown (I14).
 */

import type { Entry, NodeId, Ready } from '../../raft/message.ts';
import type { RaftStatus } from '../../raft/raft.ts';
import type { Refusal } from '../../replica/state-machine.ts';
import type { OpenedLog } from '../../storage/durable-log.ts';
import { LogImage } from '../simulated-node.ts';
import type { StoreImage } from './durable-store.ts';
import type { Ledger } from './invariants.ts';
import { applyAppend, type NodeDisks } from './node-disks.ts';
import type { NodeProcess } from './node-process.ts';
import type { SafetyChecker } from './safety-checker.ts';
import { digestOfAll, StateModel } from './state-model.ts';

type ReadStates = Ready['readStates'];

export class WholeNodeChecker {
  readonly safety: SafetyChecker;
  readonly model = new StateModel();
  readonly ledger: Ledger;
  readonly reads: { onReadStates(id: NodeId, states: ReadStates): void };
  readonly #nowMs: () => number;
  /** When each entry was first known to be committed. */
  readonly commitTimesMs: number[] = [];

  constructor(safety: SafetyChecker, nowMs: () => number) {
    this.safety = safety;
    this.ledger = safety.ledger;
    this.#nowMs = nowMs;
    this.reads = { onReadStates: (_, states) => this.#onReadStates(states) };
  }

  /** Follows what the safety checker has come to know. */
  onCommitted(): void {
    while (this.model.lastIndex < this.safety.committedIndex) {
      this.model.apply(this.safety.committedAt(this.model.lastIndex + 1));
      this.commitTimesMs.push(this.#nowMs());
    }
  }

  #onReadStates(states: ReadStates): void {
    for (const state of states) {
      if (state.kind === 'failed') continue;
      const isKnown = state.index <= this.safety.committedIndex;
      this.ledger.check('I14', isKnown, 'a read index is not committed');
    }
  }

  onPromise(node: NodeProcess): void {
    this.safety.onDiskChange(node);
  }

  /**
   * What was reported is there, and beyond it only what was under way, in its order. The log may
   * begin earlier than was asked: segments go as a whole, and later.
   */
  onRecovered(id: NodeId, disks: NodeDisks, recovered: OpenedLog['recovered']): void {
    const { rottenPath } = disks;
    const isWhole = rottenPath === undefined || !disks.log.holds(rottenPath);
    this.ledger.check('I19', isWhole, 'a damaged segment was read as a whole one');
    const expected = copyOf(disks.promised);
    let { hardState } = disks;
    const candidates = [...disks.underWay];
    for (;;) {
      if (isRecoveredAs(expected, hardState, recovered)) break;
      const next = candidates.shift();
      this.ledger.check('I19', next !== undefined, `${id} found another log than it was promised`);
      applyAppend(expected, next);
      hardState = next.hardState ?? hardState;
    }
    disks.underWay = [];
    disks.hardState = recovered.hardState;
    disks.promised.reset(recovered.snapshot.index, recovered.snapshot.term);
    for (const entry of recovered.entries) disks.promised.put(entry);
  }

  /** The state that a store on disk is in, which must be one that was committed. */
  stateOf(image: StoreImage): { index: number; digest: number } {
    const { lastIncludedIndex: index } = image.position;
    const isPrefix = digestOfAll(image.values) === this.model.digestAt(index);
    this.ledger.check('I18', isPrefix, 'a store on disk is no prefix of what was committed');
    return this.stateAt(index);
  }

  stateAt(index: number): { index: number; digest: number } {
    return { index, digest: this.safety.digestAt(index) };
  }

  onInstalled(node: NodeProcess): void {
    this.#checkShown(node, 'I21', 'a snapshot shows another state');
    this.safety.onDiskChange(node);
  }

  onApplied(
    node: NodeProcess,
    entries: readonly Entry[],
    refusals: ReadonlyMap<number, Refusal>,
  ): void {
    this.safety.onApply(node, entries);
    for (const { index } of entries) {
      const decision = refusals.get(index) ?? 'applied';
      const isSame = decision === this.model.decisionAt(index);
      this.ledger.check('I20', isSame, 'a command takes effect that should not, or does not');
    }
    this.#checkShown(node, 'I5', 'another state is shown than was committed');
  }

  /** All keys are compared only when a state is new as a whole; else those of the last effect. */
  #checkShown(node: NodeProcess, id: 'I5' | 'I21', what: string): void {
    const { index } = node.state;
    for (let at = this.model.effects.length - 1; at >= 0; at -= 1) {
      const effect = this.model.effects[at];
      if (effect === undefined || index < effect.index) continue;
      const shown = node.physical.get(effect.key);
      const text = shown === undefined ? null : Buffer.from(shown).toString('latin1');
      this.ledger.check(id, text === effect.state.value, what);
      return;
    }
  }

  onTurn(node: NodeProcess, status: RaftStatus): void {
    this.safety.onChange(node, status);
    this.onCommitted();
    const isBelow = node.proposals.count() <= PROPOSALS_COUNT_MAX;
    this.ledger.check('I17', isBelow, 'more proposals wait than may');
  }
}

/** Those that wait, are taken, and are in flight, with one batch of slack between them. */
const PROPOSALS_COUNT_MAX = 64;

function isRecoveredAs(
  expected: LogImage,
  hardState: NodeDisks['hardState'],
  { hardState: found, snapshot, entries }: OpenedLog['recovered'],
): boolean {
  if (found.currentTerm !== hardState.currentTerm || found.votedFor !== hardState.votedFor) {
    return false;
  }
  if (snapshot.index + entries.length !== expected.lastIndex) return false;
  return entries.every(
    (entry) => entry.index <= expected.index || expected.termAt(entry.index) === entry.term,
  );
}

function copyOf(image: LogImage): LogImage {
  const copy = new LogImage();
  copy.reset(image.index, image.term);
  for (const entry of image.entries) copy.put(entry);
  return copy;
}
