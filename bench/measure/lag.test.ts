/** What may be said of the lag, from made-up markers; and that the writers tell what goes wrong. */

import assert from 'node:assert/strict';

import { afterEach, beforeEach, describe, expect, test } from 'vitest';

import { judgeGate, type Gate } from '../analysis/gates.ts';
import type { HttpClient, Reply } from '../load/client.ts';
import { ROUTES, type Request, type Route, type Target } from '../load/exchange.ts';
import { OUTCOMES, type OpenLoopResult, type Outcome } from '../load/open-loop.ts';
import { startStubServer, type StubServer } from '../load/stub-server.ts';
import type { LagPoint } from '../run.ts';
import { backgroundSockets, connectBackground } from './lag-background.ts';
import {
  judgeLag,
  lagPoints,
  lagScope,
  tallyBackground,
  type BackgroundTally,
  type Marker,
  type Sighting,
} from './lag-figures.ts';
import { createProber } from './lag-prober.ts';
import { findPreset } from './preset.ts';

const STANDBYS = ['s2', 's3'];
const MISROUTED: Sighting = { kind: 'misrouted' };
const FAILED: Sighting = { kind: 'failed' };
const seen = (upperUs: number, lowerUs = 0): Sighting => ({ kind: 'seen', upperUs, lowerUs });
const unseen = (upperUs: number): Sighting => ({ kind: 'unseen', upperUs, lowerUs: upperUs - 1 });
const written = (...sightings: Sighting[]): Marker => ({ kind: 'written', sightings });

/** `total` markers, the last of them as given, the others seen at 100 us and 200 us. */
function markersWith(total: number, ...last: Marker[]): Marker[] {
  return Array.from(
    { length: total },
    (_, index) => last[index - total + last.length] ?? written(seen(100, 40), seen(200, 80)),
  );
}

function probePoint(probe: readonly Marker[], gates: readonly Gate[] = []): LagPoint {
  const [point] = lagPoints({
    rate: 0,
    standbyIds: STANDBYS,
    markers: { probe, index: [] },
    gates,
  });
  assert(point?.method === 'probe');
  return point;
}

const failedIds = (gates: readonly Gate[]) => gates.filter(({ pass }) => !pass).map(({ id }) => id);

describe('lagPoints()', () => {
  test('takes one sample per marker: the slowest standby, whichever that is', () => {
    const markers = Array.from({ length: 1_000 }, (_, index) =>
      index % 2 === 0 ? written(seen(100), seen(900)) : written(seen(800), seen(100)),
    );
    const point = probePoint(markers);
    // Pooled over the standbys, the median would be 100 us and the count twice as large.
    expect(point.upper).toMatchObject({ count: 1_000, p50: { value: 800 }, p90: { value: 900 } });
    expect(point.perNode).toMatchObject([
      { id: 's2', upper: { count: 1_000, p50: { value: 100 }, p90: { value: 800 } } },
      { id: 's3', upper: { count: 1_000, p50: { value: 100 }, p90: { value: 900 } } },
    ]);
  });

  test('keeps the lower bound of each standby, and none where an index was awaited', () => {
    const probe = markersWith(100);
    const [probed, awaited] = lagPoints({
      rate: 100,
      standbyIds: STANDBYS,
      markers: { probe, index: [written(seen(10), seen(20))] },
      gates: [],
    });
    expect(probed).toMatchObject({
      writesPerSecond: 100,
      perNode: [{ lower: { p50: { value: 40 } } }, { lower: { p50: { value: 80 } } }],
    });
    expect(awaited).toMatchObject({ method: 'index', perNode: [{ lower: null }, { lower: null }] });
  });

  test('a marker that did not show in time is longer than the wait, not absent', () => {
    const late = Array.from({ length: 60 }, () => written(seen(100), unseen(5_000_000)));
    const { upper, perNode } = probePoint(markersWith(100, ...late));
    expect(upper).toMatchObject({ count: 100, p50: { refused: '> 5 s' } });
    expect(perNode).toMatchObject([
      { upper: { p50: { value: 100 } } },
      { upper: { p50: { refused: '> 5 s' } }, lower: { p50: { value: 4_999_999 } } },
    ]);
  });

  test.each([MISROUTED, FAILED])('a marker with a %j standby counts as the slowest', (missing) => {
    const { upper, perNode } = probePoint([
      ...Array.from({ length: 50 }, () => written(seen(100), seen(200))),
      ...Array.from({ length: 30 }, () => written(seen(100), seen(300))),
      ...Array.from({ length: 20 }, () => written(seen(400, 5), missing)),
    ]);
    // Left out, the lot above the median would begin at rank 40 of 80.
    expect(upper).toMatchObject({ count: 80, p50: { value: 200, high: 300 } });
    expect('refused' in upper.p90).toBe(true);
    expect(perNode).toMatchObject([
      { upper: { count: 100, p90: { value: 400 } } },
      { upper: { count: 80 } },
    ]);
    expect('refused' in (perNode[1]?.upper.p90 ?? {})).toBe(true);
  });

  test('a standby without a sample does not hide that another was late', () => {
    const late = Array.from({ length: 60 }, () => written(MISROUTED, unseen(5_000_000)));
    expect(probePoint(markersWith(100, ...late)).upper).toMatchObject({
      count: 100,
      p50: { refused: '> 5 s' },
    });
  });

  test('a marker acknowledged by another node is discarded, a failed one has no lag', () => {
    const misrouted = Array.from({ length: 60 }, (): Marker => ({ kind: 'misrouted' }));
    expect('refused' in probePoint(markersWith(100, ...misrouted)).upper.p50).toBe(true);
    const failed = Array.from({ length: 60 }, (): Marker => ({ kind: 'failed' }));
    expect(probePoint(markersWith(100, ...failed)).upper).toMatchObject({
      count: 40,
      p50: { value: 200 },
    });
  });

  test.each([
    judgeGate('background-errors', 1),
    judgeGate('dropped', 3),
    judgeGate('background-rate', 0.5),
    judgeGate('marker-errors', 0.5),
    judgeGate('markers-discarded', 0.5),
  ])('gate $id takes all quantiles of the point away, with its reason', (gate) => {
    const points = lagPoints({
      rate: 100,
      standbyIds: STANDBYS,
      markers: { probe: markersWith(1_000), index: markersWith(1_000) },
      gates: [judgeGate('marker-errors', 0), gate],
    });
    const refused = { refused: gate.reason };
    for (const { upper, perNode } of points) {
      for (const latency of [upper, ...perNode.flatMap((node) => [node.upper, node.lower])]) {
        if (latency === null) continue;
        expect(latency).toMatchObject({ count: 1_000, p50: refused, p90: refused, p99: refused });
      }
    }
  });

  test('gates that pass take nothing away', () => {
    const point = probePoint(markersWith(1_000), [judgeGate('marker-errors', 0.01)]);
    expect(point.upper).toMatchObject({ p50: { value: 200 }, p99: { value: 200 } });
  });
});

describe('judgeLag()', () => {
  const GOOD: BackgroundTally = {
    planned: 2_000,
    dropped: 0,
    failed: 2,
    acknowledgedInTime: 1_900,
  };
  const judged = (options: {
    probe?: readonly Marker[];
    index?: readonly Marker[];
    background?: Partial<BackgroundTally>;
  }) =>
    failedIds(
      judgeLag(
        { probe: options.probe ?? markersWith(100), index: options.index ?? markersWith(100) },
        { ...GOOD, ...options.background },
      ),
    );

  test('lets a good phase pass', () => {
    expect(judged({})).toEqual([]);
    expect(judged({ index: [] })).toEqual([]);
  });

  test.each<[Partial<BackgroundTally>, string[]]>([
    [{ failed: 3 }, ['background-errors']],
    [{ dropped: 1, failed: 0 }, ['dropped']],
    [{ acknowledgedInTime: 1_899 }, ['background-rate']],
    // Every write was answered 503: nothing of the named rate was there.
    [{ failed: 2_000, acknowledgedInTime: 0 }, ['background-errors', 'background-rate']],
    // Every arrival was dropped: no write failed because none was sent.
    [{ dropped: 2_000, failed: 0, acknowledgedInTime: 0 }, ['dropped', 'background-rate']],
    [{ planned: 0, failed: 0, acknowledgedInTime: 0 }, ['background-rate']],
  ])('refuses the background %j', (background, ids) => {
    expect(judged({ background })).toEqual(ids);
  });

  test.each<[string, Marker, string]>([
    ['a failed write', { kind: 'failed' }, 'marker-errors'],
    ['a failed read', written(seen(1), FAILED), 'marker-errors'],
    ['a write that another node took', { kind: 'misrouted' }, 'markers-discarded'],
    ['a read that another node answered', written(MISROUTED, seen(1)), 'markers-discarded'],
    ['a probe that timed out', written(seen(1), unseen(5e6)), 'markers-discarded'],
  ])('counts %s once per marker', (_, marker, id) => {
    expect(judged({ probe: markersWith(100, marker) })).toEqual([]);
    expect(judged({ probe: markersWith(100, marker, marker) })).toEqual([id]);
  });

  test('judges the method that fared worse, however few its markers', () => {
    const bad = written(MISROUTED, MISROUTED);
    const gates = judgeLag({ probe: markersWith(900), index: markersWith(50, bad) }, undefined);
    expect(gates.map(({ id, value }) => [id, value])).toEqual([
      ['marker-errors', 0],
      ['markers-discarded', 0.02],
    ]);
  });

  test('does not judge a phase without a marker', () => {
    expect(() => judgeLag({ probe: [], index: [] }, undefined)).toThrow('without a marker');
  });
});

test.each([
  [0, 'lag/push/idle'],
  [100, 'lag/push/rate100'],
])('lagScope() of rate %d', (rate, scope) => expect(lagScope('push', rate)).toBe(scope));

test('tallyBackground() counts what the active node itself acknowledged, and when', () => {
  const rows: [Outcome, Route, number][] = [
    ['ok', 'direct', 10],
    ['ok', 'direct', 1_000],
    ['ok', 'direct', 1_001],
    ['ok', 'forwarded', 20],
    ['ok', 'unknown', 20],
    ['failed', 'direct', 20],
    ['invalid', 'direct', 20],
    ['timedOut', 'unknown', 900],
    ['dropped', 'unknown', Number.NaN],
  ];
  const samples = {
    outcome: Uint8Array.from(rows, ([outcome]) => OUTCOMES.indexOf(outcome)),
    route: Uint8Array.from(rows, ([, route]) => ROUTES.indexOf(route)),
    completionNs: Float64Array.from(rows, ([, , ms]) => ms * 1e6),
  } as OpenLoopResult['samples'];
  const counts = { dropped: 1 } as OpenLoopResult['counts'];
  expect(tallyBackground({ length: rows.length, durationMs: 1_000 }, { samples, counts })).toEqual({
    planned: 9,
    dropped: 1,
    failed: 5,
    acknowledgedInTime: 2,
  });
});

describe('connectBackground()', () => {
  let server: StubServer;
  let status = 204;
  beforeEach(async () => {
    status = 204;
    server = await startStubServer({
      nodeId: 's1',
      answerTo: () => ({ status, chunks: [], delayMs: 0 }),
    });
  });
  afterEach(() => server.close());

  const connect = (rate: number) =>
    connectBackground({
      active: { name: 's1', origin: server.origin, nodeId: 's1', isActive: true },
      token: 'root',
      mount: 'lag',
      rate,
      durationMs: 100,
      seed: 1,
      signal: new AbortController().signal,
    });

  test('has a socket for every write of a second, up to the highest rate of the presets', () => {
    const rates = (['canonical', 'quick', 'full'] as const).flatMap(
      (name) => findPreset(name).lagRates,
    );
    for (const rate of rates) expect(backgroundSockets(rate)).toBeGreaterThanOrEqual(rate);
  });

  test('opens all sockets beforehand, and no write waits for one', async () => {
    server.hold();
    const connecting = connect(40);
    // With fewer sockets the rest would wait for answers that are held back.
    await server.arrived(backgroundSockets(40));
    server.release();
    const background = await connecting;
    const tally = await background.write();
    await background.close();
    expect(tally.planned).toBeGreaterThan(0);
    expect(tally).toMatchObject({ dropped: 0, failed: 0 });
    expect(server.requests.length).toBe(backgroundSockets(40) + tally.planned);
  });

  test('tells that every write failed', async () => {
    status = 503;
    const background = await connect(100);
    const tally = await background.write();
    await background.close();
    expect(tally).toMatchObject({ failed: tally.planned, acknowledgedInTime: 0 });
    const gates = judgeLag({ probe: markersWith(10), index: [] }, tally);
    expect(failedIds(gates)).toEqual(['background-errors', 'background-rate']);
  });
});

describe('createProber()', () => {
  const TARGETS: readonly Target[] = ['s1', ...STANDBYS].map((id) => ({
    name: id,
    origin: `http://${id}`,
    nodeId: id,
    isActive: id === 's1',
  }));
  type Given = { status: number; body?: string; servedBy?: string } | 'reset' | 'silence';

  /** Nodes that answer within milliseconds of a clock of their own: one, unless given. */
  function proberOf(options: { write?: Given; reads: (poll: number) => Given; answerMs?: number }) {
    const { answerMs = 1 } = options;
    let now = 0;
    const polls = [0, 0, 0];
    const requests: Request[] = [];
    const ask: HttpClient['ask'] = async (target, request, timeoutMs): Promise<Reply> => {
      requests.push(request);
      const given =
        target === 0
          ? (options.write ?? { status: 204 })
          : options.reads((polls[target] = (polls[target] ?? 0) + 1));
      const writtenNs = now;
      now += given === 'silence' ? timeoutMs * 1e6 : answerMs * 1e6;
      if (typeof given === 'string') throw new Error(`no answer: ${given}`);
      return {
        kind: 'answered',
        status: given.status,
        servedBy: given.servedBy ?? TARGETS[target]?.nodeId,
        body: Buffer.from(given.body ?? ''),
        headers: new Map([['x-vault-index', 'i1']]),
        writtenNs,
        completionNs: now,
      };
    };
    const [active, first] = TARGETS;
    assert(active !== undefined && first !== undefined);
    const targets = [active, first];
    const prober = createProber({ ask, nowNs: () => now, targets, token: 'root', mount: 'lag' });
    return { prober, requests };
  }
  const stale: Given = { status: 200, body: '{"data":{"marker":"m0."}}' };
  const fresh: Given = { status: 200, body: '{"data":{"marker":"m1."}}' };

  test('gives both ends of the time in which the marker came', async () => {
    const { prober } = proberOf({ reads: (poll) => (poll < 3 ? stale : fresh) });
    expect(await prober.mark('probe')).toEqual(written(seen(3_000, 1_000)));
  });

  test.each<[string, (poll: number) => Given, Sighting]>([
    ['nothing there yet', (poll) => (poll < 2 ? { status: 404 } : fresh), seen(2_000, 0)],
    ['an error instead of a stale answer', (poll) => (poll < 2 ? { status: 503 } : fresh), FAILED],
    ['a broken connection', () => 'reset', FAILED],
    ['the answer of another node', () => ({ ...fresh, servedBy: 's1' }), MISROUTED],
    [
      'silence until the time is over',
      (poll) => (poll < 3 ? stale : 'silence'),
      { kind: 'unseen', upperUs: 5_001_000, lowerUs: 1_000 },
    ],
  ])('probing tells of %s', async (_, reads, sighting) => {
    expect(await proberOf({ reads }).prober.mark('probe')).toEqual(written(sighting));
  });

  test('probing gives up when only stale answers come', async () => {
    // A thousandfold slower clock: five polls.
    const { prober } = proberOf({ reads: () => stale, answerMs: 1_000 });
    expect(await prober.mark('probe')).toEqual(
      written({ kind: 'unseen', upperUs: 5e6, lowerUs: 4e6 }),
    );
  });

  test.each<[string, Given, Sighting]>([
    ['an answer', fresh, { kind: 'seen', upperUs: 1_000, lowerUs: null }],
    ['a standby behind', { status: 429 }, { kind: 'unseen', upperUs: 1_000, lowerUs: null }],
    ['a standby behind', { status: 412 }, { kind: 'unseen', upperUs: 1_000, lowerUs: null }],
    ['silence', 'silence', { kind: 'unseen', upperUs: 5_001_000, lowerUs: null }],
    ['an error', { status: 503 }, FAILED],
    ['a broken connection', 'reset', FAILED],
    ['the answer of another node', { ...fresh, servedBy: 's1' }, MISROUTED],
  ])('awaiting the index tells of %s', async (_, given, sighting) => {
    const { prober, requests } = proberOf({ reads: () => given });
    expect(await prober.mark('index')).toEqual(written(sighting));
    expect(requests[1]?.headers).toEqual(expect.arrayContaining(['x-vault-index', 'i1']));
  });

  test.each<[Given, Marker]>([
    [{ status: 503 }, { kind: 'failed' }],
    ['reset', { kind: 'failed' }],
    ['silence', { kind: 'failed' }],
    [{ status: 204, servedBy: 's2' }, { kind: 'misrouted' }],
  ])('a marker write that met %j is told', async (write, marker) => {
    const { prober, requests } = proberOf({ write, reads: () => fresh });
    expect(await prober.mark('probe')).toEqual(marker);
    expect(requests.length).toBe(1);
  });
});
