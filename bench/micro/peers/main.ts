/**
 * `npm run targets [-- --quick] [--fsm sync|overlay] [--only PART] [--saturation MINUTES]`: measures
 * the consensus of the reference server against the targets of `target.ts`, with hashicorp/raft as
 * the peer, which is built from source on the spot. Exit code 1 if a floor is missed.
 *
 * `--quick` measures everything less often, and the snapshot with TLS only.
 */

import { execFileSync } from 'node:child_process';
import { mkdirSync, mkdtempSync, rmSync, writeFileSync } from 'node:fs';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { fileURLToPath } from 'node:url';
import { parseArgs } from 'node:util';

import { createClusterCredentials } from '../../../server/cluster/credentials.ts';
import { measureRestarts } from '../restart/restart.ts';
import { compareLibraries, type Programs } from './library.ts';
import { measureOverHttp } from './over-http.ts';
import { measureSnapshotInstall } from './snapshot-install.ts';
import { measureSaturation, measureSimulator } from './programs.ts';
import { formatTable, judge, TARGETS, type Row } from './target.ts';

const HASHICORP = fileURLToPath(
  new URL('../../../../bench/micro/peers/hashicorp', import.meta.url),
);
const REFERENCE = fileURLToPath(new URL('./reference-node.js', import.meta.url));
/** Modules may have to be fetched first. */
const BUILD_MS = 300_000;

const { values } = parseArgs({
  options: {
    quick: { type: 'boolean', default: false },
    fsm: { type: 'string', default: 'overlay' },
    only: { type: 'string' },
    saturation: { type: 'string' },
  },
});
const fsmMode = values.fsm === 'sync' ? 'sync' : 'overlay';
/** What a claim names (keys, entries, bytes) is never less: only how often it is measured. */
const size = values.quick
  ? { rounds: 6, sliceMs: 400, kills: 5, installs: 1, restarts: 3, seeds: 300 }
  : { rounds: 8, sliceMs: 1_500, kills: 20, installs: 2, restarts: 5, seeds: 400 };

const directory = mkdtempSync(join(tmpdir(), 'baobench-targets-'));
const report = (progress: string): void => void process.stderr.write(`${progress}\n`);
const programs = await preparePrograms();

const PARTS: Readonly<Record<string, () => Promise<Row[]> | Row[]>> = {
  library: () =>
    compareLibraries(
      { ...programs, hashicorp: hashicorpProgram() },
      { ...size, directory, report },
    ),
  http: () => measureOverHttp({ ...size, fsmMode, report }),
  saturation: () => [measureSaturation(values.saturation)],
  restart: () => measureRestart(),
  snapshot: async () => {
    const rows: Row[] = [];
    for (const tls of values.quick ? [true] : [true, false]) {
      const options = { ...size, program: programs.reference(tls, 0), tls, directory, report };
      rows.push(...(await measureSnapshotInstall(options)));
    }
    return rows;
  },
  simulator: () => measureSimulator(size.seeds),
};

try {
  process.exitCode = await main();
} finally {
  rmSync(directory, { recursive: true, force: true });
}

async function main(): Promise<number> {
  const names = values.only === undefined ? Object.keys(PARTS) : [values.only];
  const rows: Row[] = [];
  for (const name of names) {
    const part = PARTS[name];
    if (part === undefined) {
      report(`--only is one of ${Object.keys(PARTS).join(', ')}`);
      return 2;
    }
    report(name);
    rows.push(...(await part()));
  }
  rows.sort((left, right) =>
    left.target.id.localeCompare(right.target.id, 'en', { numeric: true }),
  );
  console.log(formatTable(rows).join('\n'));
  return rows.some((row) => judge(row) === 'below') ? 1 : 0;
}

async function measureRestart(): Promise<Row[]> {
  const own = join(directory, 'restart');
  mkdirSync(own);
  const restartSize = { keys: 1_000_000, entries: 100_000, rounds: size.restarts };
  const { behind } = await measureRestarts(own, restartSize);
  rmSync(own, { recursive: true });
  const longestMs = Math.max(...behind.map(({ servingMs }) => servingMs));
  const measured = { value: 1_000 * longestMs, unit: 'us', samples: behind.length };
  return [{ target: TARGETS.P14, tls: undefined, measured }];
}

async function preparePrograms(): Promise<Pick<Programs, 'reference'>> {
  const credentials = join(directory, 'credentials');
  mkdirSync(credentials);
  const { certificatePem, privateKeyPem } = await createClusterCredentials();
  writeFileSync(join(credentials, 'certificate.pem'), certificatePem);
  writeFileSync(join(credentials, 'key.pem'), privateKeyPem, { mode: 0o600 });
  return {
    reference: (tls, syncDelayMs) => (id, own) => [
      process.execPath,
      REFERENCE,
      id,
      own,
      credentials,
      tls ? 'tls' : 'plain',
      String(syncDelayMs),
      fsmMode,
    ],
  };
}

function hashicorpProgram(): Programs['hashicorp'] {
  const program = buildHashicorp();
  if (program === undefined) return undefined;
  const credentials = join(directory, 'credentials');
  return (tls) => (id, own) => [program, id, own, ...(tls ? [credentials] : [])];
}

/** Returns the program, or says why there is none. */
function buildHashicorp(): string | undefined {
  const program = join(directory, 'hashicorp');
  try {
    execFileSync('go', ['build', '-o', program, '.'], {
      cwd: HASHICORP,
      timeout: BUILD_MS,
      stdio: ['ignore', 'ignore', 'pipe'],
    });
    return program;
  } catch (error) {
    report(`hashicorp/raft cannot be built here, its ratios are refused: ${String(error)}`);
    return undefined;
  }
}
