/** The joiner's way to the API of a member, over HTTP. What is said there: `core/join.ts`. */

import { request } from 'undici';
import type { Agent } from 'undici';
import type { JsonObject } from '../core/backend.ts';
import type { JoinClient, JoinPeer } from '../core/ports.ts';
import { ServerError } from '../errors.ts';
import { createJoinAgent } from './join-tls.ts';

/** Adding a learner takes one round of consensus. */
const TIMEOUT_MS = 10_000;
const REPLY_BYTES_MAX = 64 * 1024;
/** A standby may answer with the active node's address. */
const REDIRECTS_MAX = 2;

export function createJoinClient(): JoinClient {
  const post = (path: string) => async (peer: JoinPeer, body: JsonObject) => {
    const target = new URL(`/v1/sys/storage/raft/bootstrap/${path}`, parseAddress(peer.apiAddress));
    const agent = createJoinAgent(peer);
    try {
      return await postJson(target, { body, agent });
    } finally {
      await agent.destroy();
    }
  };
  return { challenge: post('challenge'), answer: post('answer') };
}

function parseAddress(address: string): URL {
  if (!URL.canParse(address)) {
    throw new ServerError(
      'invalid-request',
      `Cannot join: leader_api_addr is not a URL: ${address}`,
    );
  }
  return new URL(address);
}

type Exchange = { readonly body: JsonObject; readonly agent: Agent };

async function postJson(target: URL, exchange: Exchange): Promise<JsonObject> {
  let url = target;
  for (let redirects = 0; redirects <= REDIRECTS_MAX; redirects += 1) {
    const reply = await send(url, exchange);
    if (reply.location !== undefined) {
      url = new URL(reply.location, url);
      continue;
    }
    const parsed = parseReply(reply.text);
    if (reply.status === 200 && isObject(parsed?.['data'])) return parsed['data'];
    const errors = parsed?.['errors'];
    const reason =
      Array.isArray(errors) && errors.length > 0 ? errors.join('; ') : 'no reason given';
    // The member's refusal is about what this node asked: the operator can act on it.
    const code = 400 <= reply.status && reply.status < 500 ? 'invalid-request' : 'internal';
    throw new ServerError(code, `Cannot join: ${url.origin} answered ${reply.status}: ${reason}`);
  }
  throw new ServerError('internal', `Cannot join: more than ${REDIRECTS_MAX} redirects`);
}

type Reply = {
  readonly status: number;
  readonly location: string | undefined;
  readonly text: string;
};

async function send(url: URL, { body, agent }: Exchange): Promise<Reply> {
  try {
    const {
      statusCode,
      headers,
      body: stream,
    } = await request(url, {
      method: 'POST',
      dispatcher: agent,
      headers: { 'content-type': 'application/json', 'x-vault-request': 'true' },
      body: JSON.stringify(body),
      headersTimeout: TIMEOUT_MS,
      bodyTimeout: TIMEOUT_MS,
      signal: AbortSignal.timeout(TIMEOUT_MS),
    });
    const chunks: Buffer[] = [];
    let bytes = 0;
    for await (const chunk of stream as AsyncIterable<Buffer>) {
      bytes += chunk.length;
      if (bytes > REPLY_BYTES_MAX) throw new Error(`the reply exceeds ${REPLY_BYTES_MAX} bytes`);
      chunks.push(chunk);
    }
    const { location } = headers;
    const isRedirect = statusCode === 307 && typeof location === 'string';
    return {
      status: statusCode,
      location: isRedirect ? location : undefined,
      text: Buffer.concat(chunks).toString(),
    };
  } catch (error) {
    const reason = error instanceof Error ? error.message : String(error);
    throw new ServerError('internal', `Cannot join: ${url.origin} is not reachable: ${reason}`, {
      cause: error,
    });
  }
}

function parseReply(text: string): JsonObject | undefined {
  try {
    const parsed: unknown = JSON.parse(text);
    return isObject(parsed) ? parsed : undefined;
  } catch {
    return undefined;
  }
}

function isObject(value: unknown): value is JsonObject {
  return typeof value === 'object' && value !== null && !Array.isArray(value);
}
