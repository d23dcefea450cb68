/** How long a request may take (OpenBao's `default_max_request_duration`). */

import { ServerError } from '../errors.ts';

/**
 * Rejects with `outcome-unknown` when time is up, as where a disk never answers: what was begun
 * goes on, and whether it takes effect is not known. Nothing of it reaches the client any more.
 */
export function withinDeadline<T>(
  begun: Promise<T>,
  timeoutMs: number,
  onOverdue: (begun: Promise<T>) => void = () => undefined,
): Promise<T> {
  return new Promise((resolve, reject) => {
    const timer = setTimeout(() => {
      onOverdue(begun);
      reject(overdueError(timeoutMs));
    }, timeoutMs);
    begun.then(resolve, reject).finally(() => clearTimeout(timer));
  });
}

function overdueError(timeoutMs: number): ServerError {
  const reason = `the request was not done within ${timeoutMs} ms and its outcome is unknown`;
  return new ServerError('outcome-unknown', reason);
}
