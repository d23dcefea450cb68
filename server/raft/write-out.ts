/** What of a server's hard state and log is handed out to be written, and under which token. */

import type { Election } from './election.ts';
import type { Log } from './log.ts';
import type { HardState, Ready } from './message.ts';

export type WriteOut = Pick<Ready, 'appendToken' | 'hardState' | 'snapshot' | 'entries'>;

const NO_WRITE: WriteOut = {
  appendToken: 0,
  hardState: undefined,
  snapshot: undefined,
  entries: [],
};

export class Writer {
  readonly #election: Election;
  readonly #log: Log;
  /** As last handed out. */
  #hardState: HardState;
  #lastToken = 0;

  constructor(hardState: HardState, ground: { readonly election: Election; readonly log: Log }) {
    this.#hardState = hardState;
    this.#election = ground.election;
    this.#log = ground.log;
  }

  get hasToWrite(): boolean {
    return this.#log.hasToWrite || this.#isHardStateChanged();
  }

  #isHardStateChanged(): boolean {
    return (
      this.#hardState.currentTerm !== this.#election.currentTerm ||
      this.#hardState.votedFor !== this.#election.votedFor
    );
  }

  /** `isTokenNeeded`: something waits for the disk, even if there is nothing more to write. */
  take(isTokenNeeded: boolean): WriteOut {
    const hasToWrite = this.hasToWrite;
    if (!hasToWrite && !isTokenNeeded) return NO_WRITE;
    // What earlier writes hold of the log is the most that this hint may call committed.
    const commitIndex = this.#log.hasToInstall
      ? this.#hardState.commitIndex
      : Math.min(this.#log.commitIndex, this.#log.writtenIndex);
    const isChanged = this.#isHardStateChanged() || commitIndex !== this.#hardState.commitIndex;
    this.#lastToken += 1;
    this.#election.beginWrite(this.#lastToken);
    const { snapshot, entries } = this.#log.beginWrite(this.#lastToken);
    if (!hasToWrite || !isChanged) {
      return { appendToken: this.#lastToken, hardState: undefined, snapshot, entries };
    }
    const { currentTerm, votedFor } = this.#election;
    this.#hardState = { currentTerm, votedFor, commitIndex };
    return { appendToken: this.#lastToken, hardState: this.#hardState, snapshot, entries };
  }
}

/** Name by name: in place of this a spread cost more than all the rest of an idle turn. */
export function readyOf(write: WriteOut, rest: Omit<Ready, keyof WriteOut>): Ready {
  return {
    appendToken: write.appendToken,
    hardState: write.hardState,
    snapshot: write.snapshot,
    entries: write.entries,
    messages: rest.messages,
    messagesAfterAppend: rest.messagesAfterAppend,
    committedEntries: rest.committedEntries,
    readStates: rest.readStates,
  };
}
