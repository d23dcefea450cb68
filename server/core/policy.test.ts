import { describe, expect, test } from 'vitest';
import { DEFAULT_POLICY, RESPONSE_WRAPPING_POLICY } from './builtin-policies.ts';
import { CAPABILITY, PolicyError, parsePolicy } from './policy.ts';
import type { CapabilityName } from './policy.ts';

function bits(...names: CapabilityName[]): number {
  return names.reduce((sum, name) => sum | CAPABILITY[name], 0);
}

function only(text: string) {
  const policy = parsePolicy('p', text);
  expect(policy.paths).toHaveLength(1);
  return policy.paths[0];
}

describe('parsePolicy() reads a path', () => {
  const rows: [path: string, path: string, isPrefix: boolean, hasSegmentWildcards: boolean][] = [
    ['a/b', 'a/b', false, false],
    ['/a/b', 'a/b', false, false],
    ['a/*', 'a/', true, false],
    ['*', '', true, false],
    ['a*b', 'a*b', false, false],
    ['+', '+', false, true],
    ['+/a', '+/a', false, true],
    ['a/+/b*', 'a/+/b*', true, true],
    ['a/+', 'a/+', false, true],
    ['a+/b', 'a+/b', false, false],
  ];
  test.each(rows)('%s', (written, path, isPrefix, hasSegmentWildcards) => {
    const rules = only(`path ${JSON.stringify(written)} { capabilities = ["read"] }`);
    expect(rules).toMatchObject({ path, isPrefix, hasSegmentWildcards });
  });
});

describe('parsePolicy() reads capabilities', () => {
  const rows: [body: string, expected: number][] = [
    ['capabilities = ["read", "list"]', bits('read', 'list')],
    ['capabilities = ["patch", "scan", "sudo"]', bits('patch', 'scan', 'sudo')],
    ['capabilities = ["read", "deny", "list"]', bits('deny')],
    ['capabilities = []', 0],
    ['comment = "nothing"', 0],
    ['policy = "deny"', bits('deny')],
    ['policy = "read"', bits('read', 'list')],
    ['policy = "write"', bits('create', 'read', 'update', 'delete', 'list')],
    ['policy = "sudo"', bits('create', 'read', 'update', 'delete', 'list', 'sudo')],
    ['policy = "read"\ncapabilities = ["patch"]', bits('read', 'list', 'patch')],
    ['capabilities = ["read"]\ncapabilities = ["list"]', bits('read', 'list')],
  ];
  test.each(rows)('%s', (body, expected) => {
    expect(only(`path "a" {\n${body}\n}`)?.capabilities).toBe(expected);
  });
});

test('parsePolicy() reads constraints, in HCL and JSON alike', () => {
  const hcl = `path "a" {
    capabilities = ["update"]
    allowed_parameters = { "Zip" = [], foo = ["a*", 1] }
    denied_parameters { bar = ["x"] }
    required_parameters = ["foo"]
    min_wrapping_ttl = "1m"
    max_wrapping_ttl = 90
    pagination_limit = 100
    expiration = "2030-01-02T03:04:05Z"
  }`;
  const json = JSON.stringify({
    path: {
      a: {
        capabilities: ['update'],
        allowed_parameters: { Zip: [], foo: ['a*', 1] },
        denied_parameters: { bar: ['x'] },
        required_parameters: ['foo'],
        min_wrapping_ttl: '1m',
        max_wrapping_ttl: '90s',
        pagination_limit: 100,
        expiration: '2030-01-02T03:04:05Z',
      },
    },
  });
  const expected = {
    path: 'a',
    isPrefix: false,
    hasSegmentWildcards: false,
    capabilities: bits('update'),
    allowedParameters: new Map<string, unknown>([
      ['zip', []],
      ['foo', ['a*', 1]],
    ]),
    deniedParameters: new Map([['bar', ['x']]]),
    requiredParameters: ['foo'],
    minWrappingTtlSeconds: 60,
    maxWrappingTtlSeconds: 90,
    paginationLimit: 100,
    expireTimeMs: Date.UTC(2030, 0, 2, 3, 4, 5),
  };
  expect(only(hcl)).toEqual(expected);
  expect(only(json)).toEqual(expected);
});

test('parsePolicy() leaves out templated paths and says so', () => {
  const policy = parsePolicy('default', DEFAULT_POLICY);
  expect(policy.templated).toBe(true);
  expect(policy.paths.some((rules) => rules.path.includes('{{'))).toBe(false);
  expect(policy.paths).toHaveLength(14);
  expect(parsePolicy('response-wrapping', RESPONSE_WRAPPING_POLICY).paths).toHaveLength(2);
});

describe('parsePolicy() refuses', () => {
  const rows: [text: string, message: string][] = [
    ['path "a" {', '1:11: expected "}" to close the block'],
    ['pth "a" {}', 'invalid key "pth" on line 1'],
    ['path "a" {\n capability = ["read"]\n}', 'path "a": invalid key "capability" on line 2'],
    ['path "a" { capabilities = ["reed"] }', 'path "a": invalid capability "reed"'],
    ['path "a" { capabilities = ["Read"] }', 'path "a": invalid capability "Read"'],
    ['path "a" { capabilities = [true] }', 'path "a": capabilities must be a list of strings'],
    ['path "a" { policy = "admin" }', 'path "a": invalid policy "admin"'],
    ['path "a/+*" {}', `path "a/+*": invalid use of wildcards ('+*' is forbidden)`],
    ['path "a/{{x" {}', 'failed to validate policy templating: unbalanced templating characters'],
    ['path "a/x}}" {}', 'failed to validate policy templating: unbalanced templating characters'],
    [
      'path "a" { min_wrapping_ttl = "2m" max_wrapping_ttl = "1m" }',
      'max_wrapping_ttl cannot be less than min_wrapping_ttl',
    ],
    ['path "a" { min_wrapping_ttl = "soon" }', 'error parsing min_wrapping_ttl: "soon"'],
    ['path "a" { expiration = "soon" }', 'path "a": invalid expiration time: "soon"'],
    ['path "a" { pagination_limit = "x" }', 'path "a": pagination_limit must be a whole number'],
    ['path "a" { allowed_parameters = 1 }', 'path "a": allowed_parameters must be a map of lists'],
    [
      'path "a" { denied_parameters = { a = "b" } }',
      'path "a": denied_parameters: "a" must be a list',
    ],
    ['path "a" { mfa_methods = ["x"] }', 'path "a": mfa_methods on line 1 is not supported'],
    ['path "a" { control_group { } }', 'path "a": control_group on line 1 is not supported'],
    ['path { capabilities = ["read"] }', '1:1: expected a label after "path"'],
    ['path = "a"', '1:1: expected a block for "path"'],
  ];
  test.each(rows)('%s', (text, message) => {
    expect(() => parsePolicy('p', text)).toThrow(new PolicyError(message));
  });
});
