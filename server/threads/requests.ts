/** Questions asked of another thread that are not answered yet. */

import { packError, unpackError } from './packed-error.ts';
import type { PackedError } from './packed-error.ts';

export type Answer<Value> =
  | { readonly kind: 'done'; readonly value: Value }
  | { readonly kind: 'failed'; readonly error: PackedError };

type Waiting<Value> = {
  readonly resolve: (value: Value) => void;
  readonly reject: (error: Error) => void;
};

export class Requests<Value> {
  readonly #waiting = new Map<number, Waiting<Value>>();
  #last = 0;
  #failure: Error | undefined;

  /** `post` is given the number under which the answer comes. */
  ask(post: (request: number) => void): Promise<Value> {
    if (this.#failure !== undefined) return Promise.reject(this.#failure);
    this.#last += 1;
    const request = this.#last;
    return new Promise((resolve, reject) => {
      this.#waiting.set(request, { resolve, reject });
      post(request);
    });
  }

  settle(request: number, answer: Answer<Value>): void {
    const waiting = this.#waiting.get(request);
    this.#waiting.delete(request);
    if (answer.kind === 'done') waiting?.resolve(answer.value);
    else waiting?.reject(unpackError(answer.error));
  }

  /** There will be no answers any more. */
  fail(error: Error): void {
    this.#failure = error;
    for (const waiting of this.#waiting.values()) waiting.reject(error);
    this.#waiting.clear();
  }
}

/** Never rejects: what `act` ends with is the answer. */
export async function answerOf<Value>(act: () => Promise<Value>): Promise<Answer<Value>> {
  try {
    return { kind: 'done', value: await act() };
  } catch (error) {
    return { kind: 'failed', error: packError(error) };
  }
}
