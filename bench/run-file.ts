/**
 * Run directories: written once, read by reports. `run.json` is validated against the published
 * schema when it is written and when it is read, so that a report never draws what it does not
 * understand.
 */

import { existsSync, mkdirSync, readFileSync, writeFileSync } from 'node:fs';
import { join } from 'node:path';
import { fileURLToPath } from 'node:url';

import { Ajv2020 } from 'ajv/dist/2020.js';

import { renderPage } from './report/page.ts';
import type { Run } from './run.ts';

export const RESULTS_FOLDER = fileURLToPath(new URL('../../results/', import.meta.url));

const ERRORS_SHOWN_MAX = 3;

/** Throws with the first things that are wrong and where. */
export function checkRun(value: unknown): Run {
  const schema: object = JSON.parse(readFileSync(join(RESULTS_FOLDER, 'run.schema.json'), 'utf8'));
  const validate = new Ajv2020({ allErrors: true, allowUnionTypes: true }).compile<Run>(schema);
  if (validate(value)) return value;
  const errors = (validate.errors ?? [])
    .slice(0, ERRORS_SHOWN_MAX)
    .map(({ instancePath, message }) => `${instancePath === '' ? '/' : instancePath} ${message}`);
  throw new Error(`not a run of schema version 1: ${errors.join('; ')}`);
}

/** Reads `run.json` of a run directory. Throws an error that names the file and says what is wrong. */
export function readRun(directory: string): Run {
  const file = join(directory, 'run.json');
  const because = (error: unknown): string =>
    `${file}: ${error instanceof Error ? error.message : String(error)}`;
  let text: string;
  try {
    text = readFileSync(file, 'utf8');
  } catch (error) {
    throw new Error(existsSync(directory) ? because(error) : `no such directory: ${directory}`, {
      cause: error,
    });
  }
  try {
    return checkRun(JSON.parse(text));
  } catch (error) {
    throw new Error(because(error), { cause: error });
  }
}

/** Makes the directory; it must not exist yet. Returns its path. */
export function createRunDirectory(runId: string): string {
  const directory = join(RESULTS_FOLDER, 'runs', runId);
  mkdirSync(join(RESULTS_FOLDER, 'runs'), { recursive: true });
  mkdirSync(directory);
  return directory;
}

export function writeRun(directory: string, run: Run): void {
  checkRun(run);
  writeFileSync(join(directory, 'run.json'), `${JSON.stringify(run, null, 1)}\n`, { flag: 'wx' });
  writeReport(directory, run);
}

/** The report may be drawn again at any time: it is a function of the run. */
export function writeReport(directory: string, run: Run): string {
  const file = join(directory, 'report.html');
  writeFileSync(file, renderPage(run));
  return file;
}
