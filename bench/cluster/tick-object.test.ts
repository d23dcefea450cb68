import { createHook } from 'node:async_hooks';
import { setFlagsFromString } from 'node:v8';
import { runInNewContext } from 'node:vm';
import { expect, test } from 'vitest';
import { keptTickObjects } from './tick-object.ts';

setFlagsFromString('--allow-natives-syntax');
setFlagsFromString('--expose-gc');
const haveSameMap = new Function('a', 'b', 'return %HaveSameMap(a, b)') as (
  a: object,
  b: object,
) => boolean;
const collect = runInNewContext('gc') as () => void;

test('ticks keep their hidden class through collections in which none is pending', async () => {
  expect(keptTickObjects).toHaveLength(1);
  for (let round = 0; round < 5; round++) {
    // A turn without ticks: only what is kept holds the class.
    await new Promise((resolve) => setImmediate(resolve));
    collect();
  }
  expect(haveSameMap(tickObject(), keptTickObjects[0] ?? {})).toBe(true);
});

function tickObject(): object {
  const seen: object[] = [];
  const hook = createHook({
    init: (_id, type, _trigger, resource: object) => {
      if (type === 'TickObject') seen.push(resource);
    },
  });
  hook.enable();
  process.nextTick(() => {});
  hook.disable();
  return seen[0] ?? {};
}
