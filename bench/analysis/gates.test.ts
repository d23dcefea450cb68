import { expect, test } from 'vitest';
import { formatCount, judgeGate, refusals, type GateId } from './gates.ts';

test.each<[GateId, number, boolean, string]>([
  ['generator-event-loop', 0.8, true, "generator's event loop was 80 % busy, limit 80 %"],
  ['generator-event-loop', 0.81, false, "generator's event loop was 81 % busy, limit 80 %"],
  ['hollow-point', 0.95, true, 'busiest node used 95 % of its quota, saturation begins at 95 %'],
  [
    'hollow-point',
    0.831,
    false,
    'busiest node used 83.1 % of its quota, saturation begins at 95 %',
  ],
  [
    'utilization-law',
    0.11,
    false,
    'utilization differs from throughput x demand by 11 %, limit 10 %',
  ],
  [
    'littles-law',
    0.06,
    false,
    'requests in flight differ from throughput x response time by 6 %, limit 5 %',
  ],
  ['not-steady', 0.2, false, 'demand still moves by 20 %, steady means 5 %'],
  ['dropped', 1, false, '1 requests were dropped'],
  ['invalid-answers', 0, true, '0 answers were wrong'],
])('%s judges %f: %s', (id, value, pass, reason) => {
  expect(judgeGate(id, value)).toMatchObject({ id, value, pass, reason });
});

test('what was not measured passes no gate', () => {
  expect(() => judgeGate('hollow-point', Number.NaN)).toThrow('not measured');
});

test('refusals() names the failed gates of an effect only', () => {
  const gates = [
    judgeGate('generator-event-loop', 0.9),
    judgeGate('dropped', 3),
    judgeGate('errors', 0),
  ];
  expect(refusals(gates, ['refuse-quantile', 'refuse-latency'])).toEqual([
    '3 requests were dropped',
  ]);
});

test.each([
  [0, '0'],
  [999.9, '999'],
  [10_000, '10 000'],
  [1_234_567, '1 234 567'],
])('formatCount(%d)', (count, text) => expect(formatCount(count)).toBe(text));
