import { expect, test } from 'vitest';

import { decodeConfiguration, encodeConfiguration, refuseChange } from './configuration.ts';
import type { Configuration } from './message.ts';

/** `a` is a voter, `a-` a learner, `a@x` a voter at address x. */
function configuration(text: string): Configuration {
  const words = text.split(' ').filter((word) => word !== '');
  return {
    servers: words.map((word) => {
      const [id = '', address = ''] = word.replace('-', '').split('@');
      return { id, address, suffrage: word.endsWith('-') ? 'learner' : 'voter' };
    }),
  };
}

test.each(['', 'a', 'a b- c@127.0.0.1:8201'])('encoding keeps "%s"', (text) => {
  expect(decodeConfiguration(encodeConfiguration(configuration(text)))).toEqual(
    configuration(text),
  );
});

test.each([
  ['not JSON', '{', 'JSON'],
  ['another value', '[]', 'no servers'],
  ['no servers', '{}', 'no servers'],
  ['a server without id', '{"servers":[{"address":"","suffrage":"voter"}]}', 'no id'],
  ['a server with an empty id', '{"servers":[{"id":"","address":"","suffrage":"voter"}]}', 'no id'],
  [
    'an unknown suffrage',
    '{"servers":[{"id":"a","address":"","suffrage":"witness"}]}',
    'unknown suffrage',
  ],
])('decoding refuses %s', (_, text, message) => {
  expect(() => decodeConfiguration(new TextEncoder().encode(text))).toThrow(message);
});

test.each([
  { current: 'a', next: 'a b', refusal: undefined },
  { current: 'a', next: 'a b-', refusal: undefined },
  { current: 'a b-', next: 'a b', refusal: undefined },
  { current: 'a b', next: 'a b-', refusal: undefined },
  { current: 'a b', next: 'b', refusal: undefined },
  { current: 'a b', next: 'b@x a', refusal: undefined },
  { current: 'a b', next: 'b@x a@y', refusal: /more than one/ },
  { current: 'a@x b', next: 'a@y b', refusal: undefined },
  { current: 'a b', next: 'b a', refusal: /nothing/ },
  { current: 'a', next: 'a b c', refusal: /more than one.*: b, c/ },
  { current: 'a b', next: 'a c', refusal: /more than one/ },
  { current: 'a', next: 'a-', refusal: /no voter/ },
  { current: 'a', next: '', refusal: /no voter/ },
  { current: 'a', next: 'a b b', refusal: /twice/ },
])('from "$current" to "$next": $refusal', ({ current, next, refusal }) => {
  const reason = refuseChange(configuration(current), configuration(next));
  expect(reason ?? 'allowed').toMatch(refusal ?? /^allowed$/);
});
