import { describe, expect, test } from 'vitest';
import type { Json, JsonObject } from '../core/backend.ts';
import { isServerError } from '../errors.ts';
import {
  booleanField,
  countField,
  durationField,
  encodeJson,
  integerField,
  integerListField,
  mapField,
  stringField,
  stringListField,
  stringMapField,
} from './fields.ts';

type Case = [name: string, read: (data: JsonObject, name: string) => unknown, Json, unknown];
const REFUSED = Symbol('refused');

describe('a field is converted or refused', () => {
  test.each<Case>([
    ['string', stringField, 'a', 'a'],
    ['string', stringField, 12, '12'],
    ['string', stringField, true, '1'],
    ['string', stringField, null, ''],
    ['string', stringField, ['a'], REFUSED],
    ['string', stringField, {}, REFUSED],
    ['bool', booleanField, true, true],
    ['bool', booleanField, 'true', true],
    ['bool', booleanField, '0', false],
    ['bool', booleanField, '', false],
    ['bool', booleanField, null, false],
    ['bool', booleanField, 'yes', REFUSED],
    ['bool', booleanField, [], REFUSED],
    ['int', integerField, 7, 7],
    ['int', integerField, '7', 7],
    ['int', integerField, '-7', -7],
    ['int', integerField, null, 0],
    ['int', integerField, true, 1],
    ['int', integerField, 1.5, REFUSED],
    ['int', integerField, '1e3', REFUSED],
    ['int', integerField, '99999999999999999999', REFUSED],
    ['int', integerField, {}, REFUSED],
    ['count', countField, 0, 0],
    ['count', countField, -1, REFUSED],
    ['map', mapField, { a: 1 }, { a: 1 }],
    ['map', mapField, null, {}],
    ['map', mapField, 'a', REFUSED],
    ['map', mapField, [1], REFUSED],
    ['string map', stringMapField, { a: 1, b: 'x' }, { a: '1', b: 'x' }],
    ['string map', stringMapField, { a: {} }, REFUSED],
    ['list', stringListField, 'a, b', ['a', 'b']],
    ['list', stringListField, ['a', 1], ['a', '1']],
    ['list', stringListField, '', []],
    ['list', stringListField, [{}], REFUSED],
    ['list', stringListField, {}, REFUSED],
    ['int list', integerListField, [1, '2'], [1, 2]],
    ['int list', integerListField, '1,2', [1, 2]],
    ['int list', integerListField, 3, [3]],
    ['int list', integerListField, null, []],
    ['int list', integerListField, ['x'], REFUSED],
    ['int list', integerListField, [1.5], REFUSED],
    ['duration', durationField, '1h', 3600],
    ['duration', durationField, '-1h', REFUSED],
    ['duration', durationField, 'soon', REFUSED],
  ])('%s: %# %j', (_, read, value, expected) => {
    expect(outcome(() => read({ field: value }, 'field'))).toEqual(expected);
  });

  test('absent is undefined, and so is what every object inherits', () => {
    expect(stringField({}, 'field')).toBeUndefined();
    expect(mapField({}, 'constructor')).toBeUndefined();
    expect(stringField({}, '__proto__')).toBeUndefined();
  });
});

/** What `convert` returns, or `REFUSED` if it refuses with a text that names the field. */
function outcome(convert: () => unknown): unknown {
  try {
    return convert();
  } catch (error) {
    const isRefusal = isServerError(error, 'invalid-request') && /field/.test(error.message);
    return isRefusal ? REFUSED : error;
  }
}

test('nesting that cannot be serialised is refused, not a crash', () => {
  let nested: Json = {};
  for (let depth = 0; depth < 100_000; depth += 1) nested = { nested };
  expect(() => encodeJson(nested)).toThrow(expect.objectContaining({ code: 'invalid-request' }));
});
