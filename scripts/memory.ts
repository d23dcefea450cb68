/**
 * `npm run memory`: whether a node's memory is flat under steady writes. Three nodes as processes
 * take writes at a steady rate to the same keys; after a warm-up the resident memory of leader and
 * followers is sampled, and the slope of each is printed with its interval.
 *
 * The log in memory grows until it holds `trailing_logs` entries, so the warm-up must be longer than
 * that takes. Resident memory is a sawtooth of garbage collections, some 15 MiB high and 15 000
 * writes long. So the time is cut into windows of a few more writes than that, and each counts with
 * its least sample. The more collections there are in the time, the narrower the interval: with few
 * writes a second ten minutes say little.
 *
 * Exit code 1 if any slope is beyond the bound for certain, 2 if the writes were not steady.
 *
 * Options: `--minutes`, `--warm-minutes`, `--rate` (writes a second), `--value-bytes`,
 * `--fsm-mode`, `--samples FILE` (keeps them, in MiB over minutes).
 */

import { writeFileSync } from 'node:fs';
import { setTimeout as delay } from 'node:timers/promises';
import { parseArgs } from 'node:util';

import { lowerEnvelope } from '../bench/analysis/envelope.ts';
import { POINTS_MIN, slopeOf, type Point } from '../bench/analysis/slope.ts';
import { expectOk } from '../bench/cluster/admin-api.ts';
import { readProcessUsage } from '../bench/cluster/process-usage.ts';
import { startReferenceCluster, type Cluster } from '../bench/cluster/reference-cluster.ts';

const MIB = 1024 * 1024;
const SLOPE_MAX_MIB_PER_MINUTE = 0.5;
const SAMPLE_MS = 250;
/** Each window must hold a whole period of garbage collection. */
const WINDOW_WRITES = 24_000;
const KEYS = 2_000;
const BATCH_MS = 50;
/** Writes that wait for an answer; with more the rate is not what it says. */
const IN_FLIGHT_MAX = 256;
/** Of the intended writes, so many must have been made. */
const RATE_SHARE_MIN = 0.95;
const EXIT_NOT_FLAT = 1;
const EXIT_NOT_STEADY = 2;
const EXIT_INTERRUPTED = 130;
/** The default of `trailing_logs`. */
const TRAILING_LOGS = 10_240;

const { values } = parseArgs({
  options: {
    minutes: { type: 'string', default: '10' },
    'warm-minutes': { type: 'string', default: '3' },
    rate: { type: 'string', default: '500' },
    'value-bytes': { type: 'string', default: '1024' },
    'fsm-mode': { type: 'string', default: 'overlay' },
    samples: { type: 'string' },
  },
});
for (const name of ['SIGINT', 'SIGTERM'] as const) {
  // Nodes are ended when this process exits.
  process.once(name, () => process.exit(EXIT_INTERRUPTED));
}
const minutes = Number(values.minutes);
const windowCount = Math.floor((minutes * 60 * Number(values.rate)) / WINDOW_WRITES);
const warmMs = Number(values['warm-minutes']) * 60_000;
if (!(windowCount >= POINTS_MIN)) {
  console.error(`memory: --minutes and --rate must make ${POINTS_MIN * WINDOW_WRITES} writes`);
  process.exit(2);
}
if (warmMs * Number(values.rate) < TRAILING_LOGS * 1_000) {
  console.error(`memory: the warm-up must be ${TRAILING_LOGS} writes long, or the log still grows`);
  process.exit(2);
}

async function measure({ grow, token, ...rest }: Cluster): Promise<number> {
  await grow(3);
  const active = await rest.active();
  await expectOk('POST', 'sys/mounts/steady', {
    address: active.address,
    token,
    body: { type: 'kv' },
  });
  const writes = new SteadyWrites(`${active.address}`, token);
  const running = writes.run(warmMs + minutes * 60_000);
  await delay(warmMs);
  writes.reset();
  const nodes = rest.nodes().map((node) => ({ node, samples: [] as Point[] }));
  const startMs = performance.now();
  while (performance.now() < startMs + minutes * 60_000) {
    const x = (performance.now() - startMs) / 60_000;
    for (const { node, samples } of nodes) {
      samples.push({ x, y: readProcessUsage(node.processId).rssBytes / MIB });
    }
    await delay(SAMPLE_MS);
  }
  const { made, intended } = writes;
  await running;
  if ((await rest.active()).id !== active.id) throw new Error('another node leads now');

  console.log(
    `fsm_mode ${values['fsm-mode']}, ${values.rate} writes/s of ${values['value-bytes']} bytes, ` +
      `${minutes} min after ${warmMs / 60_000} min; made ${made} of ${intended} writes`,
  );
  if (values.samples !== undefined) {
    const kept = nodes.map(({ node, samples }) => ({ id: node.id, samples }));
    writeFileSync(values.samples, JSON.stringify(kept));
  }
  let isFlat = true;
  for (const { node, samples } of nodes) {
    const slope = slopeOf(lowerEnvelope(samples, windowCount));
    const role = node.id === active.id ? 'leader' : 'follower';
    const last = samples.at(-1)?.y ?? 0;
    console.log(
      `${node.id} ${role.padEnd(8)} ${last.toFixed(0)} MiB, slope ${slope.estimate.toFixed(2)} ` +
        `[${slope.low.toFixed(2)}, ${slope.high.toFixed(2)}] MiB/min`,
    );
    const isBeyond = slope.low > SLOPE_MAX_MIB_PER_MINUTE || slope.high < -SLOPE_MAX_MIB_PER_MINUTE;
    if (isBeyond) isFlat = false;
  }
  if (made < RATE_SHARE_MIN * intended) {
    console.error('memory: the writes were not steady, the slopes say nothing');
    return EXIT_NOT_STEADY;
  }
  return isFlat ? 0 : EXIT_NOT_FLAT;
}

/** Writes at an even rate, whatever the answers take, to the same keys over and over. */
class SteadyWrites {
  readonly #address: string;
  readonly #token: string;
  readonly #value = 'v'.repeat(Number(values['value-bytes']));
  #next = 0;
  #inFlight = 0;
  made = 0;
  intended = 0;

  constructor(address: string, token: string) {
    this.#address = address;
    this.#token = token;
  }

  reset(): void {
    this.made = 0;
    this.intended = 0;
  }

  async run(durationMs: number): Promise<void> {
    const perBatch = (Number(values.rate) * BATCH_MS) / 1_000;
    const startMs = performance.now();
    for (let batch = 1; performance.now() < startMs + durationMs; batch += 1) {
      const due = Math.floor(batch * perBatch) - Math.floor((batch - 1) * perBatch);
      for (let i = 0; i < due; i += 1) {
        this.intended += 1;
        if (this.#inFlight < IN_FLIGHT_MAX) void this.#write();
      }
      await delay(Math.max(0, startMs + batch * BATCH_MS - performance.now()));
    }
    while (this.#inFlight > 0) await delay(BATCH_MS);
  }

  /** A write that fails is one that was not made. */
  async #write(): Promise<void> {
    this.#next += 1;
    this.#inFlight += 1;
    try {
      await expectOk('PUT', `steady/key-${this.#next % KEYS}`, {
        address: this.#address,
        token: this.#token,
        body: { value: this.#value },
      });
      this.made += 1;
    } catch {
      // Counted as missing.
    } finally {
      this.#inFlight -= 1;
    }
  }
}

const cluster = await startReferenceCluster({
  name: 'm',
  mode: 'standby-reads',
  // With OpenBao's timeouts: another leader in mid-run would be another measurement.
  storage: { fsm_mode: values['fsm-mode'], performance_multiplier: 5 },
});
try {
  process.exitCode = await measure(cluster);
} finally {
  await cluster.stop();
}
