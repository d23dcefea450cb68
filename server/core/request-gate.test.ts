import { describe, expect, test } from 'vitest';
import { RequestGate } from './request-gate.ts';
import type { DrainOptions } from './request-gate.ts';

const OPTIONS: DrainOptions = {
  drainMsMax: 60_000,
  signal: new AbortController().signal,
  onOverdue: () => undefined,
};

describe('RequestGate', () => {
  test('is closed in the same turn, and opens when the change is done', async () => {
    const gate = new RequestGate();
    const closed = gate.closeWhile(OPTIONS, async () => undefined);
    expect(gate.opened).toBeDefined();
    await gate.opened;
    await closed;
    expect(gate.opened).toBeUndefined();
  });

  test('lets those inside finish before the change', async () => {
    const gate = new RequestGate();
    const events: string[] = [];
    gate.enter();
    gate.enter();
    const closed = gate.closeWhile(OPTIONS, async () => void events.push('change'));
    await Promise.resolve();
    events.push('left');
    gate.leave();
    gate.leave();
    await closed;
    expect(events).toEqual(['left', 'change']);
  });

  test('overlapping changes run one by one, with the gate closed throughout', async () => {
    const gate = new RequestGate();
    const events: string[] = [];
    const change = (name: string) => async () => {
      events.push(`${name} begins`);
      await Promise.resolve();
      events.push(`${name} ends`);
    };
    const first = gate.closeWhile(OPTIONS, change('first'));
    const second = gate.closeWhile(OPTIONS, change('second'));
    await first;
    expect(gate.opened).toBeDefined();
    await second;
    expect(events).toEqual(['first begins', 'first ends', 'second begins', 'second ends']);
    expect(gate.opened).toBeUndefined();
  });

  test('opens again when the change fails, and the next one is not affected', async () => {
    const gate = new RequestGate();
    const failing = gate.closeWhile(OPTIONS, () => Promise.reject(new Error('no')));
    await expect(failing).rejects.toThrow('no');
    expect(gate.opened).toBeUndefined();
    await gate.closeWhile(OPTIONS, async () => undefined);
  });

  test('does not wait for ever: neither beyond its limit nor after an abort', async () => {
    const gate = new RequestGate();
    gate.enter();
    const overdue: number[] = [];
    const onOverdue = (inside: number): void => void overdue.push(inside);
    await gate.closeWhile({ ...OPTIONS, drainMsMax: 1, onOverdue }, async () => undefined);
    expect(overdue).toEqual([1]);
    const abort = new AbortController();
    const closed = gate.closeWhile({ ...OPTIONS, signal: abort.signal }, async () => undefined);
    abort.abort();
    await closed;
    expect(gate.inside).toBe(1);
  });
});
