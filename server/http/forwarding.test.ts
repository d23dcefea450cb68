import { setImmediate as turn } from 'node:timers/promises';

import { describe, expect, test } from 'vitest';

import type { WireRequest, WireResponse } from '../cluster/forwarding.ts';
import type { Leader } from '../core/core-options.ts';
import type { StampedRequest } from '../core/exactly-once.ts';
import { ServerError, type ErrorCode } from '../errors.ts';
import { EMPTY_BODY } from './exchange.ts';
import { forwardToActive, type Forwarded } from './forwarding.ts';
import { readHead } from './request-head.ts';
import { RequestStamps } from './request-stamps.ts';

const ANSWER: WireResponse = { status: 200, headers: {}, body: Buffer.from('done'), index: 7 };

type Reply = WireResponse | ErrorCode | (() => WireResponse | ErrorCode | Promise<WireResponse>);

/** A standby whose leaders answer what the test says, attempt by attempt. */
class Standby {
  leader: Leader | undefined = leaderAt('n2:1');
  isStandby = true;
  applied = 5;
  readonly asked: { readonly address: string; readonly request: WireRequest }[] = [];
  readonly listeners = new Set<() => void>();
  readonly stamps = new RequestStamps(() => this.applied);
  handledHere: (stamped: StampedRequest | undefined) => ErrorCode | undefined = () => undefined;

  forward(replies: readonly Reply[], isRepeatable = true, leaderWaitMs = 200): Promise<Forwarded> {
    const left = [...replies];
    const forwarding = {
      core: { leader: () => this.leader, standby: () => this.isStandby },
      forward: async (address: string, request: WireRequest): Promise<WireResponse> => {
        this.asked.push({ address, request });
        const next = left.length > 1 ? left.shift() : left[0];
        const reply = await (typeof next === 'function' ? next() : next);
        if (typeof reply === 'object') return reply;
        throw new ServerError(reply ?? 'internal', 'why');
      },
      onLeaderChange: (listener: () => void) => {
        this.listeners.add(listener);
        return () => this.listeners.delete(listener);
      },
      stamps: this.stamps,
      limits: { leaderWaitMs, requestMs: 1000 },
    };
    const incoming = {
      id: 'id',
      method: 'PUT',
      url: '/v1/a',
      rawHeaders: [],
      head: readHead([]),
      body: EMPTY_BODY,
      remoteAddress: '',
      isForwarded: false,
    };
    return forwardToActive(forwarding, incoming, {
      isRepeatable,
      handleHere: async (stamped) => {
        const code = this.handledHere(stamped);
        if (code !== undefined) throw new ServerError(code, 'why');
        return { status: 200, headers: [], body: `here, ${stamped?.isRepeated}` };
      },
    });
  }

  elect(address: string): void {
    this.leader = leaderAt(address);
    for (const listener of [...this.listeners]) listener();
  }

  /** Where each attempt went, under which number, and whether it was said to be a repetition. */
  attempts(): unknown[] {
    return this.asked.map(({ address, request: { stamp } }) => [
      address,
      stamp?.sequence,
      stamp?.isRepeated,
    ]);
  }
}

function leaderAt(clusterAddress: string): Leader {
  return { isSelf: false, nodeId: 'n', redirectAddress: '', clusterAddress, activeTimeMs: null };
}

describe('a request whose outcome is unknown', () => {
  test('is asked again under its stamp, until somebody answers', async () => {
    const node = new Standby();
    const moved = (): ErrorCode => {
      node.leader = leaderAt('n3:1');
      return 'outcome-unknown';
    };
    const answer = await node.forward([moved, 'no-leader', 'outcome-unknown', ANSWER]);
    expect(answer).toEqual({ kind: 'there', response: ANSWER });
    expect(node.attempts()).toEqual([
      ['n2:1', 1, false],
      ['n3:1', 1, true],
      ['n3:1', 1, true],
      ['n3:1', 1, true],
    ]);
    expect(node.stamps.underWay).toBe(0);
  });

  test('stays unknown, whatever the last attempt met, when time is up', async () => {
    for (const last of ['outcome-unknown', 'no-leader', 'sealed'] as const) {
      const node = new Standby();
      await expect(node.forward(['outcome-unknown', last], true, 20)).rejects.toMatchObject({
        code: 'outcome-unknown',
      });
      expect(node.asked.length).toBeGreaterThan(1);
      expect(node.stamps.underWay).toBe(0);
    }
  });

  test('is not asked again without a stamp', async () => {
    const node = new Standby();
    const pending = node.forward(['no-leader', 'outcome-unknown', ANSWER], false);
    await expect(pending).rejects.toMatchObject({ code: 'outcome-unknown' });
    expect(node.attempts()).toEqual([
      ['n2:1', undefined, undefined],
      ['n2:1', undefined, undefined],
    ]);
  });

  test('is asked of the next leader while the former one still holds it', async () => {
    const node = new Standby();
    const held: Reply = () => new Promise(() => undefined);
    const pending = node.forward([held, ANSWER]);
    while (node.asked.length === 0) await turn();
    node.elect('n3:1');
    expect(await pending).toEqual({ kind: 'there', response: ANSWER });
    expect(node.attempts()).toEqual([
      ['n2:1', 1, false],
      ['n3:1', 1, true],
    ]);
    expect(node.listeners.size).toBe(0);
  });

  test('is handled here, as a repetition, by a node that became active', async () => {
    const node = new Standby();
    const promoted = (): ErrorCode => {
      node.isStandby = false;
      return 'outcome-unknown';
    };
    const forwarded = await node.forward([promoted]);
    expect(forwarded).toMatchObject({ kind: 'here', answer: { body: 'here, true' } });

    node.isStandby = true;
    node.handledHere = () => 'no-leader';
    await expect(node.forward([promoted])).rejects.toMatchObject({ code: 'outcome-unknown' });
    node.isStandby = true;
    node.handledHere = () => 'permission-denied';
    await expect(node.forward([promoted])).rejects.toMatchObject({ code: 'permission-denied' });
  });
});

describe('a session that the active node has forgotten', () => {
  test('is replaced where nothing is in doubt', async () => {
    const node = new Standby();
    const expired = (): ErrorCode => {
      node.applied = 9;
      return 'session-expired';
    };
    expect(await node.forward([expired, ANSWER])).toMatchObject({ kind: 'there' });
    const stamps = node.asked.map(({ request }) => request.stamp);
    expect(stamps.map((stamp) => stamp?.openedIndex)).toEqual([5, 9]);
    expect(new Set(stamps.map((stamp) => stamp?.session)).size).toBe(2);
  });

  test('leaves what is in doubt in doubt', async () => {
    const pending = new Standby().forward(['outcome-unknown', 'session-expired']);
    await expect(pending).rejects.toMatchObject({ code: 'outcome-unknown' });
  });

  test('is replaced so often and no more', async () => {
    const node = new Standby();
    await expect(node.forward(['session-expired'])).rejects.toMatchObject({ code: 'no-leader' });
    expect(node.asked).toHaveLength(2);
  });
});

test('what is acknowledged lies below all that is under way', () => {
  const stamps = new RequestStamps(() => 0);
  const [one, two, three] = [stamps.take(), stamps.take(), stamps.take()];
  expect([one, two, three].map((stamp) => stamp.acknowledgedBelow)).toEqual([1, 1, 1]);
  stamps.release(two);
  expect(stamps.take().acknowledgedBelow).toBe(1);
  stamps.release(one);
  expect(stamps.take().acknowledgedBelow).toBe(3);
  stamps.release(three);
  expect(stamps.take().acknowledgedBelow).toBe(4);
});
