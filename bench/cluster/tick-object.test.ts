import { setFlagsFromString } from 'node:v8';
import { runInNewContext } from 'node:vm';
import { expect, test } from 'vitest';
import { keepTickObject } from './tick-object.ts';

setFlagsFromString('--allow-natives-syntax');
setFlagsFromString('--expose-gc');
const haveSameMap = new Function('a', 'b', 'return %HaveSameMap(a, b)') as (
  a: object,
  b: object,
) => boolean;
const collect = runInNewContext('gc') as () => void;

test('ticks keep their hidden class through collections in which none is pending', async () => {
  const [first, ...others] = keepTickObject();
  expect(others).toEqual([]);
  for (let round = 0; round < 5; round++) {
    // A turn without ticks: only what is kept holds the class.
    await new Promise((resolve) => setImmediate(resolve));
    collect();
  }
  const [, second] = keepTickObject();
  expect(haveSameMap(first ?? {}, second ?? [])).toBe(true);
});
