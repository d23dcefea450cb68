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

  constructor(options: RaftOptions, observer: RaftObserver) {
    super(options);
    this.#observer = observer;
  }

  override tick(): void {
    super.tick();
    const status = this.status();
    this.#observer.onTick(status);
    this.#observer.onStep(status);
  }

  override step(message: Message): void {
    const before = this.status();
    super.step(message);
    const after = this.status();
    this.#observer.onMessage(before, message, after);
    this.#observer.onStep(after);
  }

  override propose(commands: readonly Uint8Array[]): ProposeResult {
    const result = super.propose(commands);
    this.#observer.onStep(this.status());
    return result;
  }

  override campaign(): void {
    super.campaign();
    this.#observer.onStep(this.status());
  }

  override storageAppendDone(appendToken: number): void {
    super.storageAppendDone(appendToken);
    this.#observer.onStep(this.status());
  }

  override storageApplied(index: number): void {
    super.storageApplied(index);
    this.#observer.onStep(this.status());
  }

  override ready(): Ready {
    const ready = super.ready();
    this.#observer.onReady(ready);
    return ready;
  }
}
