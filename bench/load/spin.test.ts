import { setImmediate as nextTurn } from 'node:timers/promises';
import { expect, test } from 'vitest';

import { monotonicNs } from './clock.ts';
import { startSpin } from './spin.ts';

test('startSpin() tells a loop with work from an idle one', async () => {
  const idle = await startSpin(monotonicNs);
  for (let turn = 0; turn < 2_000; turn++) await nextTurn();
  const idleShare = idle.stop();

  const busy = await startSpin(monotonicNs);
  let waste = 0;
  for (let turn = 0; turn < 200; turn++) {
    for (let i = 0; i < 200_000; i++) waste += i;
    await nextTurn();
  }
  const busyShare = busy.stop();
  expect(waste).toBeGreaterThan(0);
  expect(busyShare).toBeGreaterThan(0.8);
  expect(busyShare).toBeGreaterThan(idleShare);
});
