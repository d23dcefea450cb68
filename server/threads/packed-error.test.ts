import { expect, test } from 'vitest';
import { ServerError } from '../errors.ts';
import { packError, unpackError } from './packed-error.ts';

function sent(error: unknown): Error {
  return unpackError(structuredClone(packError(error)));
}

test('a refusal is still one, with its code', () => {
  const error = sent(new ServerError('overloaded', 'full'));
  expect(error).toBeInstanceOf(ServerError);
  expect(error).toMatchObject({ code: 'overloaded', message: 'full' });
});

test('an error of the system keeps its code, and says what was behind it', () => {
  const behind = Object.assign(new Error('no space left'), { code: 'ENOSPC', errno: -28 });
  expect(sent(behind)).toMatchObject({ code: 'ENOSPC', errno: -28, message: 'no space left' });
  expect(sent(new Error('cannot append', { cause: behind })).message).toBe(
    'cannot append: no space left',
  );
});

test('what is no error becomes one, and what cannot be cloned stays behind', () => {
  expect(sent('odd')).toMatchObject({ message: 'odd' });
  const error = Object.assign(new RangeError('far'), { act: () => undefined });
  expect(sent(error)).toMatchObject({ name: 'RangeError', message: 'far' });
});
