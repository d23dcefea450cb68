/** What became of each question for a read index, on both sides. Each is asked once, of one leader. */

import type { ReadState } from '../../server/raft/message.ts';
import type { Envelope } from '../../server/testing/simulated-node.ts';
import { Disagreement } from './agreement.ts';
import type { WireMessage } from './message.ts';

type Answers = { readonly bound: number; ours?: number; theirs?: number };

export class ReadBook {
  readonly #answers = new Map<string, Answers>();

  expect(id: number, bound: number): void {
    this.#answers.set(String(id), { bound });
  }

  /** Takes what a leader has told. Returns how many answers of etcd's are older than they may be. */
  note(
    ours: { readonly envelopes: readonly Envelope[]; readonly reads: readonly ReadState[] },
    theirs: {
      readonly messages: readonly WireMessage[];
      readonly reads: readonly { readonly id: string; readonly index: number }[];
    },
  ): number {
    for (const { message } of ours.envelopes) {
      if (message.kind === 'readIndexResponse' && message.success) {
        this.#answer('ours', String(message.id), message.index);
      }
    }
    for (const read of ours.reads) {
      if (read.kind === 'confirmed') this.#answer('ours', String(read.id), read.index);
    }
    const told = theirs.messages
      .filter(({ kind }) => kind === 'readIndexResponse')
      .map(({ context = '', index = 0 }) => ({ id: context, index }));
    const answers = [...told, ...theirs.reads];
    for (const { id, index } of answers) this.#answer('theirs', id, index);
    return answers.filter(({ id, index }) => index < (this.#answers.get(id)?.bound ?? 0)).length;
  }

  get comparedCount(): number {
    return [...this.#answers.values()].filter(
      ({ ours, theirs }) => ours !== undefined && theirs !== undefined,
    ).length;
  }

  /** The second answer to a question is the first one, arrived. */
  #answer(side: 'ours' | 'theirs', id: string, index: number): void {
    const answers = this.#answers.get(id);
    if (answers === undefined) throw new Disagreement(`${side}: an answer to no question, ${id}`);
    if (answers[side] !== undefined && answers[side] !== index) {
      throw new Disagreement(`${side}: read ${id} is answered with ${answers[side]} and ${index}`);
    }
    answers[side] = index;
    if (side === 'ours' && index < answers.bound) {
      throw new Disagreement(`read ${id} at ${index} misses what was committed, ${answers.bound}`);
    }
    const { ours, theirs } = answers;
    if (ours !== undefined && theirs !== undefined && ours !== theirs) {
      throw new Disagreement(`read ${id}: ours at ${ours}, etcd's at ${theirs}`);
    }
  }
}
