/** The command line with input that makes no sense: one line on stderr, and the documented code. */

import { spawn } from 'node:child_process';
import { once } from 'node:events';
import {
  mkdirSync,
  mkdtempSync,
  readdirSync,
  readFileSync,
  rmSync,
  watch,
  writeFileSync,
} from 'node:fs';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { fileURLToPath } from 'node:url';

import { afterAll, beforeAll, describe, expect, test } from 'vitest';

import { describeSuite } from './main.ts';

const CLI = fileURLToPath(new URL('../scripts/baobench.js', import.meta.url));
const RECORDED = new URL('../../results/reference/run.json', import.meta.url);

let directory: string;
beforeAll(() => {
  directory = mkdtempSync(join(tmpdir(), 'baobench-main-'));
});
afterAll(() => rmSync(directory, { recursive: true, force: true }));

type Ended = { readonly code: number | null; readonly output: string; readonly errors: string };

/** Resolves when all that it started has let go of its output, too. */
function start(
  args: readonly string[],
  onOutput?: (kill: () => void, text: string) => void,
  killAfter?: Promise<unknown>,
) {
  return new Promise<Ended>((resolve) => {
    const child = spawn(process.execPath, [CLI, ...args], {
      cwd: directory,
      env: { ...process.env, TMPDIR: directory },
      stdio: ['ignore', 'pipe', 'pipe'],
    });
    void killAfter?.then(() => child.kill('SIGINT'));
    let output = '';
    let errors = '';
    child.stdout.setEncoding('utf8').on('data', (text: string) => {
      output += text;
      onOutput?.(() => child.kill('SIGINT'), output);
    });
    child.stderr.setEncoding('utf8').on('data', (text: string) => {
      errors += text;
    });
    child.once('close', (code) => resolve({ code, output, errors }));
  });
}

describe('usage', () => {
  test.each([
    [['run', '--seed', ''], "argument '' is invalid. must be a whole number from 0 to 4294967295"],
    [['run', '--seed', '9007199254741'], 'must be a whole number from 0 to 4294967295'],
    [['run', '--seed', '4294967296'], 'must be a whole number from 0 to 4294967295'],
    [['run', '--seed', '1e3'], 'must be a whole number'],
    [['run', '--seed', '-1'], 'must be a whole number'],
    [['run', '--only', 'everything'], 'Allowed choices are scaling, forwarding, lag'],
    [['run', '--quick', '--full'], '--quick and --full exclude each other'],
    [['cluster', '--nodes', '10'], 'must be a whole number from 1 to 9'],
    [['cluster', '--nodes', ''], 'must be a whole number from 1 to 9'],
    [['report'], "missing required argument 'directory'"],
    [['measure'], "unknown command 'measure'"],
  ])('%j is exit code 2', async (args, complaint) => {
    const { code, output, errors } = await start(args);
    expect({ code, output }).toEqual({ code: 2, output: '' });
    expect(errors).toContain(complaint);
    expect(errors).not.toMatch(/^ +at /m);
  });
});

test('the commit of a run is that of the package, not of where it is called from', () => {
  const folder = process.cwd();
  const expected = describeSuite();
  process.chdir(directory);
  try {
    expect(describeSuite()).toEqual(expected);
  } finally {
    process.chdir(folder);
  }
});

describe('report of what is no run', () => {
  test.each([
    ['nothing', undefined, 'no such directory: '],
    ['an empty directory', '', 'run.json: ENOENT: no such file or directory'],
    ['a broken run.json', '{"seed": 1,\n "gates": [', 'run.json: Unexpected end of JSON input'],
    ['something else', '[]', 'run.json: not a run of schema version 1: / must be object'],
    [
      'a run of another version',
      readFileSync(RECORDED, 'utf8').replace('"schemaVersion": 1', '"schemaVersion": 0'),
      'run.json: not a run of schema version 1: /schemaVersion must be equal to constant',
    ],
  ])('%s: one line, exit code 1', async (name, text, complaint) => {
    const run = join(directory, name.replaceAll(' ', '-'));
    if (text !== undefined) mkdirSync(run);
    if (text) writeFileSync(join(run, 'run.json'), text);
    const { code, output, errors } = await start(['report', run]);
    expect({ code, output }).toEqual({ code: 1, output: '' });
    expect(errors).toMatch(/^baobench: [^\n]+\n$/);
    expect(errors).toContain(complaint);
    expect(errors).toContain(run);
  });
});

describe('Ctrl-C', () => {
  test('is how a cluster ends: exit code 0, nothing left', async () => {
    const { code, errors } = await start(['cluster', '--nodes', '1'], (kill, output) => {
      if (output.includes('Ctrl-C stops the cluster')) kill();
    });
    expect({ code, errors }).toEqual({ code: 0, errors: '' });
    expect(temporary()).toEqual([]);
  });

  test('stops a measurement: one line, exit code 130, nothing left', async () => {
    // Its first deed is a directory.
    const watcher = watch(directory);
    const begun = once(watcher, 'change');
    const { code, output, errors } = await start(['read-cost'], undefined, begun);
    watcher.close();
    expect({ code, output, errors }).toEqual({
      code: 130,
      output: '',
      errors: 'baobench: interrupted by SIGINT\n',
    });
    expect(temporary()).toEqual([]);
  });

  function temporary(): string[] {
    return readdirSync(directory).filter((name) => name.startsWith('baobench-'));
  }
});
