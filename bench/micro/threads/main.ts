/**
 * `npm run threads [-- --quick]`: what a thread of its own for raft costs where nothing else happens
 * in a node, as ratios of worker to inline. Two clusters of three processes take turns, in an order
 * that alternates; a ratio is of the two slices of one round. What the thread buys is what
 * `npm run saturation` shows: there the main threads have something else to do.
 */

import { mkdirSync, mkdtempSync, rmSync, writeFileSync } from 'node:fs';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { fileURLToPath } from 'node:url';
import { parseArgs } from 'node:util';

import { createClusterCredentials } from '../../../server/cluster/credentials.ts';
import { measuredRatio, median } from '../../analysis/paired.ts';
import { createRandom } from '../../random.ts';
import { PeerCluster, type Loaded } from '../peers/peer.ts';

const REFERENCE = fileURLToPath(new URL('../peers/reference-node.js', import.meta.url));
const CALLERS = [1, 16, 64] as const;
const PLACES = ['inline', 'worker'] as const;
const WARM_UP_MS = 2_000;

type Place = (typeof PLACES)[number];
type Round = Readonly<Record<Place, Loaded>>;

const { values } = parseArgs({ options: { quick: { type: 'boolean', default: false } } });
const { rounds, sliceMs } = values.quick
  ? { rounds: 6, sliceMs: 500 }
  : { rounds: 10, sliceMs: 2_000 };

const directory = mkdtempSync(join(tmpdir(), 'baobench-threads-'));
const clusters = new Map<Place, PeerCluster>();
try {
  const credentials = await writeCredentials();
  for (const place of PLACES) clusters.set(place, await start(place, credentials));
  for (const place of PLACES) await load(place, { concurrency: 16, ms: WARM_UP_MS });
  console.log('callers   p50 inline   p50 worker   worker/inline         ops/s worker/inline');
  for (const callers of CALLERS) console.log(compare(callers, await take(callers)));
} finally {
  await Promise.all([...clusters.values()].map((cluster) => cluster.stop()));
  rmSync(directory, { recursive: true, force: true });
}

async function writeCredentials(): Promise<string> {
  const { certificatePem, privateKeyPem } = await createClusterCredentials();
  writeFileSync(join(directory, 'certificate.pem'), certificatePem);
  writeFileSync(join(directory, 'key.pem'), privateKeyPem, { mode: 0o600 });
  return directory;
}

async function start(place: Place, credentials: string): Promise<PeerCluster> {
  const own = join(directory, place);
  mkdirSync(own);
  const security = place === 'worker' ? 'tls-worker' : 'tls';
  return await PeerCluster.start(
    (id, nodeDirectory) => [process.execPath, REFERENCE, id, nodeDirectory, credentials, security],
    own,
  );
}

async function load(
  place: Place,
  options: { readonly concurrency: number; readonly ms: number },
): Promise<Loaded> {
  const cluster = clusters.get(place);
  if (cluster === undefined) throw new Error(`no cluster with raft ${place}`);
  return await cluster.load(options);
}

async function take(callers: number): Promise<Round[]> {
  const taken: Round[] = [];
  for (let round = 0; round < rounds; round += 1) {
    const slice = { concurrency: callers, ms: sliceMs };
    if (round % 2 === 0) {
      const inline = await load('inline', slice);
      taken.push({ inline, worker: await load('worker', slice) });
    } else {
      const worker = await load('worker', slice);
      taken.push({ inline: await load('inline', slice), worker });
    }
  }
  return taken;
}

function compare(callers: number, taken: readonly Round[]): string {
  const middle = (place: Place): string =>
    `${median(taken.map((round) => round[place].p50Us).toSorted((a, b) => a - b)).toFixed(0)} us`;
  const latency = ratioOf(taken, ({ p50Us }) => p50Us);
  const throughput = ratioOf(taken, ({ ops, ms }) => ops / ms);
  return [
    String(callers).padStart(7),
    middle('inline').padStart(13),
    middle('worker').padStart(13),
    latency.padStart(20),
    throughput.padStart(24),
  ].join('');
}

function ratioOf(taken: readonly Round[], of: (loaded: Loaded) => number): string {
  const pairs = taken.map(({ inline, worker }) => ({ left: of(inline), right: of(worker) }));
  const measured = measuredRatio(pairs, createRandom(1, 'resample'));
  if ('refused' in measured) return measured.refused;
  const { value, low, high } = measured;
  return `${value.toFixed(2)} [${low?.toFixed(2)}, ${high?.toFixed(2)}]`;
}
