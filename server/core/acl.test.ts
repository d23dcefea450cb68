import assert from 'node:assert/strict';
import * as fc from 'fast-check';
import { describe, expect, test } from 'vitest';
import { compileAcl } from './acl.ts';
import type { Acl } from './acl.ts';
import type { JsonObject, Operation } from './backend.ts';
import { CAPABILITY, parsePolicy } from './policy.ts';
import type { PathRules } from './policy.ts';

function acl(...texts: string[]): Acl {
  return compileAcl(
    texts.map((text, index) => parsePolicy(`p${index}`, text)),
    0,
  );
}

function rule(path: string, capabilities: string, rest = ''): string {
  const list = capabilities.split(' ').filter((name) => name !== '');
  return `path "${path}" {\ncapabilities = ${JSON.stringify(list)}\n${rest}\n}\n`;
}

describe('capabilities() picks the rule', () => {
  // Each rule grants one capability, which names the rule that must win.
  const rows: [
    name: string,
    rules: [path: string, capability: string][],
    path: string,
    expected: string,
  ][] = [
    [
      'exact',
      [
        ['a/b', 'read'],
        ['a/*', 'list'],
      ],
      'a/b',
      'read',
    ],
    [
      'prefix',
      [
        ['a/b', 'read'],
        ['a/*', 'list'],
      ],
      'a/c',
      'list',
    ],
    ['nothing', [['a/b', 'read']], 'a/c', 'deny'],
    [
      'longest prefix',
      [
        ['*', 'read'],
        ['a/*', 'list'],
        ['a/b*', 'patch'],
      ],
      'a/bc',
      'patch',
    ],
    [
      'shorter prefix where the longer ends',
      [
        ['a/b/c*', 'read'],
        ['a/*', 'list'],
      ],
      'a/b',
      'list',
    ],
    ['prefix of exactly its own path', [['a/*', 'list']], 'a/', 'list'],
    ['not a prefix without its slash, except to list', [['a/*', 'read']], 'b', 'deny'],
    ['+ for one segment', [['a/+/c', 'read']], 'a/b/c', 'read'],
    ['+ for an empty segment', [['a/+/c', 'read']], 'a//c', 'read'],
    ['+ not for two segments', [['a/+/c', 'read']], 'a/b/b/c', 'deny'],
    ['+ alone', [['+', 'read']], 'a', 'read'],
    ['+ first', [['+/b', 'read']], 'a/b', 'read'],
    ['+ last needs its slash', [['a/+', 'read']], 'a', 'deny'],
    ['+ inside a segment is a letter', [['a/x+/c', 'read']], 'a/xy/c', 'deny'],
    ['+ that is a letter', [['a/+b/c', 'read']], 'a/+b/c', 'read'],
    ['letter + before a wildcard', [['a+b/+/c', 'read']], 'a+b/x/c', 'read'],
    ['glob after +', [['a/+/c*', 'read']], 'a/b/cd/e', 'read'],
    ['glob after + and slash', [['a/+/*', 'read']], 'a/b/', 'read'],
    ['glob after + needs the segment', [['a/+/*', 'read']], 'a/b', 'deny'],
    [
      'later wildcard first',
      [
        ['+/b/c', 'read'],
        ['a/+/c', 'list'],
      ],
      'a/b/c',
      'list',
    ],
    [
      'wildcard after a longer head beats a glob',
      [
        ['a/*', 'read'],
        ['a/b/+', 'list'],
      ],
      'a/b/c',
      'list',
    ],
    [
      'glob after a longer head beats a wildcard',
      [
        ['a/b*', 'read'],
        ['a/+', 'list'],
      ],
      'a/bc',
      'read',
    ],
    [
      'no glob before glob, at the same head',
      [
        ['a/*', 'read'],
        ['a/+', 'list'],
      ],
      'a/b',
      'list',
    ],
    [
      'no glob before glob among wildcards',
      [
        ['a/+/b*', 'read'],
        ['a/+/b', 'list'],
      ],
      'a/x/b',
      'list',
    ],
    [
      'fewer wildcards',
      [
        ['a/+/+/d', 'read'],
        ['a/+/c/d', 'list'],
      ],
      'a/b/c/d',
      'list',
    ],
    [
      'longer',
      [
        ['a/+/b*', 'read'],
        ['a/+/ba*', 'list'],
      ],
      'a/x/bar',
      'list',
    ],
    ['leading slashes', [['a/b', 'read']], '//a/b', 'read'],
    ['list without the final slash', [['a', 'list']], 'a/', 'list'],
    [
      'list prefers the slash',
      [
        ['a', 'read'],
        ['a/', 'list'],
      ],
      'a/',
      'list',
    ],
    [
      'exact without slash before glob with',
      [
        ['a', 'read'],
        ['a/*', 'list'],
      ],
      'a/',
      'read',
    ],
    [
      'wildcard with the slash before one without',
      [
        ['+/', 'read'],
        ['+', 'list'],
      ],
      'a/',
      'read',
    ],
    ['wildcard without the slash for a path with', [['+', 'list']], 'a/', 'list'],
  ];
  test.each(rows)('%s', (_name, rules, path, expected) => {
    const text = rules.map(([rulePath, capability]) => rule(rulePath, capability)).join('');
    expect(acl(text).capabilities(path)).toEqual([expected]);
  });
});

test('capabilities() are sorted; root and deny stand alone', () => {
  const all = rule('a', 'sudo read list update delete create patch scan');
  const sorted = ['create', 'delete', 'list', 'patch', 'read', 'scan', 'sudo', 'update'];
  expect(acl(all).capabilities('a')).toEqual(sorted);
  expect(acl(all, rule('a', 'deny')).capabilities('a')).toEqual(['deny']);
  expect(acl(rule('a', '')).capabilities('a')).toEqual(['deny']);
  const root = compileAcl([parsePolicy('root', '')], 0);
  expect(root.capabilities('a')).toEqual(['root']);
  expect(root.check('delete', 'a', {})).toEqual({ allowed: true, sudo: true });
});

test('root does not mix with other policies', () => {
  expect(() => compileAcl([parsePolicy('root', ''), parsePolicy('a', '')], 0)).toThrow(
    'other policies present along with root',
  );
});

describe('check() needs the capability of the operation', () => {
  const operations: Operation[] = ['create', 'read', 'update', 'patch', 'delete', 'list', 'scan'];
  test.each(operations)('%s', (operation) => {
    const others = operations.filter((other) => other !== operation).join(' ');
    expect(acl(rule('a', operation)).check(operation, 'a', {}).allowed).toBe(true);
    expect(acl(rule('a', others)).check(operation, 'a', {}).allowed).toBe(false);
    expect(acl(rule('a', 'deny')).check(operation, 'a', {}).allowed).toBe(false);
  });

  test('help is for everyone', () => {
    expect(acl().check('help', 'a', {}).allowed).toBe(true);
  });

  test('only lists and scans forget the final slash', () => {
    const one = acl(rule('a', 'read list scan'));
    expect(one.check('list', 'a/', {}).allowed).toBe(true);
    expect(one.check('scan', 'a/', {}).allowed).toBe(true);
    expect(one.check('read', 'a/', {}).allowed).toBe(false);
  });

  test('sudo is told apart from allowed', () => {
    const one = acl(rule('a', 'read sudo'));
    expect(one.check('read', 'a', {})).toEqual({ allowed: true, sudo: true });
    expect(one.check('update', 'a', {})).toEqual({ allowed: false, sudo: true });
    expect(one.check('read', 'b', {})).toEqual({ allowed: false, sudo: false });
  });
});

test('a rule is void after its expiration', () => {
  const policy = parsePolicy('p', rule('a', 'read', 'expiration = "100"') + rule('b', 'read'));
  const before = compileAcl([policy], 100_000);
  expect(before.expireTimeMs).toBe(100_000);
  expect(before.capabilities('a')).toEqual(['read']);
  const after = compileAcl([policy], 100_001);
  expect(after.expireTimeMs).toBeNull();
  expect(after.capabilities('a')).toEqual(['deny']);
  expect(after.capabilities('b')).toEqual(['read']);
});

describe('several policies for one path', () => {
  const rows: [name: string, rest: string[], data: JsonObject, allowed: boolean][] = [
    [
      'allowed lists add up',
      ['allowed_parameters = { a = ["1"] }', 'allowed_parameters = { a = ["2"] }'],
      { a: '1' },
      true,
    ],
    [
      'an empty allowed list wins',
      ['allowed_parameters = { a = ["1"] }', 'allowed_parameters = { a = [] }'],
      { a: '9' },
      true,
    ],
    [
      'no constraint does not lift one',
      ['allowed_parameters = { a = ["1"] }', ''],
      { a: '2' },
      false,
    ],
    [
      'denied lists add up',
      ['denied_parameters = { a = ["1"] }', 'denied_parameters = { a = ["2"] }'],
      { a: '2' },
      false,
    ],
    [
      'an empty denied list wins',
      ['denied_parameters = { a = ["1"] }', 'denied_parameters = { a = [] }'],
      { a: '9' },
      false,
    ],
    [
      'required lists add up',
      ['required_parameters = ["a"]', 'required_parameters = ["b"]'],
      { a: 1 },
      false,
    ],
    [
      'required lists are met',
      ['required_parameters = ["a"]', 'required_parameters = ["b"]'],
      { a: 1, b: 1 },
      true,
    ],
  ];
  test.each(rows)('%s', (_name, rest, data, allowed) => {
    const merged = acl(...rest.map((text) => rule('x', 'update', text)));
    expect(merged.check('update', 'x', data).allowed).toBe(allowed);
  });

  test('capabilities add up, deny takes all', () => {
    expect(acl(rule('a/*', 'read'), rule('a/*', 'list')).capabilities('a/b')).toEqual([
      'list',
      'read',
    ]);
    expect(acl(rule('+/b', 'deny'), rule('+/b', 'list')).capabilities('a/b')).toEqual(['deny']);
  });
});

describe('parameters', () => {
  const rows: [rest: string, data: JsonObject, allowed: boolean][] = [
    ['', { a: 1 }, true],
    ['required_parameters = ["A"]', { a: null }, true],
    ['required_parameters = ["a"]', {}, false],
    ['allowed_parameters = { a = [] }', {}, true],
    ['allowed_parameters = { a = [] }', { a: 'x' }, true],
    ['allowed_parameters = { a = [] }', { A: 'x' }, true],
    ['allowed_parameters = { a = [] }', { b: 'x' }, false],
    ['allowed_parameters = { a = ["x"] }', { a: 'y' }, false],
    ['allowed_parameters = { "*" = [] }', { b: 'x' }, true],
    ['allowed_parameters = { "*" = [], a = ["x"] }', { a: 'y' }, false],
    ['allowed_parameters = { "*" = [], a = ["x"] }', { a: 'x', b: 'y' }, true],
    ['allowed_parameters = { a = ["x*"] }', { a: 'xyz' }, true],
    ['allowed_parameters = { a = ["*z"] }', { a: 'xyz' }, true],
    ['allowed_parameters = { a = ["*y*"] }', { a: 'xyz' }, true],
    ['allowed_parameters = { a = ["x*z"] }', { a: 'xyz' }, false],
    ['allowed_parameters = { a = ["*"] }', { a: '' }, true],
    ['allowed_parameters = { a = [true, 2] }', { a: 2 }, true],
    ['allowed_parameters = { a = [["x", "y"]] }', { a: ['x', 'y'] }, true],
    ['allowed_parameters = { a = [["x", "y"]] }', { a: ['y', 'x'] }, false],
    ['denied_parameters = { a = [] }', { a: 'x' }, false],
    ['denied_parameters = { a = [] }', { b: 'x' }, true],
    ['denied_parameters = { a = ["x"] }', { a: 'y' }, true],
    ['denied_parameters = { "*" = [] }', { a: 'y' }, false],
    ['denied_parameters = { "*" = [] }', {}, true],
    ['denied_parameters = { a = [] }\nallowed_parameters = { "*" = [] }', { a: 1 }, false],
  ];
  test.each(rows)('%s %j', (rest, data, allowed) => {
    expect(acl(rule('x', 'update delete', rest)).check('update', 'x', data).allowed).toBe(allowed);
    // A delete has no parameters to judge.
    expect(acl(rule('x', 'delete', rest)).check('delete', 'x', data).allowed).toBe(true);
  });
});

describe('pagination_limit', () => {
  const rows: [rest: string, data: JsonObject, expected: object][] = [
    ['', {}, { allowed: true }],
    ['', { limit: 'max' }, { allowed: true, limit: '0' }],
    ['', { limit: 7 }, { allowed: true }],
    ['pagination_limit = 5', {}, { allowed: true, limit: '5' }],
    ['pagination_limit = 5', { limit: 'max' }, { allowed: true, limit: '5' }],
    ['pagination_limit = 5', { limit: '0' }, { allowed: true, limit: '5' }],
    ['pagination_limit = 5', { limit: 5 }, { allowed: true }],
    ['pagination_limit = 5', { limit: '6' }, { allowed: false }],
    ['pagination_limit = 5', { limit: -1 }, { allowed: false }],
    ['pagination_limit = 5', { limit: 'all' }, { allowed: false }],
    ['pagination_limit = 5\nrequired_parameters = ["limit"]', {}, { allowed: false }],
    ['pagination_limit = 5\nrequired_parameters = ["limit"]', { limit: 2 }, { allowed: true }],
  ];
  test.each(rows)('%s %j', (rest, data, expected) => {
    const one = acl(rule('x', 'list', rest));
    expect(one.check('list', 'x', data)).toEqual({ sudo: false, ...expected });
  });

  test('the lowest of several wins', () => {
    const one = acl(
      rule('x', 'list', 'pagination_limit = 5'),
      rule('x', 'list', 'pagination_limit = 3'),
    );
    expect(one.check('list', 'x', {}).limit).toBe('3');
  });
});

describe('wrapping', () => {
  const rows: [rest: string, wrapTtlSeconds: number, allowed: boolean][] = [
    ['max_wrapping_ttl = 60', 0, false],
    ['max_wrapping_ttl = 60', 60, true],
    ['max_wrapping_ttl = 60', 61, false],
    ['min_wrapping_ttl = 60', 0, false],
    ['min_wrapping_ttl = 60', 59, false],
    ['min_wrapping_ttl = 60', 60, true],
  ];
  test.each(rows)('%s, %d s', (rest, wrapTtlSeconds, allowed) => {
    expect(acl(rule('x', 'read', rest)).check('read', 'x', {}, wrapTtlSeconds).allowed).toBe(
      allowed,
    );
  });

  test('merging that leaves nothing between the bounds refuses all', () => {
    const one = acl(
      rule('x', 'read', 'min_wrapping_ttl = 60'),
      rule('x', 'read', 'max_wrapping_ttl = 30'),
    );
    expect([0, 30, 45, 60].some((ttl) => one.check('read', 'x', {}, ttl).allowed)).toBe(false);
  });
});

describe('hasMountAccess()', () => {
  const rows: [rules: string, mount: string, expected: boolean][] = [
    [rule('secret/a', 'read'), 'secret/', true],
    [rule('secret/a*', 'read'), 'secret/', true],
    [rule('*', 'read'), 'secret/', true],
    [rule('secret/+/x', 'read'), 'secret/', true],
    [rule('+/a', 'read'), 'secret/', true],
    [rule('+/b/c', 'read'), 'a/x/', false],
    [rule('other/a', 'read'), 'secret/', false],
    [rule('secret/a', 'deny'), 'secret/', false],
    ['', 'secret/', false],
  ];
  test.each(rows)('%s for %s', (rules, mount, expected) => {
    expect(acl(rules).hasMountAccess(mount)).toBe(expected);
  });
});

/** OpenBao's algorithm as it is written there: all rules are candidates, sorted by priority. */
function reference(rules: readonly PathRules[], path: string): number {
  const exact = rules.filter((r) => !r.isPrefix && !r.hasSegmentWildcards && r.path === path);
  if (exact.length > 0) return join(exact);
  const candidates = rules.flatMap((r) => {
    if (!r.isPrefix && !r.hasSegmentWildcards) return [];
    const own = r.hasSegmentWildcards && r.isPrefix ? r.path.slice(0, -1) : r.path;
    const parts = own.split('/');
    const wildcards = r.hasSegmentWildcards ? parts.filter((part) => part === '+').length : 0;
    const first = r.hasSegmentWildcards ? r.path.indexOf('+') : own.length;
    if (!r.hasSegmentWildcards) return path.startsWith(own) ? [{ r, first, own, wildcards }] : [];
    const pattern = parts.map((part) => (part === '+' ? '[^/]*' : escape(part))).join('/');
    const isMatch = new RegExp(`^${pattern}${r.isPrefix ? '' : '$'}`).test(path);
    return isMatch ? [{ r, first, own, wildcards }] : [];
  });
  candidates.sort(
    (x, y) =>
      y.first - x.first ||
      Number(x.r.isPrefix) - Number(y.r.isPrefix) ||
      x.wildcards - y.wildcards ||
      y.own.length - x.own.length ||
      (x.own < y.own ? 1 : -1),
  );
  const best = candidates[0];
  if (best === undefined) return 0;
  return join(
    candidates
      .filter(({ r, own }) => own === best.own && r.isPrefix === best.r.isPrefix)
      .map(({ r }) => r),
  );
}

function join(rules: readonly PathRules[]): number {
  const bits = rules.reduce((sum, r) => sum | r.capabilities, 0);
  return (bits & CAPABILITY.deny) === 0 ? bits : 0;
}

function escape(text: string): string {
  return text.replaceAll(/[.*+?^${}()|[\]\\]/g, String.raw`\$&`);
}

test('check() agrees with the reference on generated rules and paths', () => {
  const segment = fc.constantFrom('a', 'b', 'ab', '', '+', 'a+');
  const path = fc.array(segment, { minLength: 1, maxLength: 4 }).map((parts) => parts.join('/'));
  const rulePath = fc
    .tuple(path, fc.constantFrom('', '', '*', 'a*'))
    .map(([head, tail]) => head + tail)
    .filter((text) => !text.includes('+*') && !text.startsWith('/'));
  const capability = fc.constantFrom('read', 'update', 'delete', 'create', 'deny');
  const rules = fc.array(fc.tuple(rulePath, capability), { maxLength: 8 });
  fc.assert(
    fc.property(rules, fc.array(path, { minLength: 1, maxLength: 8 }), (generated, paths) => {
      const text = generated.map(([p, c]) => rule(p, c)).join('');
      const policy = parsePolicy('p', text);
      const compiled = compileAcl([policy], 0);
      for (const asked of paths.filter((p) => !p.startsWith('/'))) {
        const expected = reference(policy.paths, asked);
        for (const operation of ['read', 'update', 'delete', 'create'] as const) {
          assert.equal(
            compiled.check(operation, asked, {}).allowed,
            (expected & CAPABILITY[operation]) !== 0,
            `${operation} ${asked}\n${text}`,
          );
        }
      }
    }),
    { numRuns: 3000 },
  );
});
