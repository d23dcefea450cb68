import { describe, expect, test } from 'vitest';

import type { ErrorCode } from '../errors.ts';
import { EMPTY_BODY } from './exchange.ts';
import type { HandlerSettings } from './request-handler.ts';
import { ask, header, indexOf, Node } from './testing/node.ts';

describe('the index headers', () => {
  const behind = indexOf(11);
  const seen = indexOf(10);
  const foreign = indexOf(99, 'c2');
  test.each<
    [
      index: string | undefined,
      inconsistent: string | undefined,
      Partial<HandlerSettings>,
      number | 'forwarded',
      waits: number,
    ]
  >([
    [undefined, undefined, {}, 200, 0],
    [undefined, 'fail', {}, 200, 0],
    [undefined, undefined, { missingIndexForward: true }, 'forwarded', 0],
    [seen, undefined, {}, 200, 0],
    [seen, 'fail', {}, 200, 0],
    [seen, 'await-state', {}, 200, 0],
    [foreign, 'fail', {}, 200, 0],
    [foreign, 'fail', { missingIndexForward: true }, 'forwarded', 0],
    [behind, undefined, {}, 429, 0],
    [behind, undefined, { inconsistentFallback: 'forward-active-node' }, 'forwarded', 0],
    [behind, 'fail', {}, 429, 0],
    [behind, 'fail', { inconsistentStatus: 412 }, 412, 0],
    [behind, 'forward-active-node', {}, 'forwarded', 0],
    [behind, 'await-state', {}, 429, 1],
    [behind, 'await-state,forward-active-node', {}, 'forwarded', 1],
    [behind, 'await-state,fail', { inconsistentFallback: 'forward-active-node' }, 429, 1],
    ['rubbish', undefined, {}, 400, 0],
    [behind, 'rubbish', {}, 400, 0],
    [behind, 'fail,fail', {}, 400, 0],
  ])('%s, %s with %j', async (index, inconsistent, settings, outcome, waits) => {
    const node = new Node();
    node.isStandby = true;
    const headers = [
      ...(index === undefined ? [] : ['X-Vault-Index', index]),
      ...(inconsistent === undefined ? [] : ['X-Vault-Inconsistent', inconsistent]),
    ];
    const answer = await ask(node.handler(settings), 'GET', '/v1/secret/a', { headers });
    expect(node.forwarded.length).toBe(outcome === 'forwarded' ? 1 : 0);
    expect(answer.status).toBe(outcome === 'forwarded' ? 200 : outcome);
    expect(node.waits.length).toBe(waits);
    expect(header(answer, 'Retry-After')).toBe(
      outcome === 429 || outcome === 412 ? '1' : undefined,
    );
  });

  test('a wait that succeeds is answered here', async () => {
    const node = Object.assign(new Node(), { isStandby: true, appliedAfterWait: 11 });
    const headers = ['X-Vault-Index', behind, 'X-Vault-Inconsistent', 'await-state'];
    const answer = await ask(node.handler(), 'GET', '/v1/secret/a', { headers });
    expect([answer.status, header(answer, 'X-Vault-Index')]).toEqual([200, indexOf(11)]);
  });

  test.each([
    ['it has seen', seen, 11, [200, 0]],
    ['it sees soon', behind, 11, [200, 1]],
    ['it does not see, as when it is deposed', behind, undefined, [429, 1]],
    ['of another cluster', foreign, undefined, [200, 0]],
    ['that is malformed', '%', undefined, [400, 0]],
  ])('the active node is asked for an index %s', async (_name, index, applied, expected) => {
    const state = applied === undefined ? {} : { appliedAfterWait: applied };
    const headers = ['X-Vault-Index', index, 'X-Vault-Inconsistent', 'forward-active-node'];
    const node = Object.assign(new Node(), state);
    const answer = await ask(node.handler(), 'GET', '/v1/a', { headers });
    expect([answer.status, node.waits.length]).toEqual(expected);

    const forwardedTo = Object.assign(new Node(), state);
    const response = await forwardedTo.handler().serveForwarded({
      id: 'id-8',
      method: 'GET',
      url: '/v1/a',
      headers: { 'x-vault-index': index },
      body: EMPTY_BODY,
      remoteAddress: '',
    });
    expect([response.status, forwardedTo.waits.length]).toEqual(expected);
  });
});

const LINEARIZABLE = ['X-Bao-Consistency', 'linearizable'];
const BOUNDED = ['X-Bao-Max-Staleness', '100ms'];
const LEADER = ['X-Bao-Consistency', 'leader'];

describe('levels', () => {
  type Row = {
    readonly name: string;
    readonly headers: readonly string[];
    readonly node?: Partial<Node>;
    readonly settings?: Partial<HandlerSettings>;
    readonly method?: string;
    readonly outcome: number | 'forwarded';
    /** How often the state had to be proved current. */
    readonly proofs?: number;
  };
  const standby: Partial<Node> = { isStandby: true };
  const cutOff: Partial<Node> = { isStandby: true, staleness: 101, readError: 'no-leader' };
  const bounded = { consistency: { level: 'bounded', maxStalenessMs: 50 } } as const;
  const linearizable = { consistency: { level: 'linearizable', maxStalenessMs: 0 } } as const;
  const leader = { consistency: { level: 'leader', maxStalenessMs: 0 } } as const;

  test.each<Row>([
    { name: 'stale is the default', headers: [], node: cutOff, outcome: 200 },
    { name: 'stale is local', headers: ['X-Bao-Consistency', 'stale'], node: cutOff, outcome: 200 },
    {
      name: 'linearizable on a standby',
      headers: LINEARIZABLE,
      node: standby,
      outcome: 200,
      proofs: 1,
    },
    { name: 'linearizable on the active node', headers: LINEARIZABLE, outcome: 200, proofs: 1 },
    {
      name: 'linearizable without a leader',
      headers: LINEARIZABLE,
      node: cutOff,
      outcome: 503,
      proofs: 1,
    },
    {
      name: 'linearizable in too large a crowd',
      headers: LINEARIZABLE,
      node: { isStandby: true, readError: 'overloaded' },
      outcome: 503,
      proofs: 1,
    },
    { name: 'leader on a standby', headers: LEADER, node: standby, outcome: 'forwarded' },
    { name: 'leader on the active node', headers: LEADER, outcome: 200, proofs: 1 },
    {
      name: 'leader on a deposed one',
      headers: LEADER,
      node: { readError: 'not-current' },
      outcome: 503,
      proofs: 1,
    },
    {
      name: 'bounded, fresh enough',
      headers: BOUNDED,
      node: { isStandby: true, staleness: 100 },
      outcome: 200,
    },
    {
      name: 'bounded, too old',
      headers: BOUNDED,
      node: { isStandby: true, staleness: 101 },
      outcome: 200,
      proofs: 1,
    },
    { name: 'bounded, of unknown age', headers: BOUNDED, node: standby, outcome: 200, proofs: 1 },
    { name: 'bounded, cut off', headers: BOUNDED, node: cutOff, outcome: 429, proofs: 1 },
    {
      name: 'bounded, cut off, the status of the RFC',
      headers: BOUNDED,
      node: cutOff,
      settings: { inconsistentStatus: 412 },
      outcome: 412,
      proofs: 1,
    },
    {
      name: 'bounded, cut off, else forwarded',
      headers: [...BOUNDED, 'X-Vault-Inconsistent', 'forward-active-node'],
      node: cutOff,
      outcome: 'forwarded',
      proofs: 1,
    },
    {
      name: 'bounded, cut off, forwarded by the listener',
      headers: BOUNDED,
      node: cutOff,
      settings: { inconsistentFallback: 'forward-active-node' },
      outcome: 'forwarded',
      proofs: 1,
    },
    {
      name: 'bounded on a deposed active node',
      headers: [...BOUNDED, 'X-Vault-Inconsistent', 'forward-active-node'],
      node: { staleness: 101, readError: 'not-current' },
      outcome: 429,
      proofs: 1,
    },
    {
      name: 'bounded and an index that is not here',
      headers: [...BOUNDED, 'X-Vault-Index', indexOf(11)],
      node: { isStandby: true, staleness: 1 },
      outcome: 429,
    },
    {
      name: 'linearizable and an index that is not here',
      headers: [...LINEARIZABLE, 'X-Vault-Index', indexOf(11)],
      node: standby,
      outcome: 429,
      proofs: 1,
    },
    {
      name: 'session',
      headers: ['X-Bao-Consistency', 'session', 'X-Vault-Index', indexOf(10)],
      node: standby,
      outcome: 200,
    },
    {
      name: 'default bounded',
      headers: [],
      node: { isStandby: true, staleness: 51 },
      settings: bounded,
      outcome: 200,
      proofs: 1,
    },
    {
      name: 'default linearizable',
      headers: [],
      node: standby,
      settings: linearizable,
      outcome: 200,
      proofs: 1,
    },
    {
      name: 'default linearizable, of a write',
      headers: [],
      method: 'POST',
      settings: linearizable,
      outcome: 200,
    },
    { name: 'default leader', headers: [], node: standby, settings: leader, outcome: 'forwarded' },
    {
      name: 'stale in spite of the default',
      headers: ['X-Bao-Consistency', 'stale'],
      node: cutOff,
      settings: linearizable,
      outcome: 200,
    },
    {
      name: 'stale in spite of a missing index',
      headers: ['X-Bao-Consistency', 'stale'],
      node: standby,
      settings: { missingIndexForward: true },
      outcome: 200,
    },
    {
      name: 'linearizable with standby reads disabled',
      headers: LINEARIZABLE,
      node: standby,
      settings: { disableStandbyReads: true },
      outcome: 'forwarded',
    },
    { name: 'unknown level', headers: ['X-Bao-Consistency', 'strong'], outcome: 400 },
    { name: 'session without an index', headers: ['X-Bao-Consistency', 'session'], outcome: 400 },
    { name: 'bounded without a bound', headers: ['X-Bao-Consistency', 'bounded'], outcome: 400 },
    { name: 'a bound for another level', headers: [...LINEARIZABLE, ...BOUNDED], outcome: 400 },
    { name: 'a bound of nothing', headers: ['X-Bao-Max-Staleness', ''], outcome: 400 },
    { name: 'a bound of 0', headers: ['X-Bao-Max-Staleness', '0ms'], outcome: 400 },
    { name: 'a negative bound', headers: ['X-Bao-Max-Staleness', '-1s'], outcome: 400 },
    { name: 'a bound that is no duration', headers: ['X-Bao-Max-Staleness', 'soon'], outcome: 400 },
    { name: 'the largest bound', headers: ['X-Bao-Max-Staleness', '1h'], outcome: 200, proofs: 1 },
    { name: 'a larger bound', headers: ['X-Bao-Max-Staleness', '61m'], outcome: 400 },
    {
      name: 'malformed on a sealed node',
      headers: ['X-Bao-Consistency', 'x'],
      node: { isSealed: true },
      outcome: 400,
    },
    {
      name: 'a sealed node proves nothing',
      headers: LINEARIZABLE,
      node: { isSealed: true },
      outcome: 200,
    },
  ])('$name', async ({ headers, node: state, settings, method = 'GET', outcome, proofs = 0 }) => {
    const node = Object.assign(new Node(), state);
    const answer = await ask(node.handler(settings), method, '/v1/secret/a', { headers });
    expect(answer.status).toBe(outcome === 'forwarded' ? 200 : outcome);
    expect(node.forwarded.length).toBe(outcome === 'forwarded' ? 1 : 0);
    expect(node.linearized.length).toBe(proofs);
    const isToComeAgain = outcome === 429 || outcome === 412 || outcome === 503;
    expect(header(answer, 'Retry-After')).toBe(isToComeAgain ? '1' : undefined);
  });

  test.each(['X-Bao-Consistency', 'X-Bao-Max-Staleness'])('%s twice is refused', (name) => {
    const headers = [name, 'stale', name, 'stale'];
    expect(() => ask(new Node().handler(), 'GET', '/v1/a', { headers })).toThrow(
      `more than one ${name}`,
    );
  });
});

describe('X-Bao-Consistency-Info', () => {
  const names = [
    'Consistency',
    'Served-By',
    'Node',
    'Role',
    'Applied-Index',
    'Staleness-Ms',
    'Known-Leader',
  ];

  async function told(node: Node, headers: readonly string[] = [], forwarded = false) {
    const all = ['X-Bao-Consistency-Info', '1', ...headers];
    const answer = forwarded
      ? await serve(node, all)
      : (await ask(node.handler(), 'GET', '/v1/secret/a', { headers: all })).headers;
    return names.map((name) => answer[answer.indexOf(`X-Bao-${name}`) + 1]);
  }

  async function serve(node: Node, all: readonly string[]): Promise<string[]> {
    const headers = Object.fromEntries(
      all.map((each, at) => [each, all[at + 1] ?? '']).filter((_, at) => at % 2 === 0),
    );
    const { headers: answered } = await node.handler().serveForwarded({
      ...{ id: 'id-2', method: 'GET', url: '/v1/secret/a', remoteAddress: '10.0.0.9' },
      ...{ headers, body: Buffer.alloc(0) },
    });
    return Object.entries(answered).flat();
  }

  test('a standby tells what its answer rests on', async () => {
    const node = Object.assign(new Node(), { isStandby: true, staleness: 41.2 });
    expect(await told(node)).toEqual(['stale', 'local', 'n1', 'standby', '10', '42', 'true']);
    expect(await told(node, BOUNDED)).toEqual([
      'bounded',
      'local',
      'n1',
      'standby',
      '10',
      '42',
      'true',
    ]);
  });

  test('what is not known is called so', async () => {
    const node = Object.assign(new Node(), { isStandby: true, leader: undefined });
    expect(await told(node)).toEqual(['stale', 'local', 'n1', 'standby', '10', 'unknown', 'false']);
  });

  test('the active node tells of itself when it answers through another', async () => {
    const node = Object.assign(new Node(), { staleness: 3 });
    const row = ['linearizable', 'forwarded', 'n1', 'active', '10', '0', 'true'];
    expect(await told(node, LINEARIZABLE, true)).toEqual(row);
  });

  test('a refusal says where the node stands, and claims no level', async () => {
    const node = Object.assign(new Node(), { isStandby: true, staleness: 900 });
    node.readError = 'no-leader' satisfies ErrorCode;
    const headers = ['X-Bao-Consistency-Info', '1', ...BOUNDED];
    const answer = await ask(node.handler(), 'GET', '/v1/secret/a', { headers });
    expect([answer.status, header(answer, 'X-Bao-Staleness-Ms')]).toEqual([429, '900']);
    expect(header(answer, 'X-Bao-Consistency')).toBeUndefined();
  });

  test('the routes of the node itself tell, too', async () => {
    const node = Object.assign(new Node(), { isStandby: true, staleness: 12 });
    const headers = ['X-Bao-Consistency-Info', '1'];
    const answer = await ask(node.handler(), 'GET', '/v1/sys/health', { headers });
    expect([answer.status, header(answer, 'X-Bao-Staleness-Ms')]).toEqual([429, '12']);
  });

  test('nobody else is told', async () => {
    const answer = await ask(new Node().handler(), 'GET', '/v1/secret/a');
    expect(answer.headers.filter((each) => each.startsWith('X-Bao-'))).toEqual([]);
  });
});

test('a repeated forward is executed whatever it asks: a refusal would deny the first attempt', async () => {
  const node = Object.assign(new Node(), { staleness: 900 });
  node.readError = 'not-current';
  const stamp = {
    session: 's',
    openedIndex: 0,
    sequence: 1,
    acknowledgedBelow: 1,
    isRepeated: true,
  };
  const answer = await node.handler().serveForwarded({
    ...{ id: 'id-2', method: 'PUT', url: '/v1/secret/a', remoteAddress: '10.0.0.9' },
    ...{ headers: { 'X-Bao-Max-Staleness': '1ms' }, body: Buffer.from('{}'), stamp },
  });
  expect([answer.status, node.calls.length, node.linearized.length]).toEqual([200, 1, 0]);
});
