/**
 * Typed access to the fields of a request, as lenient as OpenBao's FieldData
 * (sdk/framework/field_data.go): `"3"` is an integer, `"a,b"` a list, null the zero value. What
 * cannot be converted is refused with OpenBao's text before a handler looks at it.
 *
 * Every function returns undefined for a field that is absent.
 */

import type { Json, JsonObject } from '../core/backend.ts';
import { ServerError } from '../errors.ts';
import { parseDurationSeconds } from '../duration.ts';

export function invalidRequest(message: string): ServerError {
  return new ServerError('invalid-request', message);
}

export function stringField(data: JsonObject, name: string): string | undefined {
  const value = ownField(data, name);
  if (value === undefined) return undefined;
  const text = weakString(value);
  if (text === undefined) throw conversionError(name, 'string', value);
  return text;
}

export function booleanField(data: JsonObject, name: string): boolean | undefined {
  const value = ownField(data, name);
  if (value === undefined) return undefined;
  if (value === null || value === '') return false;
  if (typeof value === 'boolean') return value;
  if (typeof value === 'number') return value !== 0;
  if (typeof value === 'string') {
    if (/^(?:1|t|T|true|TRUE|True)$/.test(value)) return true;
    if (/^(?:0|f|F|false|FALSE|False)$/.test(value)) return false;
  }
  throw conversionError(name, 'bool', value);
}

export function integerField(data: JsonObject, name: string): number | undefined {
  const value = ownField(data, name);
  if (value === undefined) return undefined;
  const number = weakInteger(value);
  if (number === undefined) throw conversionError(name, 'int', value);
  return number;
}

/** An integer that counts something: refused below zero. */
export function countField(data: JsonObject, name: string): number | undefined {
  const number = integerField(data, name);
  if (number !== undefined && number < 0) {
    throw invalidRequest(`${name} must not be negative, got ${number}`);
  }
  return number;
}

export function mapField(data: JsonObject, name: string): JsonObject | undefined {
  const value = ownField(data, name);
  if (value === undefined) return undefined;
  if (value === null) return {};
  if (!isJsonObject(value)) throw conversionError(name, 'map', value);
  return value;
}

/** A map of which every value becomes a string (TypeKVPairs). */
export function stringMapField(
  data: JsonObject,
  name: string,
): { readonly [key: string]: string } | undefined {
  const map = mapField(data, name);
  if (map === undefined) return undefined;
  return Object.fromEntries(
    Object.entries(map).map(([key, value]) => {
      const text = weakString(value);
      if (text === undefined) throw conversionError(name, 'string', value);
      return [key, text];
    }),
  );
}

/** A list, or a string with commas. */
export function stringListField(data: JsonObject, name: string): readonly string[] | undefined {
  const items = listItems(data, name);
  return items?.map((item) => {
    const text = weakString(item);
    if (text === undefined) throw conversionError(name, 'string', item);
    return text;
  });
}

/** A list of integers, one integer, or a string with commas (TypeCommaIntSlice). */
export function integerListField(data: JsonObject, name: string): readonly number[] | undefined {
  const items = listItems(data, name);
  return items?.map((item) => {
    const number = weakInteger(item);
    if (number === undefined) throw conversionError(name, 'int', item);
    return number;
  });
}

/** Whole seconds, maybe below zero (TypeSignedDurationSecond). */
export function signedDurationField(data: JsonObject, name: string): number | undefined {
  const value = ownField(data, name);
  if (value === undefined) return undefined;
  const seconds = parseDurationSeconds(value);
  if (seconds === undefined) throw conversionError(name, 'duration', value);
  return seconds;
}

/** Whole seconds (TypeDurationSecond). */
export function durationField(data: JsonObject, name: string): number | undefined {
  const seconds = signedDurationField(data, name);
  if (seconds !== undefined && seconds < 0) {
    throw fieldError(name, `cannot provide negative value '${seconds}'`);
  }
  return seconds;
}

export function isJsonObject(value: Json | undefined): value is JsonObject {
  return typeof value === 'object' && value !== null && !Array.isArray(value);
}

/** The text of a value that came from a request; too deep a nesting is the request's fault. */
export function encodeJson(value: Json): string {
  try {
    return JSON.stringify(value);
  } catch (error) {
    if (!(error instanceof RangeError)) throw error;
    throw new ServerError('invalid-request', 'JSON is nested too deeply', { cause: error });
  }
}

/** A field of the request itself: never one that every object inherits. */
export function ownField(data: JsonObject, name: string): Json | undefined {
  return Object.hasOwn(data, name) ? data[name] : undefined;
}

/** A number, boolean or string as a string, as mapstructure's WeakDecode makes it. */
export function weakString(value: Json): string | undefined {
  if (value === null) return '';
  if (typeof value === 'string') return value;
  if (typeof value === 'number') return String(value);
  if (typeof value === 'boolean') return value ? '1' : '0';
  return undefined;
}

export function weakInteger(value: Json): number | undefined {
  if (value === null || value === '') return 0;
  if (typeof value === 'boolean') return value ? 1 : 0;
  const isIntegerText = typeof value === 'string' && /^\s*[+-]?\d+\s*$/.test(value);
  if (typeof value !== 'number' && !isIntegerText) return undefined;
  const number = Number(value);
  return Number.isSafeInteger(number) ? number : undefined;
}

function listItems(data: JsonObject, name: string): readonly Json[] | undefined {
  const value = ownField(data, name);
  if (value === undefined) return undefined;
  if (value === null || value === '') return [];
  if (Array.isArray(value)) return value;
  if (typeof value === 'string') return value.split(',').map((item) => item.trim());
  if (typeof value === 'number') return [value];
  throw conversionError(name, 'slice', value);
}

function conversionError(name: string, expected: string, value: Json): ServerError {
  const actual = Array.isArray(value) ? 'slice' : isJsonObject(value) ? 'map' : typeof value;
  return fieldError(name, `expected type '${expected}', got unconvertible type '${actual}'`);
}

function fieldError(name: string, reason: string): ServerError {
  return invalidRequest(
    `Field validation failed: error converting input for field ${JSON.stringify(name)}: ${reason}`,
  );
}
