/** What two failures must have in common to count as the same: the invariant and what broke it. */

import { InvariantViolation } from './invariants.ts';

export function failureKey(error: unknown): string {
  if (error instanceof InvariantViolation) return error.message;
  if (!(error instanceof Error)) return String(error);
  const [firstLine = ''] = error.message.split('\n');
  return `${error.name}: ${firstLine}`;
}
