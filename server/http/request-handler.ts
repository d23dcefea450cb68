/**
 * A request from its parsed head to its answer: the node's own routes, the index headers, the
 * core, and the way to the active node (OpenBao http/handler.go, http/logical.go). It knows no
 * sockets: `http-server.ts` calls it for clients, and `serveForwarded` for other nodes.
 */

import { randomUUID } from 'node:crypto';

import type { WireRequest, WireResponse } from '../cluster/forwarding.ts';
import type { JsonObject, LogicalResponse } from '../core/backend.ts';
import { isUndecided } from '../core/exactly-once.ts';
import { ServerError, isServerError } from '../errors.ts';
import type { LogicalCall } from '../core/request-handling.ts';
import { parseDurationSeconds } from '../duration.ts';
import { withinDeadline } from './deadline.ts';
import { envelope, isInjected, statusFor } from './envelope.ts';
import { EMPTY_BODY, type Answer, type Incoming } from './exchange.ts';
import {
  answerOf,
  forwardToActive,
  headerRecord,
  redirectTo,
  type Forwarding,
} from './forwarding.ts';
import { consistencyInfo, hasHeader } from './consistency-info.ts';
import { findNodeRoute, type NodeRoutes } from './node-routes.ts';
import { isActiveOnly, isReadMethod, Placement, type PlacementSettings } from './placement.ts';
import { parseBody, requireMergePatch } from './request-body.ts';
import { readHead } from './request-head.ts';
import { parseTarget, queryData, type RequestTarget } from './request-target.ts';
import { createIndexEncoder } from './storage-index.ts';
import { errorBody, retryAfterSeconds, statusOf, toServerError } from './wire-errors.ts';

export type HandlerSettings = PlacementSettings & {
  /** A forwarded write is answered once this node has applied it, if that takes no longer. */
  readonly awaitForwardedWrites: boolean;
  /** What OpenBao ships, or what its RFC says. */
  readonly inconsistentStatus: 429 | 412;
  readonly raftNodeIdHeader: boolean;
  readonly hostnameHeader: boolean;
};

export type HandlerEvents = {
  readonly requestHandled: () => void;
  readonly requestForwarded: () => void;
  /** This node was behind, and the client wanted to be told. */
  readonly foundBehind: () => void;
  readonly forwardFailed: (error: ServerError) => void;
  readonly internalError: (error: unknown, requestId: string) => void;
};

export type RequestHandlerOptions = NodeRoutes & {
  readonly forwarding: Forwarding;
  readonly settings: HandlerSettings;
  /** Served without a token, as the listener's `unauthenticated_metrics_access` allows. */
  readonly openMetrics: { text(): Promise<string>; readonly contentType: string } | undefined;
  readonly events: HandlerEvents;
};

/** A write that this node does not apply within so long is answered all the same. */
const FORWARDED_WRITE_WAIT_MS = 1000;
/** Answered by this node or refused (OpenBao `handleLogicalNoForward`), and sealing oneself. */
const LOCAL_ONLY =
  /^sys\/(?:seal|metrics|host-info|monitor|in-flight-req|internal\/state-hash|pprof\/.*|config\/state\/.*)$/;
/** Too large to be forwarded: the client is sent to the active node (`alwaysRedirectPaths`). */
const REDIRECTED = new Set(['sys/storage/raft/snapshot', 'sys/storage/raft/snapshot-force']);

export class RequestHandler {
  readonly #options: RequestHandlerOptions;
  readonly #encodeIndex = createIndexEncoder();
  readonly #nodeHeaders: readonly string[];
  readonly #placement: Placement;

  constructor(options: RequestHandlerOptions) {
    this.#options = options;
    const { settings, identity } = options;
    this.#placement = new Placement(options);
    this.#nodeHeaders = [
      ...(settings.raftNodeIdHeader ? ['X-Vault-Raft-Node-ID', identity.nodeId] : []),
      ...(settings.hostnameHeader ? ['X-Vault-Hostname', identity.hostname] : []),
    ];
  }

  /** Never rejects. */
  async handle(incoming: Incoming): Promise<Answer> {
    try {
      return this.#explained(incoming, await this.#answer(incoming));
    } catch (error) {
      return this.#explained(incoming, this.errorAnswer(error, incoming.id));
    }
  }

  /** Whoever executes a request tells of itself, and so does a standby that has nobody to ask. */
  #explained({ head, isForwarded }: Incoming, answer: Answer): Answer {
    if (!head.consistencyInfo || hasHeader(answer, 'X-Bao-Served-By')) return answer;
    const info = consistencyInfo(this.#options, isForwarded);
    return { ...answer, headers: [...answer.headers, ...info] };
  }

  async #answer(incoming: Incoming): Promise<Answer> {
    this.#options.events.requestHandled();
    let isLocalOnly = false;
    try {
      const { method, url } = incoming;
      if (url.startsWith('/v1/sys/')) {
        const answer = await this.#nodeRoute(incoming);
        if (answer !== undefined) return answer;
      }
      const target = parseTarget(method, url);
      // However it was written: `s%79s/seal` seals this very node, too.
      const isSystem = target.path.startsWith('sys/');
      isLocalOnly = isSystem && LOCAL_ONLY.test(target.path);
      if (isSystem && REDIRECTED.has(target.path) && this.#isStandby()) {
        return this.#redirect(incoming);
      }
      if (isLocalOnly) {
        return this.#isSealedAlready(target)
          ? { status: 204, headers: this.#headers('application/json'), body: EMPTY_BODY }
          : await this.#handleHere(incoming, target);
      }
      const placing = this.#placement.of(incoming, target, isSystem);
      const placed = placing instanceof Promise ? await placing : placing;
      if (placed.kind === 'forward') return await this.#forward(incoming);
      if (placed.kind === 'fail') return this.#inconsistent();
      const answer = await this.#handleHere(incoming, target);
      if (incoming.head.consistencyInfo) answer.headers.push('X-Bao-Consistency', placed.level);
      return answer;
    } catch (error) {
      // Nothing was executed here: the core says so only then.
      if (isServerError(error, 'standby-please-forward')) {
        return await this.#forward(incoming, isLocalOnly);
      }
      throw error;
    }
  }

  /**
   * On the active node: what a standby has forwarded. Rejects where no answer of this node could be
   * the last word: it is not the active one, or cannot say what became of the request.
   */
  async serveForwarded(request: WireRequest): Promise<WireResponse> {
    const { core, position } = this.#options;
    if (core.isSealed() || core.standby()) {
      throw new ServerError('no-leader', 'this node is not the active one');
    }
    const rawHeaders = Object.entries(request.headers).flat();
    const head = readHead(rawHeaders);
    const { stamp, ...rest } = request;
    const stamped = stamp && { stamp, isRepeated: stamp.isRepeated };
    const incoming = { ...rest, rawHeaders, head, isForwarded: true, stamped };
    const answer = await this.#answer(incoming).catch((error: unknown) => {
      const { code } = toServerError(error);
      if (code === 'outcome-unknown' || code === 'session-expired') throw error;
      // A refusal that decides nothing says nothing of the attempt before this one.
      if (stamped?.isRepeated === true && isUndecided(code)) throw undecidedError(error);
      if (code === 'no-leader') throw error;
      return this.errorAnswer(error, request.id);
    });
    if (answer.stream !== undefined) {
      await answer.stream[Symbol.asyncIterator]().return?.();
      throw new ServerError('invalid-request', 'cannot forward a request with so large an answer');
    }
    const body = typeof answer.body === 'string' ? Buffer.from(answer.body) : answer.body;
    const headers = headerRecord(this.#explained(incoming, answer).headers);
    return { status: answer.status, headers, body, index: position.appliedIndex() };
  }

  /** For what goes wrong before or beside `handle`, too. */
  errorAnswer(error: unknown, requestId: string): Answer {
    const known = toServerError(error);
    const isBug = statusOf(known.code) === 500 && known.code !== 'refused';
    if (isBug) this.#options.events.internalError(error, requestId);
    const retryAfter = retryAfterSeconds(known.code);
    return {
      status: statusOf(known.code),
      headers: [
        ...this.#headers('application/json'),
        ...(retryAfter === undefined ? [] : ['Retry-After', String(retryAfter)]),
      ],
      body: errorBody([known.message]),
    };
  }

  async #handleHere(incoming: Incoming, target: RequestTarget): Promise<Answer> {
    const { head } = incoming;
    const call: LogicalCall = {
      id: incoming.id,
      operation: target.operation,
      path: target.path,
      namespacePath: head.namespacePath,
      data: incoming.stream === undefined ? this.#data(incoming, target) : {},
      stream: incoming.stream,
      clientToken: head.token,
      remoteAddress: incoming.remoteAddress,
      forwarded: incoming.isForwarded,
      stamped: incoming.stamped,
      ...(head.wrapTtl === '' ? {} : { wrapTtlSeconds: wrapTtl(head.wrapTtl) }),
    };
    const response = await this.#handled(call, incoming);
    const status = statusFor(target.operation, response);
    const headers = this.#headers(response?.raw?.contentType ?? 'application/json');
    headers.push('X-Vault-Index', this.#index(head.namespacePath));
    if (head.namespacePath !== '') headers.push('X-Vault-Namespace', head.namespacePath);
    if (response?.raw !== undefined) {
      const { body, stream } = response.raw;
      const answer = { status: response.status ?? 200, headers, body };
      if (stream === undefined) return answer;
      headers.push('Content-Disposition', 'attachment');
      return { ...answer, stream };
    }
    if (status === 204) return { status, headers, body: EMPTY_BODY };
    if (response === undefined || (status === 404 && response.status === undefined)) {
      return { status, headers, body: errorBody([]) };
    }
    return { status, headers, body: envelope(call.id, response, isInjected(target.path)) };
  }

  /**
   * Where nothing is written a value waits for nothing that could be stuck; on the active node it may
   * wait until the use of a limited token is counted. What is streamed takes as long as it takes.
   */
  #handled(call: LogicalCall, incoming: Incoming): Promise<LogicalResponse | undefined> {
    const { stream, outlivedBy } = incoming;
    const { core, forwarding } = this.#options;
    const handled = core.handleRequest(call);
    const isPlainRead = call.operation === 'read' && this.#isStandby();
    if (isPlainRead || stream !== undefined) return handled;
    return withinDeadline(handled, forwarding.limits.requestMs, outlivedBy);
  }

  #data(incoming: Incoming, target: RequestTarget): JsonObject {
    const { body, head } = incoming;
    if (target.isDataInQuery) return queryData(target);
    if (target.operation === 'patch') requireMergePatch(head.contentType);
    return parseBody(body, head.contentType, this.#options.jsonLimits);
  }

  async #nodeRoute(incoming: Incoming): Promise<Answer | undefined> {
    const { method, url } = incoming;
    const question = url.indexOf('?');
    const path = url.slice('/v1/'.length, question === -1 ? url.length : question);
    const { openMetrics } = this.#options;
    const readQuery = (): URLSearchParams =>
      new URLSearchParams(question === -1 ? '' : url.slice(question + 1));
    if (path === 'sys/metrics' && method === 'GET' && openMetrics !== undefined) {
      const format = readQuery().get('format') ?? '';
      if (format !== '' && format !== 'prometheus') {
        const body = `metric response format ${JSON.stringify(format)} unknown`;
        return { status: 400, headers: this.#headers('text/plain'), body };
      }
      return {
        status: 200,
        headers: this.#headers(openMetrics.contentType),
        body: await openMetrics.text(),
      };
    }
    const route = findNodeRoute(method, path);
    if (route === undefined) return undefined;
    const answer = await route(this.#options, incoming, readQuery());
    return { ...answer, headers: [...answer.headers, ...this.#nodeHeaders] };
  }

  #inconsistent(): Answer {
    this.#options.events.foundBehind();
    const headers = [...this.#headers('application/json'), 'Retry-After', '1'];
    return { status: this.#options.settings.inconsistentStatus, headers, body: errorBody([]) };
  }

  /** What is to be sealed is, and no token could be looked at (core.go `SealWithRequest`). */
  #isSealedAlready({ path, operation }: RequestTarget): boolean {
    return path === 'sys/seal' && operation === 'update' && this.#options.core.isSealed();
  }

  #isStandby(): boolean {
    const { core } = this.#options;
    return !core.isSealed() && core.standby();
  }

  /** Throws `no-leader` if there is nobody to go to. */
  #redirect({ url }: Incoming): Answer {
    const { status, headers, body } = redirectTo(this.#options.core.leader(), url);
    return { status, headers: [...this.#headers('application/json'), ...headers], body };
  }

  /** The active node's answer, or why there is none. */
  async #forward(incoming: Incoming, isLocalOnly = false): Promise<Answer> {
    const { forwarding, events } = this.#options;
    if (isLocalOnly) {
      const error = new ServerError('invalid-request', 'cannot forward local-only request');
      return this.errorAnswer(error, incoming.id);
    }
    try {
      // What was streamed is gone.
      const isUnsendable = incoming.head.noForwarding || incoming.stream !== undefined;
      if (isUnsendable) return this.#redirect(incoming);
      events.requestForwarded();
      const target = parseTarget(incoming.method, incoming.url);
      const forwarded = await forwardToActive(forwarding, incoming, {
        isRepeatable: isRepeatable(target),
        handleHere: (stamped) => this.#handleHere({ ...incoming, stamped }, target),
      });
      if (forwarded.kind === 'here') return forwarded.answer;
      await this.#awaitForwarded(incoming, forwarded.response.index);
      return answerOf(forwarded.response);
    } catch (error) {
      // Leadership came and went between the two: nothing was executed.
      const known = isServerError(error, 'standby-please-forward')
        ? new ServerError('no-leader', 'no active node found', { cause: error })
        : toServerError(error);
      events.forwardFailed(known);
      return this.errorAnswer(known, incoming.id);
    }
  }

  /** Whoever wrote through this node reads the write from it, too. */
  async #awaitForwarded({ method }: Incoming, index: number): Promise<void> {
    const { settings, position } = this.#options;
    if (!settings.awaitForwardedWrites || settings.disableStandbyReads) return;
    if (isReadMethod(method)) return;
    await position.awaitApplied(index, FORWARDED_WRITE_WAIT_MS);
  }

  #index(namespacePath: string): string {
    const { position, identity } = this.#options;
    return this.#encodeIndex(identity.stateId() ?? '', namespacePath, position.appliedIndex());
  }

  #headers(contentType: string): string[] {
    const headers = ['Cache-Control', 'no-store', 'Content-Type', contentType];
    if (this.#nodeHeaders.length > 0) headers.push(...this.#nodeHeaders);
    return headers;
  }
}

export function newRequestId(): string {
  return randomUUID();
}

/** What these do is not written to storage, so nothing could tell that it was done before. */
function isRepeatable({ path }: RequestTarget): boolean {
  return !isActiveOnly(path);
}

function undecidedError(cause: unknown): ServerError {
  const reason = 'the request was forwarded and its outcome is unknown: it could not be found out';
  return new ServerError('outcome-unknown', reason, { cause });
}

function wrapTtl(text: string): number {
  const seconds = parseDurationSeconds(text);
  if (seconds === undefined || seconds < 0) {
    throw new ServerError('invalid-request', 'error parsing X-Vault-Wrap-TTL header');
  }
  return seconds;
}
