import * as fc from 'fast-check';
import { describe, expect, test } from 'vitest';

import {
  decodeConfiguration,
  encodeConfiguration,
  leaveJoint,
  planChange,
} from './configuration.ts';
import type { Configuration, NodeId, Server } from './message.ts';
import { Quorum } from './quorum.ts';

/**
 * `a` is a voter, `a-` a learner, `a~` a server that leaves, `a@x` one at address x, `a#i` one with
 * instance i. What follows
 * `&` are the outgoing voters of a joint configuration, which waits to be told to leave after `&!`.
 */
function configuration(text: string): Configuration {
  const [left = '', outgoing] = text.split(/&!?/);
  const servers = left
    .split(' ')
    .filter(Boolean)
    .map((word): Server => {
      const [place = '', instance] = word.replace(/[-~]/, '').split('#');
      const [id = '', address = ''] = place.split('@');
      const suffrage = word.endsWith('-') ? 'learner' : word.endsWith('~') ? 'leaving' : 'voter';
      return { id, address, suffrage, ...(instance === undefined ? {} : { instance }) };
    });
  if (outgoing === undefined) return { servers };
  const votersOutgoing = outgoing.split(' ').filter(Boolean);
  return { servers, joint: { votersOutgoing, autoLeave: !text.includes('&!') } };
}

describe('encoding', () => {
  test.each([
    '',
    'a',
    'a b- c@127.0.0.1:8201',
    'a@x#i b#j-',
    'a b~ c- & a b c',
    'a b- c~ &! a b c',
  ])('keeps "%s"', (text) => {
    const original = configuration(text);
    expect(decodeConfiguration(encodeConfiguration(original))).toEqual(original);
  });

  test('leaves out instances and the joint part where there are none', () => {
    const bytes = encodeConfiguration(configuration('a@x b-'));
    expect(new TextDecoder().decode(bytes)).toBe(
      '{"servers":[{"id":"a","address":"x","suffrage":"voter"},' +
        '{"id":"b","address":"","suffrage":"learner"}]}',
    );
  });

  test('reads what was written before there were any', () => {
    const text = '{"servers":[{"id":"a","address":"x","suffrage":"voter"}]}';
    expect(decodeConfiguration(new TextEncoder().encode(text))).toEqual(configuration('a@x'));
  });

  const server = (id: string, suffrage: string): string =>
    `{"id":"${id}","address":"","suffrage":"${suffrage}"}`;
  const joint = (ids: string, autoLeave = 'true'): string =>
    `{"votersOutgoing":[${ids}],"autoLeave":${autoLeave}}`;
  test.each([
    ['not JSON', '{', 'JSON'],
    ['another value', '[]', 'no servers'],
    ['no servers', '{}', 'no servers'],
    ['a server without id', '{"servers":[{"address":"","suffrage":"voter"}]}', 'no id'],
    ['a server with an empty id', `{"servers":[${server('', 'voter')}]}`, 'no id'],
    ['an unknown suffrage', `{"servers":[${server('a', 'witness')}]}`, 'unknown suffrage'],
    ['a server twice', `{"servers":[${server('a', 'voter')},${server('a', 'learner')}]}`, 'twice'],
    ['leaving without joint', `{"servers":[${server('a', 'leaving')}]}`, 'not joint'],
    ['no outgoing voter', `{"servers":[${server('a', 'voter')}],"joint":${joint('')}}`, 'outgoing'],
    [
      'an outgoing stranger',
      `{"servers":[${server('a', 'voter')}],"joint":${joint('"b"')}}`,
      'not among the servers',
    ],
    [
      'an outgoing voter twice',
      `{"servers":[${server('a', 'voter')}],"joint":${joint('"a","a"')}}`,
      'counts twice',
    ],
    [
      'a server that leaves without having been a voter',
      `{"servers":[${server('a', 'voter')},${server('b', 'leaving')}],"joint":${joint('"a"')}}`,
      'no outgoing voter',
    ],
    [
      'no autoLeave',
      `{"servers":[${server('a', 'voter')}],"joint":${joint('"a"', '1')}}`,
      'autoLeave',
    ],
    [
      'an empty instance',
      '{"servers":[{"id":"a","address":"","suffrage":"voter","instance":""}]}',
      'an instance that is none',
    ],
    ['joint null', `{"servers":[${server('a', 'voter')}],"joint":null}`, 'not an object'],
  ])('refuses %s', (_, text, message) => {
    expect(() => decodeConfiguration(new TextEncoder().encode(text))).toThrow(message);
  });
});

describe('planChange()', () => {
  test.each([
    { current: 'a', target: 'a b', next: 'a b' },
    { current: 'a', target: 'a b-', next: 'a b-' },
    { current: 'a b-', target: 'a b', next: 'a b' },
    { current: 'a b', target: 'a b-', next: 'a b-' },
    { current: 'a b', target: 'b', next: 'b' },
    { current: 'a@x b', target: 'a@y b@z', next: 'a@y b@z' },
    { current: 'a b', target: 'a#i b', next: 'a#i b' },
    { current: 'a#i b#j', target: 'a#i b#j c#k d', next: 'a#i b#j c#k d & a b' },
    // Learners are no voters: any number of them may come and go with one voter.
    { current: 'a b- c-', target: 'a d- e- b', next: 'a d- e- b' },
    // More than one voter: by way of a joint configuration.
    { current: 'a', target: 'a b c', next: 'a b c & a' },
    { current: 'a b', target: 'a c', next: 'a c b~ & a b' },
    { current: 'a b c', target: 'a b- d', next: 'a b- d c~ & a b c' },
    { current: 'a b', target: 'c d', next: 'c d a~ b~ & a b' },
    // A learner that is removed with them is gone at once.
    { current: 'a b- c', target: 'a d', next: 'a d c~ & a c' },
  ])('from "$current" to "$target" leads by "$next"', ({ current, target, next }) => {
    const plan = planChange(configuration(current), {
      target: configuration(target),
      transition: 'auto',
    });
    expect(plan).toEqual({ kind: 'next', next: configuration(next) });
  });

  test.each([
    { transition: 'implicit', next: 'a b & a' },
    { transition: 'explicit', next: 'a b &! a' },
  ] as const)(
    'takes the joint way for one voter if told so: $transition',
    ({ transition, next }) => {
      const plan = planChange(configuration('a'), { target: configuration('a b'), transition });
      expect(plan).toEqual({ kind: 'next', next: configuration(next) });
    },
  );

  test.each([
    { current: 'a b', target: 'b a', reason: /nothing/ },
    { current: 'a#i b', target: 'a#j b', reason: /server a must be removed/ },
    { current: 'a#i b', target: 'a b-', reason: /server a must be removed/ },
    { current: 'a', target: 'a-', reason: /no voter/ },
    { current: 'a', target: '', reason: /no voter/ },
    { current: 'a', target: 'a b b', reason: /twice/ },
    { current: 'a', target: 'a b & a', reason: /joint/ },
    { current: 'a b', target: 'a b~', reason: /joint/ },
    { current: 'a b c~ & a c', target: 'a', reason: /left first/ },
    { current: 'a b c~ & a c', target: 'a b c', reason: /left first/ },
  ])('refuses "$target" after "$current"', ({ current, target, reason }) => {
    const plan = planChange(configuration(current), {
      target: configuration(target),
      transition: 'auto',
    });
    expect(plan).toEqual({ kind: 'refused', reason: expect.stringMatching(reason) });
  });

  test('leaves a joint configuration for its incoming half', () => {
    const current = configuration('a b- d c~ &! a b c');
    const target = configuration('a b- d');
    expect(planChange(current, { target, transition: 'auto' })).toEqual({
      kind: 'next',
      next: target,
    });
    expect(leaveJoint(current)).toEqual(target);
  });

  const servers = fc
    .uniqueArray(fc.constantFrom('a', 'b', 'c', 'd', 'e', 'f'), { minLength: 1 })
    .chain((ids) =>
      fc.tuple(
        ...ids.map((id) => fc.tuple(fc.constant(id), fc.constantFrom('voter', 'voter', 'learner'))),
      ),
    )
    .map((pairs): Configuration => ({
      servers: pairs.map(([id, suffrage]) => ({
        id,
        address: '',
        suffrage: suffrage as Server['suffrage'],
      })),
    }))
    .filter((each) => new Quorum(each).voters.length > 0);

  test('reaches any target by steps of which neighbours share a voter in all their quorums', () => {
    const transitions = fc.constantFrom('auto', 'implicit', 'explicit' as const);
    fc.assert(
      fc.property(servers, servers, transitions, (start, target, transition) => {
        const path = [start];
        for (let steps = 0; steps < 3; steps += 1) {
          const current = path.at(-1) ?? start;
          const plan = planChange(current, { target, transition: transition as 'auto' });
          if (plan.kind === 'refused') break;
          expect(decodeConfiguration(encodeConfiguration(plan.next))).toEqual(plan.next);
          expect(areNeighbours(new Quorum(current), new Quorum(plan.next))).toBe(true);
          path.push(plan.next);
        }
        const reached = path
          .at(-1)
          ?.servers.map(({ id, suffrage }) => `${id}:${suffrage}`)
          .toSorted();
        expect(reached).toEqual(
          target.servers.map(({ id, suffrage }) => `${id}:${suffrage}`).toSorted(),
        );
        expect(path.at(-1)?.joint).toBeUndefined();
      }),
      { numRuns: 300 },
    );
  });
});

/** Tries all quorums of the one against what they leave to the other. */
function areNeighbours(left: Quorum, right: Quorum): boolean {
  const ids = [...new Set([...left.voters, ...right.voters])];
  for (let bits = 0; bits < 2 ** ids.length; bits += 1) {
    const isIn = (id: NodeId): boolean => (bits >> ids.indexOf(id)) % 2 === 1;
    if (left.isMet(isIn) && right.isMet((id) => !isIn(id))) return false;
  }
  return true;
}
