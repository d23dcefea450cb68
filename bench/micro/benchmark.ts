/**
 * Runs micro-benchmarks by tinybench and reduces each to a few figures per call.
 *
 * A call that takes less than the clock can tell is made many times per sample, in a loop that the
 * benchmark brings along: a loop shared by all would make every call in it megamorphic. What the
 * calls yield is added up and looked at in the end, so that V8 cannot leave them out. `prepare`
 * makes fresh inputs before each sample and is not timed.
 *
 * A percentile is one of samples: with many calls per sample it is of their means, and a slow call
 * among fast ones hardly shows. Figures compare with those of the same machine only.
 */

import assert from 'node:assert/strict';
import { Bench } from 'tinybench';

type Common = {
  readonly name: string;
  readonly callsPerSample: number;
  prepare?(): void;
};

/** `run` makes `callsPerSample` calls, and returns a number that depends on what they yielded. */
export type MicroBenchmark = Common &
  (
    | { readonly kind: 'sync'; run(): number }
    /** Includes one turn of the microtask queue per call, as the callers of such code pay it. */
    | { readonly kind: 'async'; run(): Promise<number> }
  );

/** Benchmarks that share a ground, which `close` takes down. */
export type MicroGroup = {
  readonly benchmarks: readonly MicroBenchmark[];
  close(): Promise<void>;
};

/** Times are of one call. */
export type MicroFigures = {
  readonly name: string;
  readonly medianNs: number;
  /** Median absolute deviation, unscaled. */
  readonly madNs: number;
  readonly p99Ns: number;
  readonly sampleCount: number;
  readonly callsPerSample: number;
};

const WARM_UP_MS = 200;
/** Sixteen benchmarks fit into 20 s. */
const MEASURE_MS = 700;
const SAMPLES_MIN = 64;

export async function runBenchmarks(
  benchmarks: readonly MicroBenchmark[],
): Promise<MicroFigures[]> {
  const bench = new Bench({
    warmupTime: WARM_UP_MS,
    time: MEASURE_MS,
    iterations: SAMPLES_MIN,
    timestampProvider: 'hrtimeNow',
    throws: true,
  });
  let sum = 0;
  for (const benchmark of benchmarks) {
    const { name, callsPerSample } = benchmark;
    const sample = (startMs: number, beganMs: number) => {
      const endMs = bench.now();
      return {
        overriddenDuration: (endMs - beganMs) / callsPerSample,
        overriddenIterationCost: endMs - startMs,
      };
    };
    if (benchmark.kind === 'sync') {
      const run = (): object => {
        const startMs = bench.now();
        benchmark.prepare?.();
        const beganMs = bench.now();
        sum += benchmark.run();
        return sample(startMs, beganMs);
      };
      bench.add(name, run, { async: false });
    } else {
      const run = async (): Promise<object> => {
        const startMs = bench.now();
        benchmark.prepare?.();
        const beganMs = bench.now();
        sum += await benchmark.run();
        return sample(startMs, beganMs);
      };
      bench.add(name, run, { async: true });
    }
  }
  await bench.run();
  assert(Number.isFinite(sum), 'a call yielded something that is no number');
  return benchmarks.map((benchmark) => figuresOf(bench, benchmark));
}

function figuresOf(bench: Bench, { name, callsPerSample }: MicroBenchmark): MicroFigures {
  const result = bench.getTask(name)?.result;
  if (result?.state !== 'completed') {
    const cause = result?.state === 'errored' ? result.error : undefined;
    throw new Error(`${name} did not complete: ${result?.state}`, { cause });
  }
  const { p50, p99, mad, samplesCount } = result.latency;
  return {
    name,
    medianNs: p50 * 1e6,
    madNs: mad * 1e6,
    p99Ns: p99 * 1e6,
    sampleCount: samplesCount,
    callsPerSample,
  };
}
