/** A resource with users that come and go; once retired it ends when the last one has left. */

import assert from 'node:assert/strict';

export class SharedResource {
  readonly #end: () => Promise<void>;
  #userCount = 0;
  #whenUnused: (() => void) | undefined;
  #isRetired = false;

  constructor(end: () => Promise<void>) {
    this.#end = end;
  }

  /** Returns the leave, to be called once. */
  enter(): () => void {
    assert(!this.#isRetired, 'a retired resource gets a new user');
    this.#userCount += 1;
    return () => {
      this.#userCount -= 1;
      if (this.#userCount === 0) this.#whenUnused?.();
    };
  }

  /** Resolves when the resource has ended. */
  async retire(): Promise<void> {
    assert(!this.#isRetired, 'a resource is retired twice');
    this.#isRetired = true;
    if (this.#userCount > 0) {
      await new Promise<void>((resolve) => {
        this.#whenUnused = resolve;
      });
    }
    await this.#end();
  }
}
