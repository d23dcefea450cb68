/** Writes a marker and watches for it on each standby; what goes wrong is told, never thrown. */

import assert from 'node:assert/strict';
import { setTimeout as delay } from 'node:timers/promises';

import type { HttpClient, Reply } from '../load/client.ts';
import type { Request, Target } from '../load/exchange.ts';
import type { LagMethod } from '../run.ts';
import type { Marker, Sighting } from './lag-figures.ts';

const KEY = 'marker';
const VISIBLE_TIMEOUT_MS = 5_000;
/** After so many polls a millisecond between them is exact enough and leaves the nodes in peace. */
const EAGER_POLLS = 20;
/** 404 before the first marker has come. */
const READ_STATUSES: readonly number[] = [200, 404];
/** Of a standby that has not applied the index in time; which one is a setting of the server. */
const BEHIND_STATUSES: readonly number[] = [412, 429];

export type Prober = {
  /** Writes one marker; the sightings are in the order of the standbys. */
  mark(method: LagMethod): Promise<Marker>;
};

export function createProber(options: {
  readonly ask: HttpClient['ask'];
  /** The clock of the answers. */
  readonly nowNs: () => number;
  /** The active node, then the standbys. */
  readonly targets: readonly Target[];
  readonly token: string;
  /** Mount of a key-value engine. */
  readonly mount: string;
}): Prober {
  const { ask, nowNs, targets, token } = options;
  const path = `/v1/${options.mount}/${KEY}`;
  const read: Request = {
    method: 'GET',
    path,
    headers: ['x-vault-token', token],
    body: undefined,
  };
  let marker = 0;

  /** Returns nothing where there is no answer. */
  async function askUntil(
    target: number,
    request: Request,
    deadlineNs: number,
  ): Promise<Reply | undefined> {
    // A timer may be early by a fraction of a millisecond.
    const timeoutMs = Math.max(1, Math.ceil((deadlineNs - nowNs()) / 1e6) + 1);
    try {
      return await ask(target, request, timeoutMs);
    } catch (error) {
      if (error instanceof assert.AssertionError) throw error;
      return undefined;
    }
  }

  const isFromItself = (target: number, answer: Reply): boolean =>
    answer.servedBy === targets[target]?.nodeId;

  async function probe(target: number, wanted: number, ackNs: number): Promise<Sighting> {
    const deadlineNs = ackNs + VISIBLE_TIMEOUT_MS * 1e6;
    let lastStaleStartNs = ackNs;
    for (let polls = 0; nowNs() < deadlineNs; polls++) {
      if (polls >= EAGER_POLLS) await delay(1);
      const answer = await askUntil(target, read, deadlineNs);
      if (answer === undefined && deadlineNs <= nowNs()) break;
      // An error is not a stale answer: it says nothing about what the standby has.
      if (answer === undefined || !READ_STATUSES.includes(answer.status)) return { kind: 'failed' };
      if (!isFromItself(target, answer)) return { kind: 'misrouted' };
      if (answer.status === 200 && markerOf(answer.body) >= wanted) {
        return {
          kind: 'seen',
          upperUs: (answer.completionNs - ackNs) / 1e3,
          lowerUs: Math.max(0, lastStaleStartNs - ackNs) / 1e3,
        };
      }
      lastStaleStartNs = answer.writtenNs;
    }
    return {
      kind: 'unseen',
      upperUs: (nowNs() - ackNs) / 1e3,
      lowerUs: Math.max(0, lastStaleStartNs - ackNs) / 1e3,
    };
  }

  async function awaitIndex(target: number, index: string, ackNs: number): Promise<Sighting> {
    const deadlineNs = ackNs + VISIBLE_TIMEOUT_MS * 1e6;
    const request = {
      ...read,
      headers: [
        ...read.headers,
        'x-vault-index',
        index,
        'x-vault-inconsistent',
        'await-state,fail',
      ],
    };
    const answer = await askUntil(target, request, deadlineNs);
    if (answer === undefined) {
      if (nowNs() < deadlineNs) return { kind: 'failed' };
      return { kind: 'unseen', upperUs: (nowNs() - ackNs) / 1e3, lowerUs: null };
    }
    const isBehind = BEHIND_STATUSES.includes(answer.status);
    if (answer.status !== 200 && !isBehind) return { kind: 'failed' };
    if (!isFromItself(target, answer)) return { kind: 'misrouted' };
    const upperUs = (answer.completionNs - ackNs) / 1e3;
    return { kind: isBehind ? 'unseen' : 'seen', upperUs, lowerUs: null };
  }

  return {
    async mark(method) {
      const wanted = ++marker;
      const request: Request = {
        method: 'POST',
        path,
        headers: [...read.headers, 'content-type', 'application/json'],
        body: `{"marker":"m${wanted}."}`,
      };
      const written = await askUntil(0, request, nowNs() + VISIBLE_TIMEOUT_MS * 1e6);
      if (written?.status !== 204) return { kind: 'failed' };
      if (!isFromItself(0, written)) return { kind: 'misrouted' };
      const index = written.headers.get('x-vault-index');
      assert(index !== undefined, 'the write was answered without an index');
      const sightings = await Promise.all(
        targets
          .slice(1)
          .map((_, position) =>
            method === 'probe'
              ? probe(position + 1, wanted, written.completionNs)
              : awaitIndex(position + 1, index, written.completionNs),
          ),
      );
      return { kind: 'written', sightings };
    },
  };
}

/** Returns the number in `"marker":"m17."`, or 0 where there is none. */
function markerOf(body: Buffer): number {
  const start = body.indexOf('"marker":"m');
  if (start < 0) return 0;
  const from = start + '"marker":"m'.length;
  return Number(body.toString('latin1', from, body.indexOf('.', from)));
}
