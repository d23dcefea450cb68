/**
 * The words that drivers, client, and workloads share: a request, its answer, and who sends it.
 */

/** A node as the generator sees it. */
export type Target = {
  /** Short name used in tags and reports: no comma, dot, or space. */
  readonly name: string;
  /** For example `http://127.0.0.1:8200`. */
  readonly origin: string;
  /** What the node calls itself in `X-Vault-Raft-Node-ID`, once known. */
  readonly nodeId: string | undefined;
  readonly isActive: boolean;
};

export type Method = 'GET' | 'POST' | 'PUT' | 'PATCH' | 'DELETE';

export type Request = {
  readonly method: Method;
  /** Path and query, beginning with `/v1/`. */
  readonly path: string;
  /** Name, value, name, value, ...: built once and shared between requests. */
  readonly headers: readonly string[];
  readonly body: string | undefined;
};

/** Why a request got no answer. */
export type Failure = 'refused' | 'reset' | 'aborted' | 'protocol';

/** Clock readings are of the clock that the sender was given. */
export type Answer =
  | {
      readonly kind: 'answered';
      readonly status: number;
      /** `X-Vault-Raft-Node-ID` of the answer: the node that did the work. */
      readonly servedBy: string | undefined;
      readonly body: Buffer;
      readonly writtenNs: number;
      readonly completionNs: number;
    }
  | {
      readonly kind: 'failed';
      readonly failure: Failure;
      /** Absent when the request never reached a socket. */
      readonly writtenNs: number | undefined;
      readonly completionNs: number;
    };

export type Sender = {
  /**
   * Starts a request on a socket of `target` (an index), or queues it until one is free.
   *
   * `settle` is called exactly once, aborted or not, possibly before `send` returns.
   */
  send(target: number, request: Request, settle: (answer: Answer) => void): { abort(): void };
};

/** Which way an answer took; proven by the node-id header, not by configuration. */
export type Route = (typeof ROUTES)[number];

export const ROUTES = ['unknown', 'local', 'direct', 'forwarded'] as const;

/** Returns `direct` for the active node itself, `local` for a standby that answered by itself. */
export function routeOf(target: Target, servedBy: string | undefined): Route {
  if (servedBy === undefined || target.nodeId === undefined) return 'unknown';
  if (servedBy !== target.nodeId) return 'forwarded';
  return target.isActive ? 'direct' : 'local';
}
