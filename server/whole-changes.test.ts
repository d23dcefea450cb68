/**
 * Writers on all nodes, and on a standby a reader in every turn in which something becomes visible:
 * nobody ever sees half of a change, and no two writers ever both win.
 */

import { afterAll, beforeAll, expect, test } from 'vitest';

import type { LogicalResponse } from './core/backend.ts';
import type { Answer } from './http/exchange.ts';
import { createCall } from './testing/core-node.ts';
import { ServingCluster } from './testing/serving-cluster.ts';
import type { ServingNode } from './testing/serving-cluster.ts';

const WRITERS_PER_NODE = 3;
const INCREMENTS = 60;

let cluster: ServingCluster;
beforeAll(async () => {
  cluster = await ServingCluster.formed(3);
  const mount = { type: 'kv', options: { version: '2' } };
  await cluster.ask(await cluster.active(), 'PUT', 'sys/mounts/secret', mount);
  await cluster.stateHashes();
}, 60_000);
afterAll(() => cluster.close());

function dataOf(answer: Answer): { data?: { n: number }; metadata?: { version: number } } {
  return (JSON.parse(String(answer.body)) as { data: object }).data;
}

/** Adds one by check-and-set, as often as it takes until the count is reached; says how often. */
async function countUp(node: ServingNode): Promise<number> {
  let wins = 0;
  for (;;) {
    const read = await cluster.ask(node, 'GET', 'secret/data/n');
    const current = read.status === 404 ? { n: 0, version: 0 } : versionOf(read);
    // What was read may be behind: then the check fails, wherever it is made.
    if (INCREMENTS <= current.n) return wins;
    const body = { data: { n: current.n + 1 }, options: { cas: current.version } };
    const answer = await cluster.ask(node, 'PUT', 'secret/data/n', body);
    expect([200, 400]).toContain(answer.status);
    if (answer.status === 200) wins += 1;
  }
}

function versionOf(read: Answer): { n: number; version: number } {
  const { data, metadata } = dataOf(read);
  return { n: data?.n ?? NaN, version: metadata?.version ?? NaN };
}

test('check-and-set through three nodes at once loses and doubles nothing', async () => {
  const { nodes } = cluster;
  const active = await cluster.active();
  const standby = nodes.find((node) => node !== active);
  if (standby === undefined) throw new Error('there is no standby');
  const seen: unknown[] = [];
  const halves: unknown[] = [];
  const look = async (): Promise<void> => {
    const read = (path: string): Promise<LogicalResponse | undefined> =>
      standby.core.handleRequest(createCall('read', path, cluster.rootToken));
    // Both read what they read before this turn ends.
    const [data, metadata] = await Promise.all([read('secret/data/n'), read('secret/metadata/n')]);
    if (data?.dataJson === undefined) return;
    const { n } = (JSON.parse(data.dataJson) as { data: { n: number } }).data;
    const version = metadata?.data?.['current_version'];
    seen.push(n);
    // Every win adds one to both.
    if (n !== version) halves.push({ n, version });
  };
  const looks: Promise<void>[] = [];
  const unsubscribe = standby.member.replica.changeFeed.subscribe(() => looks.push(look()));

  const writers = nodes.flatMap((node) =>
    Array.from({ length: WRITERS_PER_NODE }, () => countUp(node)),
  );
  const wins = await Promise.all(writers);
  unsubscribe();
  await Promise.all(looks);

  expect(wins.reduce((sum, count) => sum + count, 0)).toBe(INCREMENTS);
  expect(versionOf(await cluster.ask(active, 'GET', 'secret/data/n'))).toEqual({
    n: INCREMENTS,
    version: INCREMENTS,
  });
  expect(halves).toEqual([]);
  expect(seen.length).toBeGreaterThan(INCREMENTS / 2);
  expect(new Set(await cluster.stateHashes()).size).toBe(1);
}, 60_000);

test('a token is never seen without its accessor, nor without its place under its parent', async () => {
  const active = await cluster.active();
  const standby = cluster.nodes.find((node) => node !== active);
  if (standby === undefined) throw new Error('there is no standby');
  const { physical, changeFeed } = standby.member.replica;
  const counts: Promise<number[]>[] = [];
  const unsubscribe = changeFeed.subscribe(() => {
    // Listings of one turn are of one state.
    const lists = ['id/', 'accessor/', 'parent/'].map((below) =>
      physical.list(`sys/token/${below}`),
    );
    counts.push(Promise.all(lists).then((all) => all.map(({ length }) => length)));
  });
  const create = async (): Promise<string> => {
    const answer = await cluster.ask(standby, 'PUT', 'auth/token/create', {});
    return (JSON.parse(String(answer.body)) as { auth: { client_token: string } }).auth
      .client_token;
  };
  const tokens = await Promise.all(Array.from({ length: 10 }, create));
  await Promise.all(
    tokens.map((token) => cluster.ask(standby, 'PUT', 'auth/token/revoke', { token })),
  );
  unsubscribe();

  const seen = await Promise.all(counts);
  // The root token, and the children that it has at that moment, all below one parent.
  for (const [ids = 0, accessors, parents] of seen) {
    expect([accessors, parents]).toEqual([ids, ids > 1 ? 1 : 0]);
  }
  expect(Math.max(...seen.map(([ids = 0]) => ids))).toBe(11);
  expect(seen.at(-1)).toEqual([1, 1, 0]);
}, 60_000);
