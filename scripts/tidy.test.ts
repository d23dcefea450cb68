/**
 * Rules of this repository that no compiler checks: who may import whom, what pure code may not
 * touch, and how large a file may grow. Each failure names the rule and what to do about it.
 */

import { existsSync, readFileSync, readdirSync } from 'node:fs';
import { dirname, join, normalize, relative } from 'node:path';
import { fileURLToPath } from 'node:url';

import { describe, expect, test } from 'vitest';

const ROOT = fileURLToPath(new URL('../../', import.meta.url));
const FOLDERS = ['server', 'bench', 'workloads', 'scripts'];
const LINES_MAX = 400;
const TEST_LINES_MAX = 600;

/** First match wins. `may` lists path prefixes within the repository; `outside` npm and node modules. */
const LAYERS: readonly { readonly folder: string; readonly may: readonly string[] }[] = [
  { folder: 'server/raft/', may: ['server/raft/'] },
  { folder: 'server/threads/', may: ['server/threads/', 'server/errors.ts'] },
  {
    folder: 'server/storage/',
    may: ['server/storage/', 'server/raft/message.ts', 'server/raft/configuration.ts'],
  },
  {
    folder: 'server/replica/',
    may: [
      'server/replica/',
      'server/raft/',
      'server/storage/',
      'server/core/ports.ts',
      'server/errors.ts',
      'server/frames.ts',
      'server/refusal-log.ts',
      'server/threads/',
    ],
  },
  {
    folder: 'server/core/',
    may: ['server/core/', 'server/errors.ts', 'server/hcl.ts', 'server/duration.ts'],
  },
  {
    folder: 'server/backends/',
    may: [
      'server/backends/',
      'server/core/backend.ts',
      'server/core/ports.ts',
      'server/errors.ts',
      'server/duration.ts',
    ],
  },
  {
    folder: 'server/cluster/',
    may: [
      'server/cluster/',
      'server/core/ports.ts',
      'server/core/backend.ts',
      'server/errors.ts',
      'server/frames.ts',
      'server/refusal-log.ts',
      'server/threads/',
    ],
  },
  {
    folder: 'server/http/',
    may: [
      'server/http/',
      'server/core/',
      'server/cluster/',
      'server/errors.ts',
      'server/duration.ts',
    ],
  },
  { folder: 'server/', may: ['server/'] },
  { folder: 'bench/analysis/', may: ['bench/analysis/', 'bench/random.ts'] },
  {
    folder: 'bench/load/',
    may: [
      'bench/load/',
      'bench/analysis/',
      'bench/random.ts',
      'workloads/workload.ts',
      'workloads/keys.ts',
    ],
  },
  {
    folder: 'bench/report/',
    may: ['bench/report/', 'bench/analysis/', 'bench/load/', 'bench/run.ts'],
  },
  // Micro-benchmarks time the server's own functions; they are not the instrument.
  { folder: 'bench/micro/', may: ['bench/', 'server/'] },
  { folder: 'bench/', may: ['bench/', 'workloads/'] },
  { folder: 'workloads/', may: ['workloads/', 'bench/load/', 'bench/random.ts'] },
  { folder: 'scripts/', may: [''] },
];

/** Pure code takes time, randomness and I/O as arguments, or does without. */
const PURE: readonly string[] = [
  'server/raft/',
  'bench/analysis/',
  'bench/report/',
  'bench/load/schedule.ts',
  'bench/load/plan.ts',
];
const IMPURE =
  /\b(Date\.now|new Date\(\)|performance\.|Math\.random|setTimeout|setInterval|setImmediate|process\.|async |await |node:fs|node:net)/;

/** Written with a class so that this line does not match itself. */
const UNFINISHED = /\b(FIXM[E]|TOD[O])\b|[^\w./-]\/(wor[k]|roo[t])\//g;

const BANNED_NAMES = /(^|\/)(utils?|helpers?|common|misc|manager|types|index|constants)\.ts$/;

type Source = { readonly path: string; readonly text: string; readonly isTest: boolean };

const sources: readonly Source[] = FOLDERS.flatMap((folder) => walk(join(ROOT, folder))).map(
  (file) => {
    const path = relative(ROOT, file);
    return {
      path,
      text: readFileSync(file, 'utf8'),
      isTest: /\.(test|contract)\.ts$/.test(path) || path.startsWith('server/testing/'),
    };
  },
);

describe('tidy', () => {
  test('imports follow the layers, and the wall between bench and server holds', () => {
    const violations = sources.flatMap((source) =>
      importsOf(source)
        .filter((target) => !mayImport(source, target))
        .map(
          (target) => `${source.path} may not import ${target}: see the layers in ARCHITECTURE.md`,
        ),
    );
    expect(violations).toEqual([]);
  });

  test('there is no import cycle', () => {
    const graph = new Map(
      sources.map((source): [string, string[]] => [
        source.path,
        importsOf(source, { values: true }),
      ]),
    );
    expect(findCycle(graph)).toBeUndefined();
  });

  test('pure code stays pure', () => {
    const violations = sources
      .filter((source) => !source.isTest && PURE.some((prefix) => source.path.startsWith(prefix)))
      .flatMap((source) =>
        withoutComments(source.text)
          .split('\n')
          .filter((line) => IMPURE.test(line))
          .map((line) => `${source.path}: "${line.trim()}" does not belong in pure code`),
      );
    expect(violations).toEqual([]);
  });

  test('files can be read in one sitting', () => {
    const violations = sources
      .map((source) => ({ ...source, lines: source.text.split('\n').length - 1 }))
      .filter(({ isTest, lines }) => lines > (isTest ? TEST_LINES_MAX : LINES_MAX))
      .map(({ path, lines }) => `${path} has ${lines} lines: split it by noun`);
    expect(violations).toEqual([]);
  });

  test('file names say what is inside', () => {
    expect(sources.map(({ path }) => path).filter((path) => BANNED_NAMES.test(path))).toEqual([]);
  });

  test('nothing unfinished or machine-specific is committed', () => {
    const violations = sources.flatMap((source) =>
      [...source.text.matchAll(UNFINISHED)].map((match) => `${source.path}: ${match[0]}`),
    );
    expect(violations).toEqual([]);
  });

  test('every file is imported by something, or is an entry', () => {
    const entries = /(main|simulate|baobench|profile|-worker|worker)\.ts$/;
    const imported = new Set(sources.flatMap((source) => importsOf(source)));
    const orphans = sources
      .filter(({ path }) => !imported.has(path) && !/\.test\.ts$/.test(path) && !entries.test(path))
      .filter(({ path }) => !path.startsWith('scripts/'))
      .map(({ path }) => path);
    expect(orphans).toEqual([]);
  });

  test('links in documents resolve', () => {
    const documents = ['README.md', 'ARCHITECTURE.md', 'results/README.md'].filter((path) =>
      existsSync(join(ROOT, path)),
    );
    const broken = documents.flatMap((path) =>
      [...readFileSync(join(ROOT, path), 'utf8').matchAll(/\]\((?!https?:|#)([^)#]+)/g)]
        .map((match) => match[1] ?? '')
        .filter((link) => !existsSync(join(ROOT, dirname(path), link)))
        .map((link) => `${path}: ${link}`),
    );
    expect(broken).toEqual([]);
  });
});

function walk(folder: string): string[] {
  return readdirSync(folder, { withFileTypes: true }).flatMap((item) => {
    const path = join(folder, item.name);
    if (item.isDirectory()) return item.name === 'node_modules' ? [] : walk(path);
    return item.name.endsWith('.ts') ? [path] : [];
  });
}

/** Paths within the repository; type-only imports count unless `values` is asked for. */
function importsOf(source: Source, options: { values?: boolean } = {}): string[] {
  const statements = source.text.matchAll(
    /^\s*(?:import|export)\s(type\s)?(?:[^'";]*?\sfrom\s+)?'([^']+)'|\bimport\(\s*'([^']+)'|new URL\('([^']+\.js)', import\.meta/gm,
  );
  return (
    [...statements]
      // A file that is started as a process or thread is used, but it is not imported.
      .filter((match) => !(options.values && (match[1] ?? match[4]) !== undefined))
      .map((match) => match[2] ?? match[3] ?? match[4] ?? '')
      .filter((specifier) => specifier.startsWith('.'))
      .map((specifier) => normalize(join(dirname(source.path), specifier.replace(/\.js$/, '.ts'))))
  );
}

function mayImport(source: Source, target: string): boolean {
  const crossesWall =
    (source.path.startsWith('server/') && /^(bench|workloads)\//.test(target)) ||
    (/^(bench|workloads)\//.test(source.path) &&
      target.startsWith('server/') &&
      !source.path.startsWith('bench/micro/'));
  if (crossesWall) return false;
  if (target.startsWith('scripts/'))
    return source.path.startsWith('scripts/') || target === 'scripts/baobench.ts';
  if (source.isTest) return true;
  // In-memory ports serve micro-benchmarks as they serve tests.
  if (target.startsWith('server/testing/')) return /^(scripts|bench\/micro)\//.test(source.path);
  const layer = LAYERS.find(({ folder }) => source.path.startsWith(folder));
  return layer !== undefined && layer.may.some((prefix) => target.startsWith(prefix));
}

function findCycle(graph: ReadonlyMap<string, readonly string[]>): string[] | undefined {
  const done = new Set<string>();
  const path: string[] = [];
  function visit(node: string): string[] | undefined {
    if (path.includes(node)) return [...path.slice(path.indexOf(node)), node];
    if (done.has(node)) return undefined;
    path.push(node);
    for (const next of graph.get(node) ?? []) {
      const cycle = visit(next);
      if (cycle !== undefined) return cycle;
    }
    path.pop();
    done.add(node);
    return undefined;
  }
  for (const node of graph.keys()) {
    const cycle = visit(node);
    if (cycle !== undefined) return cycle;
  }
  return undefined;
}

function withoutComments(text: string): string {
  return text.replaceAll(/\/\*[\s\S]*?\*\//g, '').replaceAll(/\/\/.*$/gm, '');
}
