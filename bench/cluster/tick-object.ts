/**
 * Keeps `process.nextTick` fast for the life of a process: servers, bare or not, and generator alike.
 *
 * Node makes one small object per tick, in code that V8 optimises for the hidden class it has seen.
 * V8 holds that class weakly: a major collection at a moment without a pending tick drops it, the
 * next tick gets a new one, and from then on every field is stored by a slow call into the runtime.
 * A request takes about eight ticks, so a read on a node that has once been idle costs a fifth more
 * CPU than on one that has not, by chance and for good. One such object kept alive keeps the class.
 */

import { createHook } from 'node:async_hooks';

/** Kept for ever: none before the first call, and one object per call. */
const kept: object[] = [];

/** Call it first thing. Returns what is kept; empty if this Node calls its ticks by another name. */
export function keepTickObject(): readonly object[] {
  const hook = createHook({
    init: (_id, type, _trigger, resource: object) => {
      if (type === 'TickObject') kept.push(resource);
    },
  });
  hook.enable();
  process.nextTick(() => {});
  hook.disable();
  return kept;
}
