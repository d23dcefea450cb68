/** Bytes of a body to the data of a request (OpenBao http/util.go `parseJSONRequest`, `isForm`). */

import type { JsonObject } from '../core/backend.ts';
import { ServerError } from '../errors.ts';
import { parseQuery } from './request-target.ts';

/** Deeper bodies could exhaust the stack of what walks them. */
export const JSON_DEPTH_MAX = 128;

const MERGE_PATCH = 'application/merge-patch+json';
const FORM = 'application/x-www-form-urlencoded';
const EMPTY: JsonObject = Object.freeze({});

const QUOTE = 0x22;
const BACKSLASH = 0x5c;

export type JsonLimits = { readonly stringsMax: number };

/**
 * A JSON object whatever the content type says, because clients say `text/plain`, or a form if it
 * says so and the body does not look like JSON. No body is an empty object.
 */
export function parseBody(body: Buffer, contentType: string, limits: JsonLimits): JsonObject {
  const first = firstByte(body);
  if (first === undefined) return EMPTY;
  if (first !== '{' && first !== '[' && mediaType(contentType) === FORM) {
    return parseQuery(body.toString('utf8').trim());
  }
  checkComplexity(body, limits);
  let value: unknown;
  try {
    value = JSON.parse(body.toString('utf8'));
  } catch (error) {
    throw new ServerError('invalid-request', `failed to decode JSON input: ${reason(error)}`);
  }
  if (value === null) return EMPTY;
  if (typeof value !== 'object' || Array.isArray(value)) {
    throw new ServerError('invalid-request', 'failed to decode JSON input: expected an object');
  }
  return value as JsonObject;
}

/**
 * Throws `invalid-request` or `unsupported-media-type` unless the request says that it is a merge
 * patch (RFC 7396).
 */
export function requireMergePatch(contentType: string): void {
  const type = mediaType(contentType);
  if (type === '') throw new ServerError('invalid-request', 'mime: no media type');
  if (type !== MERGE_PATCH) {
    throw new ServerError(
      'unsupported-media-type',
      `PATCH requires Content-Type of ${MERGE_PATCH}, provided ${type}`,
    );
  }
}

function mediaType(contentType: string): string {
  const end = contentType.indexOf(';');
  return (end === -1 ? contentType : contentType.slice(0, end)).trim().toLowerCase();
}

function firstByte(body: Buffer): string | undefined {
  for (const byte of body) {
    if (byte > 0x20) return String.fromCharCode(byte);
  }
  return undefined;
}

/** The engine's message quotes the input: a body may be a secret, so only the position is kept. */
function reason(error: unknown): string {
  const text = error instanceof Error ? error.message : '';
  const position = /at position \d+/.exec(text)?.[0];
  return position === undefined ? 'unexpected end of input' : `invalid character ${position}`;
}

/** Refuses before parsing what would cost far more than its bytes (OpenBao `max_request_json_*`). */
function checkComplexity(body: Buffer, { stringsMax }: JsonLimits): void {
  if (body.length <= 2 * Math.min(JSON_DEPTH_MAX, stringsMax)) return;
  let depth = 0;
  let strings = 0;
  for (let at = 0; at < body.length; at += 1) {
    const byte = body[at];
    if (byte === QUOTE) {
      strings += 1;
      at = endOfString(body, at);
    } else if (byte === 0x7b || byte === 0x5b) {
      depth += 1;
    } else if (byte === 0x7d || byte === 0x5d) {
      depth -= 1;
    }
    if (depth > JSON_DEPTH_MAX) {
      throw new ServerError('invalid-request', `JSON nested deeper than ${JSON_DEPTH_MAX}`);
    }
    if (strings > stringsMax) {
      throw new ServerError(
        'invalid-request',
        'refused JSON input due to high complexity: exceeded maximum number of strings',
      );
    }
  }
}

/** Where the closing quote is, or the end; `indexOf` makes long values cheap. */
function endOfString(body: Buffer, open: number): number {
  let at = open;
  for (;;) {
    at = body.indexOf(QUOTE, at + 1);
    if (at === -1) return body.length;
    let escapes = 0;
    while (body[at - 1 - escapes] === BACKSLASH) escapes += 1;
    if (escapes % 2 === 0) return at;
  }
}
