/** Names of tokens and accessors (openbao internal/vault/token_store.go, `create`). */

import { randomBytes } from 'node:crypto';
import { ServerError } from '../errors.ts';

/** OpenBao's `TokenLength`: 24 of 62 characters, 142 bits. */
const LENGTH = 24;
const BASE62 = '0123456789ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz';

/** Bytes from 248 on are thrown away, so that each character is equally likely. */
export function randomBase62(): string {
  let text = '';
  while (text.length < LENGTH) {
    for (const byte of randomBytes(LENGTH)) {
      if (byte < 4 * 62 && text.length < LENGTH) text += BASE62.charAt(byte % 62);
    }
  }
  return text;
}

/** A chosen id must not look like one that was made here. */
export function checkChosenId(id: string): void {
  if (id.startsWith('hvs.')) throw invalid("custom token ID cannot have the 'hvs.' prefix");
  if (id.startsWith('s.')) throw invalid("custom token ID cannot have the 's.' prefix");
  if (id.includes('.')) throw invalid("custom token ID cannot have a '.' in the value");
}

function invalid(message: string): ServerError {
  return new ServerError('invalid-request', message);
}
