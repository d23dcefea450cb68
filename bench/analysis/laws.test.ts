import { expect, test } from 'vitest';

import { littlesLaw, utilizationLaw } from './laws.ts';

// Measured under quotas; and a published table of PKI issuing by fifteen workers.
test('the laws hold on figures that are known', () => {
  expect(
    utilizationLaw({ utilization: 0.3, throughputPerSecond: 7491, demandSeconds: 0.3 / 7463 })
      .mismatch,
  ).toBeLessThan(0.01);
  const pki = { throughputPerSecond: 1.33, responseSeconds: 11.669 };
  expect(littlesLaw({ ...pki, inFlightMean: 15 }).mismatch).toBeLessThan(0.05);
  expect(littlesLaw({ ...pki, inFlightMean: 30 }).mismatch).toBeGreaterThan(0.4);
});
