/**
 * A forwarded write, and an active node that is cut off at every point on its way: whatever the
 * client is told is true, nothing takes effect twice, and all nodes end in the same state.
 */

import { setImmediate as turn } from 'node:timers/promises';

import { afterAll, beforeAll, describe, expect, test } from 'vitest';

import { asMultierror } from './errors.ts';
import type { Answer } from './http/exchange.ts';
import { ServingCluster } from './testing/serving-cluster.ts';
import type { ServingNode, Way } from './testing/serving-cluster.ts';

const TIMEOUT_MS = 60_000;

let cluster: ServingCluster;
beforeAll(async () => {
  cluster = await ServingCluster.formed(3);
  const { active } = await roles();
  const mount = { type: 'kv', options: { version: '2' } };
  await cluster.ask(active, 'PUT', 'sys/mounts/secret', mount);
  await cluster.stateHashes();
}, TIMEOUT_MS);
afterAll(() => cluster.close());

async function roles(): Promise<{ active: ServingNode; standby: ServingNode }> {
  const active = await cluster.active();
  const standby = cluster.nodes.find((node) => node !== active);
  if (standby === undefined) throw new Error('there is no standby');
  return { active, standby };
}

type Cut = () => void;
type Point = { readonly name: string; readonly way: (cut: Cut) => Partial<Way> };

/** Once, at the first request that comes by: its repetition finds another node, or the way free. */
const POINTS: readonly Point[] = [
  {
    name: 'before it is handled',
    way: (cut) => ({
      serve: (_request, proceed) => {
        cut();
        return proceed();
      },
    }),
  },
  {
    name: 'before it is proposed',
    way: (cut) => ({
      commit: (_commit, proceed) => {
        cut();
        return proceed();
      },
    }),
  },
  ...[0, 1, 2, 4, 8].map((turns): Point => ({
    name: `${turns} turns after it is proposed`,
    way: (cut) => ({
      commit: async (_commit, proceed) => {
        const outcome = proceed();
        for (let passed = 0; passed < turns; passed += 1) await turn();
        cut();
        return outcome;
      },
    }),
  })),
  {
    name: 'when it is decided',
    way: (cut) => ({
      commit: async (_commit, proceed) => {
        const outcome = await proceed();
        cut();
        return outcome;
      },
    }),
  },
  {
    name: 'when it is about to be answered',
    way: (cut) => ({
      serve: async (_request, proceed) => {
        const response = await proceed();
        cut();
        return response;
      },
    }),
  },
];

/** Sends one write through a standby, cuts the active node off at `point`, and mends it after. */
async function writeAcross(
  point: Point,
  request: { method: string; path: string; body: object },
): Promise<Answer> {
  const { active, standby } = await roles();
  const undisturbed = cluster.way;
  let hasCut = false;
  const cut = (): void => {
    if (!hasCut) active.member.peers.cut();
    hasCut = true;
  };
  cluster.way = { ...undisturbed, ...point.way(cut) };
  try {
    return await cluster.ask(standby, request.method, request.path, request.body);
  } finally {
    cluster.way = undisturbed;
    active.member.peers.mend();
    expect(hasCut, 'the point was passed').toBe(true);
    expect(new Set(await cluster.stateHashes()).size).toBe(1);
  }
}

const OUTCOMES_OF_A_MOUNT = [
  [204, true],
  [504, true],
  [504, false],
];

function dataOf(answer: Answer): Record<string, unknown> {
  const { data, auth } = JSON.parse(String(answer.body)) as Record<string, object>;
  return { ...data, ...auth };
}

describe.each(POINTS)('the active node is cut off $name', (point) => {
  test(
    'a check-and-set is answered as what it did, and done once',
    async () => {
      const path = `secret/data/${point.name.replaceAll(' ', '-')}`;
      const body = { data: { value: 1 }, options: { cas: 0 } };
      const answer = await writeAcross(point, { method: 'PUT', path, body });
      expect([answer.status, String(answer.body)]).toEqual([
        200,
        expect.stringContaining('"version":1'),
      ]);
      const { active } = await roles();
      const metadata = await cluster.ask(active, 'GET', path.replace('data', 'metadata'));
      expect(dataOf(metadata)['current_version']).toBe(1);
    },
    TIMEOUT_MS,
  );

  test(
    'a token that is told exists, and no other came of it',
    async () => {
      const { active: before } = await roles();
      const list = async (node: ServingNode): Promise<unknown[]> =>
        dataOf(await cluster.ask(node, 'LIST', 'auth/token/accessors'))['keys'] as unknown[];
      const known = (await list(before)).length;
      const request = { method: 'PUT', path: 'auth/token/create', body: { policies: ['default'] } };
      const answer = await writeAcross(point, request);
      const { active } = await roles();
      const made = (await list(active)).length - known;
      const token = dataOf(answer)['client_token'];
      const lookup = await cluster.ask(active, 'PUT', 'auth/token/lookup', { token });
      expect([answer.status, made, lookup.status]).toEqual([200, 1, 200]);
    },
    TIMEOUT_MS,
  );

  test(
    'of what is several writes it is said whether it was done, or that it was interrupted',
    async () => {
      const path = `sys/mounts/${point.name.replaceAll(' ', '-')}`;
      const answer = await writeAcross(point, { method: 'PUT', path, body: { type: 'kv' } });
      const { active } = await roles();
      const isThere = (await cluster.ask(active, 'GET', path)).status === 200;
      // Executed twice, it would be refused: the path is in use.
      expect(OUTCOMES_OF_A_MOUNT).toContainEqual([answer.status, isThere]);
    },
    TIMEOUT_MS,
  );
});

test('a refusal is told as one, whichever node was asked', async () => {
  const { active, standby } = await roles();
  const body = { server_id: 'nobody' };
  for (const node of [active, standby]) {
    const answer = await cluster.ask(node, 'PUT', 'sys/storage/raft/promote', body);
    expect([answer.status, JSON.parse(String(answer.body))]).toEqual([
      500,
      { errors: [asMultierror('server nobody not found in raft configuration')] },
    ]);
  }
});
