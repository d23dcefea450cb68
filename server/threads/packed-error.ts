/** Errors cross threads as plain data: a clone of an `Error` loses its code. */

import { ServerError } from '../errors.ts';
import type { ErrorCode } from '../errors.ts';

export type PackedError = {
  readonly name: string;
  readonly message: string;
  readonly stack: string | undefined;
  /** Of a `ServerError`. */
  readonly serverCode: ErrorCode | undefined;
  /** An error's own enumerable fields, as those of a system error. */
  readonly fields: object;
};

export function packError(error: unknown): PackedError {
  if (!(error instanceof Error)) return packError(new Error(String(error)));
  const { name, message, stack } = error;
  const cause = error.cause instanceof Error ? `: ${error.cause.message}` : '';
  const serverCode = error instanceof ServerError ? error.code : undefined;
  const fields = Object.fromEntries(
    Object.entries(error).filter(([, value]) => ['string', 'number'].includes(typeof value)),
  );
  return { name, message: message + cause, stack, serverCode, fields };
}

export function unpackError({ name, message, stack, serverCode, fields }: PackedError): Error {
  if (serverCode !== undefined) return new ServerError(serverCode, message);
  const error = Object.assign(new Error(message), fields);
  if (name !== error.name) error.name = name;
  if (stack !== undefined) error.stack = stack;
  return error;
}
