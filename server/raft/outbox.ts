/** Messages on their way out, parted by whether they must wait for this node's disk. */

import type { Message } from './message.ts';

export class Outbox {
  #messages: Message[] = [];
  #messagesAfterAppend: Message[] = [];

  /** The message says nothing that a crash of this node could make untrue. */
  send(message: Message): void {
    this.#messages.push(message);
  }

  /** The message speaks of the term, vote or log: these must be durable before it leaves. */
  sendAfterAppend(message: Message): void {
    this.#messagesAfterAppend.push(message);
  }

  get isEmpty(): boolean {
    return this.#messages.length + this.#messagesAfterAppend.length === 0;
  }

  /** With `isAllDurable` there is nothing to wait for, and all messages may leave at once. */
  take(isAllDurable: boolean): { messages: Message[]; messagesAfterAppend: Message[] } {
    const messages = this.#messages;
    const messagesAfterAppend = this.#messagesAfterAppend;
    this.#messages = [];
    this.#messagesAfterAppend = [];
    return isAllDurable
      ? { messages: [...messages, ...messagesAfterAppend], messagesAfterAppend: [] }
      : { messages, messagesAfterAppend };
  }
}
