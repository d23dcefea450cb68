/** What the instrument itself pays for each sample. */

import { Histogram } from '../load/histogram.ts';
import { createRandom } from '../random.ts';
import type { MicroGroup } from './benchmark.ts';

const CALLS = 1000;
const SEED = 1;
/** A ten-thousandth of a second up to a tenth, evenly in the logarithm. */
const SHORTEST_NS = 100_000;
const DECADES = 3;

export function recording(): MicroGroup {
  const histogram = new Histogram();
  const random = createRandom(SEED, 'value');
  const valuesNs = Float64Array.from(
    { length: CALLS },
    () => SHORTEST_NS * 10 ** (DECADES * random.next()),
  );
  return {
    benchmarks: [
      {
        kind: 'sync',
        name: 'histogram: record a duration',
        callsPerSample: CALLS,
        run: () => {
          for (const valueNs of valuesNs) histogram.recordNs(valueNs);
          return histogram.count;
        },
      },
    ],
    close: async () => histogram.destroy(),
  };
}
