/** What surrounds the measurement: the bare server's life, and how the result reads. */

import { mkdtempSync, rmSync, writeFileSync } from 'node:fs';
import { tmpdir } from 'node:os';
import { join } from 'node:path';

import { afterAll, beforeAll, describe, expect, test } from 'vitest';

import { describeReadCost, measureReadCost, startBare } from './read-cost.ts';

let directory: string;
beforeAll(() => {
  directory = mkdtempSync(join(tmpdir(), 'baobench-read-cost-test-'));
});
afterAll(() => rmSync(directory, { recursive: true, force: true }));

function answerFile(text: string): string {
  const file = join(directory, 'answer.json');
  writeFileSync(file, text);
  return file;
}

const ANSWER = JSON.stringify({ status: 200, headers: ['x-served-by', 'bare'], body: 'bytes' });

describe('bare server', () => {
  test('sends the recorded answer until it is stopped', async () => {
    const bare = await startBare(answerFile(ANSWER));
    try {
      const answer = await fetch(bare.address);
      expect(await answer.text()).toBe('bytes');
      expect(answer.headers.get('x-served-by')).toBe('bare');
    } finally {
      await bare.stop();
    }
  });

  test('can be stopped when a signal has ended it already', async () => {
    const bare = await startBare(answerFile(ANSWER));
    process.kill(bare.processId, 'SIGINT');
    await bare.stop();
    await expect(bare.stop(), 'long after').resolves.toBeUndefined();
  });

  test('says that it did not start', async () => {
    await expect(startBare(join(directory, 'missing.json'))).rejects.toThrow(
      /^the bare server did not start: [^]*ENOENT/,
    );
  });
});

test('an interruption ends the measurement as soon as its cluster can be stopped', async () => {
  const signal = AbortSignal.abort(new Error('interrupted'));
  await expect(measureReadCost(signal)).rejects.toThrow('interrupted');
});

describe('describeReadCost()', () => {
  const cost = {
    standbyCpuUs: 40,
    bareCpuUs: 20,
    ratio: { value: 2, unit: 'ratio', low: 1.9, high: 2.1 },
  };

  test.each([
    [true, 0],
    [false, 1],
  ])('says that a ratio was made without CPU groups (quota: %s)', (hasQuota, count) => {
    const text = describeReadCost({ ...cost, hasQuota }).join('\n');
    expect(text).toContain('2.00 [1.90, 2.10]');
    expect(text.match(/Modelled without CPU groups/g) ?? []).toHaveLength(count);
  });
});
