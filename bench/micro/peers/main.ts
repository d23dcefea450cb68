/**
 * `npm run targets [-- --quick] [--fsm sync|overlay] [--only library|http]`: measures the consensus of the reference server against the
 * targets of `target.ts`, with hashicorp/raft as the peer that is built from source on the spot.
 * Exit code 1 if a floor is missed.
 */

import { execFileSync } from 'node:child_process';
import { mkdirSync, mkdtempSync, rmSync, writeFileSync } from 'node:fs';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { fileURLToPath } from 'node:url';
import { parseArgs } from 'node:util';

import { createClusterCredentials } from '../../../server/cluster/credentials.ts';
import { compareLibraries, type Programs } from './library.ts';
import { measureOverHttp } from './over-http.ts';
import { measureSnapshotInstall } from './snapshot-install.ts';
import { formatTable, judge } from './target.ts';

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
  },
});
const fsmMode = values.fsm === 'sync' ? 'sync' : 'overlay';
const size = values.quick
  ? { rounds: 6, sliceMs: 400, kills: 5 }
  : { rounds: 8, sliceMs: 1_500, kills: 20 };

const directory = mkdtempSync(join(tmpdir(), 'baobench-targets-'));
const report = (progress: string): void => void process.stderr.write(`${progress}\n`);
try {
  const rows = [
    ...(values.only === 'http' || values.only === 'snapshot'
      ? []
      : await compareLibraries(await preparePrograms(), { ...size, directory, report })),
    ...(values.only === 'snapshot' ? await install() : []),
    ...(values.only === 'library' || values.only === 'snapshot'
      ? []
      : await measureOverHttp({ ...size, fsmMode, report })),
  ].toSorted((left, right) =>
    left.target.id.localeCompare(right.target.id, 'en', { numeric: true }),
  );
  console.log(formatTable(rows).join('\n'));
  const below = rows.filter((row) => judge(row) === 'below');
  if (below.length > 0) process.exitCode = 1;
} finally {
  rmSync(directory, { recursive: true, force: true });
}

async function install() {
  const { reference } = await preparePrograms();
  return await measureSnapshotInstall({
    program: reference(true, 0),
    tls: true,
    directory,
    installs: 1,
    report,
  });
}

async function preparePrograms(): Promise<Programs> {
  const credentials = join(directory, 'credentials');
  mkdirSync(credentials);
  const { certificatePem, privateKeyPem } = await createClusterCredentials();
  writeFileSync(join(credentials, 'certificate.pem'), certificatePem);
  writeFileSync(join(credentials, 'key.pem'), privateKeyPem, { mode: 0o600 });
  const hashicorp = buildHashicorp();
  return {
    hashicorp:
      hashicorp === undefined
        ? undefined
        : (tls) => (id, own) => [hashicorp, id, own, ...(tls ? [credentials] : [])],
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
