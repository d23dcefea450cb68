/**
 * Flow control seen from outside: how much a leader sends to a server that does not answer.
 *
 * What the core decides to send is seen only when its output is taken. News of the other server
 * that came in between may each have opened the window once, so that each is allowed for.
 */

import type { AppendEntries, Message, NodeId } from '../../raft/message.ts';
import type { Ledger } from './invariants.ts';

export type WindowLimits = {
  readonly appendBytesMax: number;
  readonly inflightAppendsMax: number;
};

/** What one server has sent another since it last heard anything of it. */
type Window = { term: number; appends: number; news: number; isOutputTaken: boolean };

/** What an entry takes beside its command. */
const ENTRY_HEADER_BYTES = 21;

export class AppendWindows {
  readonly #ledger: Ledger;
  readonly #limits: WindowLimits;
  readonly #unanswered = new Map<NodeId, Map<NodeId, Window>>();

  constructor(ledger: Ledger, limits: WindowLimits) {
    this.#ledger = ledger;
    this.#limits = limits;
  }

  forget(id: NodeId): void {
    this.#unanswered.delete(id);
  }

  onAppend({ from, to, term, entries }: AppendEntries): void {
    const [first, ...more] = entries;
    if (first === undefined) return;
    let bytes = ENTRY_HEADER_BYTES + first.command.length;
    for (const entry of more) bytes += ENTRY_HEADER_BYTES + entry.command.length;
    const fits = more.length === 0 || bytes <= this.#limits.appendBytesMax;
    this.#ledger.check('I16', fits, 'an append is larger than its limit');

    const window = this.#window(from, to);
    if (window.term !== term) {
      window.term = term;
      window.appends = 0;
    }
    window.appends += 1;
    // One more: a probe may follow a window that was given up.
    const appendsMax = (this.#limits.inflightAppendsMax + 1) * (1 + window.news);
    this.#ledger.check('I16', window.appends <= appendsMax, 'appends beyond the window');
  }

  onReady(id: NodeId): void {
    for (const window of this.#unanswered.get(id)?.values() ?? []) window.isOutputTaken = true;
  }

  /** Any word of the other, or about it, may open the window again. */
  onDeliver({ from, to }: Message): void {
    this.onNews(to, from);
  }

  onNews(id: NodeId, about: NodeId): void {
    const window = this.#unanswered.get(id)?.get(about);
    if (window === undefined) return;
    if (window.isOutputTaken) {
      window.appends = 0;
      window.news = 0;
      window.isOutputTaken = false;
    }
    window.news += 1;
  }

  #window(from: NodeId, to: NodeId): Window {
    let windows = this.#unanswered.get(from);
    if (windows === undefined) {
      windows = new Map();
      this.#unanswered.set(from, windows);
    }
    let window = windows.get(to);
    if (window === undefined) {
      window = { term: 0, appends: 0, news: 0, isOutputTaken: false };
      windows.set(to, window);
    }
    return window;
  }
}
