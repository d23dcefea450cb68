/** The reports of a recorded run: what they say, that they fit, and how they look in a browser. */

import { existsSync, mkdirSync, writeFileSync } from 'node:fs';
import { join } from 'node:path';
import { fileURLToPath, pathToFileURL } from 'node:url';

import { chromium, type Browser } from 'playwright-core';
import { afterAll, beforeAll, describe, expect, test } from 'vitest';

import type { Measured } from '../analysis/gates.ts';
import { checkRun, readRun } from '../run-file.ts';
import type {
  ForwardingDifference,
  Run,
  ScalingPoint,
  ScalingSeries,
  ScopedGate,
  Verdict,
} from '../run.ts';
import { forwardingCpuChart, scalingChart } from './charts.ts';
import { formatMeasured, formatNumber, formatUs, judgeFactor } from './format.ts';
import { renderPage } from './page.ts';
import { renderSummary, SUMMARY_LINES_MAX } from './terminal.ts';
import { judge } from './verdict.ts';

const RESULTS = fileURLToPath(new URL('../../../results/', import.meta.url));
const PICTURES = join(RESULTS, 'runs', 'pictures');
const COLUMNS = 80;

const recorded = readRun(join(RESULTS, 'reference'));
/** The recorded run with figures that are known here, so that it may be recorded again. */
const run = withKnownFigures(recorded);

function withKnownFigures(whole: Run): Run {
  const { scaling, forwarding, lag } = whole;
  const [series] = scaling?.series ?? [];
  const [gate] = whole.gates;
  if (series === undefined || forwarding === null || lag === null || gate === undefined) {
    throw new Error('the recorded run is not whole');
  }
  const us = (value: number, low: number, high: number) => ({ value, unit: 'us', low, high });
  const factor = ({ mode, nodes }: ScalingPoint): Measured =>
    mode === 'standby-reads'
      ? { value: 0.9172 * nodes, unit: 'ratio', low: 0.8823 * nodes, high: 0.9709 * nodes }
      : { value: 0.5333, unit: 'ratio', low: 0.3568, high: 0.592 };
  return {
    ...whole,
    environment: { ...whole.environment, cores: 2 },
    gates: [{ ...gate, pass: true }],
    scaling: scaling && {
      ...scaling,
      series: [
        {
          ...series,
          workload: 'read-only',
          points: series.points.map((point) => ({
            ...point,
            throughput: { value: 18_203, unit: 'requests/s', low: 16_934, high: 19_148 },
            speedup: factor(point),
          })),
        },
      ],
    },
    forwarding: {
      ...forwarding,
      paths: forwarding.paths.map((path) => ({
        ...path,
        activeCpuUs: us(392, 350, 438),
        standbyCpuUs: us(211, 193, 232),
      })),
      differences: forwarding.differences.map((each) => ({
        ...each,
        responseP50Us: us(1_174.7, 981.3, 1_376.3),
        activeCpuUs: us(101.4, 44.4, 158.3),
        standbyCpuUs: us(300.9, 253.7, 348.1),
      })),
    },
    lag: {
      ...lag,
      curves: lag.curves.map((curve) => ({
        ...curve,
        points: curve.points.map((point) => ({
          ...point,
          upper: { ...point.upper, p50: us(708, 677, 752), p99: us(3_460, 2_970, 5_840) },
          perNode: point.perNode.map(({ upper, lower }, index) => ({
            id: `standby${index + 1}`,
            upper: { ...upper, p50: us(490, 466, 555) },
            lower: lower && { ...lower, p50: us(0, 0, 0) },
          })),
        })),
      })),
    },
  };
}

test.each([
  [0, '0'],
  [0.01234, '0.0123'],
  [4.556, '4.56'],
  [789.4, '789'],
  [12_345, '12 300'],
  [1_234_567, '1 230 000'],
  [-0.5, '-0.500'],
])('formatNumber(%d) keeps three digits', (value, text) => {
  expect(formatNumber(value)).toBe(text);
});

test.each([
  [812, '812 µs'],
  [1_500, '1.50 ms'],
  [2_000_000, '2.00 s'],
])('formatUs(%d) picks the unit', (us, text) => {
  expect(formatUs(us)).toBe(text);
});

test.each<[Measured, string]>([
  [{ value: 2.934, unit: 'ratio', low: 2.871, high: 3.012 }, '2.93 [2.87, 3.01]'],
  [{ value: 2, unit: 'ratio' }, '2.00'],
  [{ refused: 'not steady' }, 'refused: not steady'],
])('formatMeasured() gives the interval or the reason', (measured, text) => {
  expect(formatMeasured(measured)).toBe(text);
});

/** The recorded run with every size of every workload as often as a thorough run has them. */
const crowded: Run = {
  ...run,
  scaling: run.scaling && {
    ...run.scaling,
    series: Array.from({ length: 6 }, (_, index) => ({
      ...seriesOf(run),
      workload: `workload-${index}`,
    })),
  },
  lag: run.lag && {
    ...run.lag,
    curves: run.lag.curves.map((curve) => ({
      ...curve,
      points: [0, 5, 20, 100, 400].flatMap((writesPerSecond) =>
        curve.points.slice(0, 1).map((point) => ({ ...point, writesPerSecond })),
      ),
    })),
  },
};

function seriesOf({ scaling }: Run): ScalingSeries {
  const [series] = scaling?.series ?? [];
  if (series === undefined) throw new Error('the recorded run has no scaling');
  return series;
}

function withSpeedup(speedup: Measured, of: (point: ScalingPoint) => boolean = () => true): Run {
  return {
    ...run,
    gates: [],
    scaling: run.scaling && {
      ...run.scaling,
      series: [
        {
          ...seriesOf(run),
          points: seriesOf(run).points.map((point) => (of(point) ? { ...point, speedup } : point)),
        },
      ],
    },
  };
}

function withDifference(change: Partial<ForwardingDifference>): Run {
  return {
    ...run,
    gates: [],
    forwarding: run.forwarding && {
      ...run.forwarding,
      differences: run.forwarding.differences.map((each) => ({ ...each, ...change })),
    },
  };
}

function failing(count: number, change: Partial<ScopedGate> = {}): ScopedGate[] {
  const [gate] = run.gates;
  if (gate === undefined) throw new Error('the recorded run has no gates');
  return Array.from({ length: count }, (_, index) => ({
    ...gate,
    pass: false,
    effect: 'refuse-latency',
    scope: `scaling/workload-${index}/standby-reads/n5`,
    reason: `generator used ${90 + index} % of its core, limit 80 %`,
    ...change,
  }));
}

test.each<[Measured, string]>([
  [{ value: 3, unit: 'ratio', low: 2, high: 4 }, '3.00 [2.00, 4.00]'],
  [{ value: 3, unit: 'ratio', low: 2, high: 4.01 }, 'refused: too uncertain [2.00, 4.01]'],
  [{ value: 3, unit: 'ratio', low: 0, high: 4 }, 'refused: too uncertain [0, 4.00]'],
  [{ refused: 'hollow' }, 'refused: hollow'],
])('judgeFactor(%o) refuses what spans more than a factor of two', (factor, text) => {
  expect(formatMeasured(judgeFactor(factor))).toBe(text);
});

describe('summary', () => {
  test.each<[string, Run]>([
    ['the recorded run', { ...recorded, verdict: judge(recorded) }],
    ['a thorough run', crowded],
    ['a thorough run of which everything failed', { ...crowded, gates: failing(60) }],
    [
      'a run with a long sentence',
      { ...crowded, verdict: { ...run.verdict, sentence: 'x '.repeat(500) } },
    ],
    ['a scope that does not fit', { ...run, gates: failing(1, { scope: 'x'.repeat(200) }) }],
  ])('fits a terminal: %s', (_name, each) => {
    const lines = renderSummary(each);
    expect(lines.length).toBeLessThanOrEqual(SUMMARY_LINES_MAX);
    expect(lines.filter((line) => line.length > COLUMNS)).toEqual([]);
  });

  test('shortens tables and says so, never what tells whether to trust them', () => {
    const text = renderSummary({ ...crowded, gates: failing(3) }).join('\n');
    expect(text).toMatch(/\d+ more in the report/);
    expect(text).toContain('workload-0       5  4.59x [4.41, 4.85]');
    expect(text).toContain('Gates: 0 of 3 passed');
    expect(text.replaceAll(/\n +/g, ' ')).toContain(
      'generator used 90 % of its core, limit 80 %; and 2 more of this gate',
    );
    expect(text).toContain('Machine: 2 cores');
    expect(renderSummary(run).join('\n')).not.toContain('left out');
  });

  test('gives every factor with its interval', () => {
    const text = renderSummary(run).join('\n');
    for (const { speedup } of seriesOf(run).points) {
      if ('refused' in speedup) throw new Error('the recorded run has a refused factor');
      const ends = [speedup.low, speedup.high].map((end) => end?.toFixed(2));
      expect(text).toContain(`${speedup.value.toFixed(2)}x [${ends.join(', ')}]`);
    }
  });

  test('says why a cell is refused, in full, once for each reason', () => {
    const reason = `a reason that is longer than a line of a terminal ${'and longer '.repeat(9)}still`;
    const text = renderSummary(withSpeedup({ refused: reason })).join('\n');
    expect(text).toContain('refused (1)');
    expect(text.replaceAll(/\n +/g, ' ').split(reason)).toHaveLength(2);
  });

  test('says why a gate failed, in full', () => {
    const reason = `generator used 93 % ${'of its core '.repeat(12)}in the end`;
    const lines = renderSummary({ ...run, gates: failing(1, { reason }) });
    expect(lines.join('\n').replaceAll(/\n +/g, ' ')).toContain(reason);
  });

  test('gives a factor that is too uncertain as an interval only', () => {
    const speedup = { value: 2.56, unit: 'ratio', low: 0.13, high: 12.9 };
    const text = renderSummary(withSpeedup(speedup)).join('\n');
    expect(text).toContain('too uncertain [0.13, 12.90]');
    expect(text).not.toContain('2.56');
  });

  test('gives lag as a bound, without the interval of the bound', () => {
    const lines = renderSummary(run).filter((line) => /^ {2}(push|piggyback) /.test(line));
    expect(lines[0]).toContain('p50 ≤ 708 µs');
    expect(lines.join('\n')).not.toContain('[');
  });

  test('names a paired difference what it is', () => {
    expect(renderSummary(run).join('\n')).toContain('median difference: 1.17 ms [981 µs, 1.38 ms]');
  });
});

describe('verdict', () => {
  const fine = { ...run, gates: [] };

  test('is valid if nothing is refused', () => {
    expect(judge(fine)).toEqual({
      status: 'valid',
      sentence:
        '5 nodes with standby reads carry 4.59× [4.41, 4.85] the read-only load of one node; ' +
        'a single-leader cluster of 5 carries 0.533× [0.357, 0.592]; ' +
        'a forwarded write costs 1.17 ms [981 µs, 1.38 ms] (median difference) and ' +
        '402 µs [298 µs, 506 µs] of CPU more than a direct one; a write is visible on every ' +
        'standby within 708 µs or less at p50 and 3.46 ms or less at p99.',
    });
  });

  test('is partly refused when a gate failed', () => {
    expect(judge({ ...fine, gates: failing(1) }).status).toBe('partly-refused');
  });

  test('says no figure of a run that does not hold, but why', () => {
    const gates = failing(1, { effect: 'invalidate-run', reason: '3 answers were wrong' });
    const { status, sentence } = judge({ ...fine, gates });
    expect(status).toBe('invalid');
    expect(sentence).toBe(
      'No figure of this run can be believed: 3 answers were wrong (scaling/workload-0/standby-reads/n5).',
    );
  });

  test('says that nothing was measured', () => {
    const nothing = { ...fine, scaling: null, forwarding: null, lag: null };
    expect(judge(nothing)).toEqual({ status: 'invalid', sentence: 'Nothing was measured.' });
  });

  const uncertain = { value: 4, unit: 'ratio', low: 2, high: 5 };
  test.each<[string, Run, string, string]>([
    [
      'the factor of standby reads',
      withSpeedup({ refused: 'hollow' }, ({ mode }) => mode === 'standby-reads'),
      'a single-leader cluster of 5 carries 0.533× [0.357, 0.592] the read-only load of one node',
      'no factor for 5 nodes with standby reads (hollow)',
    ],
    [
      'the factor of the baseline',
      withSpeedup({ refused: 'hollow' }, ({ mode }) => mode === 'baseline'),
      '5 nodes with standby reads carry 4.59×',
      'no factor for a single-leader cluster of 5 (hollow)',
    ],
    [
      'a factor that is too uncertain',
      withSpeedup(uncertain, ({ mode }) => mode === 'standby-reads'),
      'a single-leader cluster of 5 carries',
      'no factor for 5 nodes with standby reads (too uncertain [2.00, 5.00])',
    ],
    [
      'the response time of forwarding',
      withDifference({ responseP50Us: { refused: 'generator lag' } }),
      'a forwarded write costs 402 µs [298 µs, 506 µs] of CPU more than a direct one',
      'no response time of forwarding (generator lag)',
    ],
    [
      'the CPU of forwarding',
      withDifference({ standbyCpuUs: { refused: 'needs 8 slices' } }),
      'a forwarded write costs 1.17 ms [981 µs, 1.38 ms] (median difference) more than',
      'no CPU cost of forwarding (needs 8 slices)',
    ],
  ])('says the rest, and what is missing why: %s', (_name, refused, said, missing) => {
    const { status, sentence } = judge(refused);
    expect(status).toBe('partly-refused');
    expect(sentence).toContain(said);
    expect(sentence).toContain(missing);
    expect(sentence).not.toMatch(/–|undefined/);
  });

  test.each<['p50' | 'p99', string, Verdict['status']]>([
    ['p50', 'no lag (too few)', 'partly-refused'],
    ['p99', 'within 708 µs or less at p50 (no p99: too few)', 'valid'],
  ])('copes with a lag without %s', (quantile, words, status) => {
    const curves = run.lag?.curves.map((curve) => ({
      ...curve,
      points: curve.points.map((point) => ({
        ...point,
        upper: { ...point.upper, [quantile]: { refused: 'too few' } },
      })),
    }));
    const judged = judge({ ...fine, lag: run.lag && { ...run.lag, curves: curves ?? [] } });
    expect(judged.status).toBe(status);
    expect(judged.sentence).toContain(words);
  });
});

describe('page', () => {
  test('shows a factor that is too uncertain by its interval, in card, table and chart', () => {
    const isLargest = ({ nodes, mode }: ScalingPoint) => nodes === 5 && mode === 'standby-reads';
    const uncertain = { value: 2.56, unit: 'ratio', low: 0.13, high: 12.9 };
    const page = renderPage(withSpeedup(uncertain, isLargest));
    expect(page).toContain('<strong>refused</strong>the load of one node, carried by 5');
    expect(page.split('too uncertain [0.130, 12.9]')).toHaveLength(3);
    expect(page).not.toMatch(/2\.56(?: \[0\.13|×)/);
    const dots = (text: string) => [...text.matchAll(/<circle/g)].length;
    const count = seriesOf(run).points.length;
    expect(dots(scalingChart(seriesOf(run)))).toBe(count);
    expect(dots(scalingChart(seriesOf(withSpeedup(uncertain, isLargest))))).toBe(count - 1);
  });

  test('draws the factor, not the capacity, beside the ideal', () => {
    const chart = scalingChart(seriesOf(run));
    expect(chart).toContain('times the load of one node');
    const apart = seriesOf(run).points.map((point) => ({
      ...point,
      capacity: { value: 1, unit: 'requests/s' },
    }));
    expect(scalingChart({ ...seriesOf(run), points: apart })).toBe(chart);
  });

  test('gives lag as a bound, differences by name, and says what intervals are worth', () => {
    const page = renderPage(run);
    expect(page).toContain('<strong>≤ 708 µs</strong>');
    expect(page).toContain('<td>≤ 708 µs</td>');
    expect(page).toContain('standby1 0 µs to 490 µs');
    expect(page).toContain('median difference');
    expect(page).toContain('Intervals say how much this run varied within itself');
  });

  test('says what each failed gate takes away', () => {
    const [gate] = failing(1);
    if (gate === undefined) throw new Error('no gate');
    const pageOf = (scope: string) => renderPage({ ...run, gates: [{ ...gate, scope }] });
    expect(pageOf('forwarding/write-active')).toContain('<td>latencies</td>');
    // A point of scaling falls as a whole.
    expect(pageOf('scaling/read-only/baseline/n5')).toContain('<td>all figures of this cell</td>');
  });

  test('draws no bar where the CPU of a path is refused', () => {
    if (run.forwarding === null) throw new Error('the recorded run has no forwarding');
    const paths = run.forwarding.paths.map((path) => ({
      ...path,
      activeCpuUs: path.id === 'write-active' ? { refused: 'too few slices' } : path.activeCpuUs,
    }));
    expect(forwardingCpuChart(run.forwarding)).not.toContain('refused');
    expect(forwardingCpuChart({ ...run.forwarding, paths })).toContain('>refused</text>');
  });
});

describe('run.json', () => {
  test('is checked against the schema, with the place of the fault', () => {
    expect(checkRun(structuredClone(run))).toEqual(run);
    expect(() => checkRun({ ...run, seed: 'one' })).toThrow('/seed must be integer');
    expect(() => checkRun({ ...run, extra: 1 })).toThrow('must NOT have additional properties');
  });
});

const browserPath = [
  '/usr/bin/chromium',
  '/usr/bin/chromium-browser',
  '/usr/bin/google-chrome',
].find((path) => existsSync(path));
const isBrowserRequired = process.env['BAOBENCH_REQUIRE_BROWSER'] === '1';
if (browserPath === undefined && !isBrowserRequired) {
  process.stderr.write('no Chromium found: the report is not looked at in a browser\n');
}

describe.skipIf(browserPath === undefined && !isBrowserRequired)('page in a browser', () => {
  let browser: Browser;
  beforeAll(async () => {
    if (browserPath === undefined)
      throw new Error('no Chromium, and BAOBENCH_REQUIRE_BROWSER is set');
    browser = await chromium.launch({
      executablePath: browserPath,
      args: ['--no-sandbox', '--disable-gpu', '--disable-background-networking', '--disable-sync'],
    });
  });
  afterAll(async () => browser?.close());

  test.each(['light', 'dark'] as const)(
    '%s: charts are drawn, nothing is fetched or logged',
    async (scheme) => {
      mkdirSync(PICTURES, { recursive: true });
      const file = join(PICTURES, `report-${scheme}.html`);
      writeFileSync(file, renderPage(recorded));
      const page = await browser.newPage({
        viewport: { width: 1240, height: 900 },
        colorScheme: scheme,
      });
      const complaints: string[] = [];
      const requests: string[] = [];
      page.on('console', (message) => complaints.push(message.text()));
      page.on('pageerror', (error) => complaints.push(String(error)));
      page.on('request', (request) => requests.push(request.url()));
      await page.goto(pathToFileURL(file).href);

      const marks = await page.locator('figure[data-chart] svg').evaluateAll((charts) =>
        charts.map((chart) => {
          const box = chart.getBoundingClientRect();
          const drawn = [...chart.querySelectorAll('path, circle, rect')].filter(
            (mark) => mark.getBoundingClientRect().width > 1,
          );
          return { width: box.width, height: box.height, drawn: drawn.length };
        }),
      );
      expect(marks.length).toBeGreaterThanOrEqual(5);
      for (const chart of marks) {
        expect(chart.width).toBeGreaterThan(300);
        expect(chart.height).toBeGreaterThan(100);
        expect(chart.drawn).toBeGreaterThan(0);
      }
      const overflow = await page.evaluate('document.documentElement.scrollWidth - innerWidth');
      expect(overflow).toBeLessThanOrEqual(0);
      expect(complaints).toEqual([]);
      expect(requests.filter((url) => !/^(file|data):/.test(url))).toEqual([]);
      await page.screenshot({ path: join(PICTURES, `report-${scheme}.png`), fullPage: true });
      await page.close();
    },
  );
});
