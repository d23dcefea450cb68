import { describe, expect, test } from 'vitest';
import { createCall, startTestCluster } from '../testing/core-node.ts';

describe('core', () => {
  test('a value written on the active node is read there, and on a standby once delivered', async () => {
    const { active, rootToken, standby } = await startTestCluster();
    const other = await standby(1);
    const write = createCall('update', 'secret/a', rootToken, { data: { value: 'x' } });
    await active.core.handleRequest(write);
    const read = createCall('read', 'secret/a', rootToken);
    expect(await active.core.handleRequest(read)).toEqual({ data: { value: 'x' } });
    expect(await other.core.handleRequest(read)).toBeUndefined();
    other.memory.deliver();
    expect(await other.core.handleRequest(read)).toEqual({ data: { value: 'x' } });
    await expect(other.core.handleRequest(write)).rejects.toMatchObject({
      code: 'standby-please-forward',
    });
  });
});
