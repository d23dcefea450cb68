/** The real core, with somebody looking on: every input is followed by a look at what it did. */

import type { Message, Ready } from '../../raft/message.ts';
import { Raft, type ProposeResult, type RaftOptions, type RaftStatus } from '../../raft/raft.ts';

export type RaftObserver = {
  onStep(status: RaftStatus): void;
  onTick(status: RaftStatus): void;
  onMessage(before: RaftStatus, message: Message, after: RaftStatus): void;
  onReady(ready: Ready): void;
};

export class ObservedRaft extends Raft {
  readonly #observer: RaftObserver;
  /** As of the last input. Between two of them neither the role nor the term changes. */
  #last: RaftStatus;

  constructor(options: RaftOptions, observer: RaftObserver) {
    super(options);
    this.#observer = observer;
    this.#last = this.status();
  }

  override tick(): void {
    super.tick();
    this.#stepped((status) => this.#observer.onTick(status));
  }

  override step(message: Message): void {
    const before = this.#last;
    super.step(message);
    this.#stepped((after) => this.#observer.onMessage(before, message, after));
  }

  override propose(commands: readonly Uint8Array[]): ProposeResult {
    const result = super.propose(commands);
    this.#stepped();
    return result;
  }

  override campaign(): void {
    super.campaign();
    this.#stepped();
  }

  override storageAppendDone(appendToken: number): void {
    super.storageAppendDone(appendToken);
    this.#stepped();
  }

  override storageApplied(index: number): void {
    super.storageApplied(index);
    this.#stepped();
  }

  override ready(): Ready {
    const ready = super.ready();
    this.#observer.onReady(ready);
    return ready;
  }

  /** What the checker must know before it judges comes first. */
  #stepped(tell: (status: RaftStatus) => void = () => undefined): void {
    const status = this.status();
    this.#last = status;
    tell(status);
    this.#observer.onStep(status);
  }
}
