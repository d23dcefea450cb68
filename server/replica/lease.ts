/**
 * How long a leader may answer reads alone after a round of heartbeats (`raft/read-index.ts`): less
 * than those who answered refuse their votes to others, by whatever clocks.
 *
 * A voter refuses for an election timeout, which it counts in ticks of its own clock. The first may
 * be over at once, and in the turn in which it answers it may count two more that came before
 * (`tick-schedule.ts`, a delay that is not yet a stall). What is left is shortened by how far two
 * clocks may drift apart meanwhile; real ones do by a ten-thousandth.
 */

export const LEASE_SLACK_TICKS = 3;
/** How much faster than the leader's a voter's clock may run. */
export const CLOCK_DRIFT_MAX = 0.1;

export function leaseMsOf(electionTicks: number, tickMs: number): number {
  return Math.max(0, (electionTicks - LEASE_SLACK_TICKS) * tickMs * (1 - CLOCK_DRIFT_MAX));
}
