/** The reports of a recorded run: what they say, that they fit, and how they look in a browser. */

import { existsSync, mkdirSync, writeFileSync } from 'node:fs';
import { join } from 'node:path';
import { fileURLToPath, pathToFileURL } from 'node:url';

import { chromium, type Browser } from 'playwright-core';
import { afterAll, beforeAll, describe, expect, test } from 'vitest';

import type { Measured } from '../analysis/gates.ts';
import { checkRun, readRun } from '../run-file.ts';
import type { Run } from '../run.ts';
import { formatMeasured, formatNumber, formatUs } from './format.ts';
import { renderPage } from './page.ts';
import { renderSummary, SUMMARY_LINES_MAX } from './terminal.ts';
import { judge } from './verdict.ts';

const RESULTS = fileURLToPath(new URL('../../../results/', import.meta.url));
const PICTURES = join(RESULTS, 'runs', 'pictures');
const COLUMNS = 80;
const run = readRun(join(RESULTS, 'reference'));

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

describe('summary', () => {
  test('fits a terminal', () => {
    const lines = renderSummary(run);
    expect(lines.length).toBeLessThanOrEqual(SUMMARY_LINES_MAX);
    expect(lines.filter((line) => line.length > COLUMNS)).toEqual([]);
  });

  test('names the reason of a refused cell', () => {
    const gate = run.gates[0];
    if (gate === undefined) throw new Error('the recorded run has no gates');
    const failing = { ...gate, pass: false, reason: 'generator used 93 %' };
    const lines = renderSummary({ ...run, gates: [failing] });
    expect(lines.join('\n')).toContain('generator used 93 %');
  });
});

describe('verdict', () => {
  const fine = { ...run, gates: [] };

  test('is partly refused when a gate failed, and invalid when it invalidates the run', () => {
    const gate = run.gates[0];
    if (gate === undefined) throw new Error('the recorded run has no gates');
    const failed = { ...gate, pass: false };
    expect(judge({ ...fine, gates: [{ ...failed, effect: 'refuse-latency' }] }).status).toBe(
      'partly-refused',
    );
    expect(judge({ ...fine, gates: [{ ...failed, effect: 'invalidate-run' }] }).status).toBe(
      'invalid',
    );
  });

  test('says why a figure is missing', () => {
    const refused: Run = {
      ...fine,
      scaling: run.scaling && {
        ...run.scaling,
        series: run.scaling.series.map((series) => ({
          ...series,
          points: series.points.map((point) => ({ ...point, speedup: { refused: 'hollow' } })),
        })),
      },
    };
    expect(judge(refused)).toMatchObject({
      status: 'partly-refused',
      sentence: expect.stringContaining('no scaling figure (hollow)'),
    });
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
      writeFileSync(file, renderPage(run));
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
