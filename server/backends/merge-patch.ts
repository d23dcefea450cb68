import type { Json, JsonObject } from '../core/backend.ts';
import { isJsonObject } from './fields.ts';

/**
 * JSON merge patch (RFC 7396) of one object onto another: null removes a key, objects merge, the
 * rest replaces. Entries are copied as own properties, so that a key named `__proto__` is a key.
 */
export function mergePatch(target: JsonObject, patch: JsonObject): JsonObject {
  const merged = new Map<string, Json>(Object.entries(target));
  for (const [key, change] of Object.entries(patch)) {
    if (change === null) {
      merged.delete(key);
    } else if (isJsonObject(change)) {
      const current = merged.get(key);
      merged.set(key, mergePatch(isJsonObject(current) ? current : {}, change));
    } else {
      merged.set(key, change);
    }
  }
  return Object.fromEntries(merged);
}
