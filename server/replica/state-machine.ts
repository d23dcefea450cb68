/**
 * What committed commands do: the pure part of the state machine. Every node runs it over the same
 * entries and comes to the same operations and the same outcomes, however the entries are grouped.
 *
 * A command takes effect if its request did not before, and if everything that it read still
 * reads the same (OpenBao internal/physical/raft/fsm.go, `applyBatchTxOps`). Otherwise it is an
 * entry without any effect, and its proposer is told the outcome. Unlike in OpenBao, a key that is
 * written without having been read is no condition.
 *
 * An entry sees the entries before it in its group. Only listings look at the store alone: an
 * entry that lists is the first of its group (`startsGroup`), and gets the children handed in.
 */

import assert from 'node:assert/strict';
import type { CommitOutcome } from '../core/ports.ts';
import { decodeCommand, verifiesLists } from '../storage/command.ts';
import type { Command, VerifyList } from '../storage/command.ts';
import { fingerprintOf, fingerprintOfList } from '../storage/fingerprint.ts';
import type { Store, StoreOperation } from '../storage/store.ts';
import { SessionTable } from './session-table.ts';

export type Refusal = Exclude<CommitOutcome['kind'], 'applied'>;

type Reader = Pick<Store, 'get' | 'list'>;

/** Whether an entry must be applied after everything before it is published. */
export function startsGroup(command: Uint8Array): boolean {
  return verifiesLists(command);
}

/** The effect of one group of entries on a store that stands just before it. */
export class GroupEffect {
  readonly #store: Reader;
  readonly #operations: StoreOperation[] = [];
  /** What the first `#writtenCount` operations wrote: looked at by conditions only, made for them. */
  readonly #written = new Map<string, Uint8Array | undefined>();
  #writtenCount = 0;
  readonly #sessions: SessionTable;

  constructor(store: Reader) {
    this.#store = store;
    this.#sessions = new SessionTable((key) => this.#get(key));
  }

  /** Undefined if the command takes effect. Must not be called before a promise of it is settled. */
  execute(index: number, bytes: Uint8Array): Refusal | undefined | Promise<Refusal | undefined> {
    const command = decodeCommand(bytes);
    const { lists } = command;
    if (lists.length === 0) return this.#execute(index, command, true);
    assert(this.#operations.length === 0, 'an entry that lists is the first of its group');
    return this.#listsHold(lists).then((hold) => this.#execute(index, command, hold));
  }

  /** In order; what the group did to the sessions comes last. */
  operations(): readonly StoreOperation[] {
    return [...this.#operations, ...this.#sessions.operations()];
  }

  #execute(index: number, command: Command, listsHold: boolean): Refusal | undefined {
    const { stamp, reads, operations } = command;
    if (stamp !== undefined) {
      const standing = this.#sessions.standing(stamp);
      if (standing === 'expired') return 'expired';
      if (stamp.phase === 'once' && standing === 'recorded') return 'duplicate';
      // To finish what never began would make up a record of an effect.
      if (stamp.phase === 'finish' && standing === 'new') return 'expired';
    }
    const readsHold = reads.every(({ key, fingerprint }) =>
      fingerprintOf(this.#get(key)).equals(fingerprint),
    );
    if (!readsHold || !listsHold) return 'conflict';
    for (const operation of operations) this.#operations.push(operation);
    if (stamp !== undefined) this.#operations.push(...this.#sessions.record(stamp, index));
    return undefined;
  }

  #get(key: string): Uint8Array | undefined {
    for (; this.#writtenCount < this.#operations.length; this.#writtenCount += 1) {
      const operation = this.#operations[this.#writtenCount];
      if (operation?.kind === 'put') this.#written.set(operation.key, operation.value);
      else if (operation !== undefined) this.#written.set(operation.key, undefined);
    }
    return this.#written.has(key) ? this.#written.get(key) : this.#store.get(key);
  }

  async #listsHold(lists: readonly VerifyList[]): Promise<boolean> {
    for (const { prefix, after, limit, fingerprint } of lists) {
      const page = { after, limit: limit === 0 ? undefined : limit };
      const children = await this.#store.list(prefix, page);
      if (!fingerprintOfList(children).equals(fingerprint)) return false;
    }
    return true;
  }
}
