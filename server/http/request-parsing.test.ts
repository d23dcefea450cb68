import { describe, expect, test } from 'vitest';

import { ServerError, type ErrorCode } from '../errors.ts';
import { headerRecord } from './forwarding.ts';
import { JSON_DEPTH_MAX, parseBody, requireMergePatch } from './request-body.ts';
import { readHead } from './request-head.ts';
import { parseQuery, parseTarget } from './request-target.ts';
import { createIndexEncoder, decodeIndex, isOfState, parseInconsistent } from './storage-index.ts';

function refusal(run: () => unknown): { code: ErrorCode; message: string } | undefined {
  try {
    run();
    return undefined;
  } catch (error) {
    if (!(error instanceof ServerError)) throw error;
    return { code: error.code, message: error.message };
  }
}

describe('method and URL', () => {
  test.each([
    ['GET', '/v1/secret/a', 'read', 'secret/a'],
    ['GET', '/v1/secret/', 'read', 'secret/'],
    ['GET', '/v1/secret/a?version=2', 'read', 'secret/a'],
    ['GET', '/v1/secret/a?list=true', 'list', 'secret/a/'],
    ['GET', '/v1/secret/a/?list=1', 'list', 'secret/a/'],
    ['GET', '/v1/secret/a?list=false', 'read', 'secret/a'],
    ['GET', '/v1/secret?scan=T', 'scan', 'secret/'],
    ['GET', '/v1/secret?help=1', 'help', 'secret'],
    ['LIST', '/v1/secret', 'list', 'secret/'],
    ['SCAN', '/v1/secret/', 'scan', 'secret/'],
    ['POST', '/v1/secret/a', 'update', 'secret/a'],
    ['PUT', '/v1/secret/a', 'update', 'secret/a'],
    ['PATCH', '/v1/secret/a', 'patch', 'secret/a'],
    ['DELETE', '/v1/secret/a', 'delete', 'secret/a'],
    ['DELETE', '/v1/secret/', 'delete', 'secret/'],
    ['GET', '/v1/secret/a%20b%2Fc', 'read', 'secret/a b/c'],
    ['GET', '/v1/secret/%C3%A9', 'read', 'secret/é'],
    ['GET', '/v1//secret//a', 'read', 'secret/a'],
    ['GET', '/v1/secret/...', 'read', 'secret/...'],
    ['GET', '/v1/secret/a..b/.c', 'read', 'secret/a..b/.c'],
  ])('%s %s is %s of %s', (method, url, operation, path) => {
    expect(parseTarget(method, url)).toMatchObject({ operation, path });
  });

  test.each([
    ['GET', '/ui/', 'unsupported-path'],
    ['GET', '*', 'unsupported-path'],
    ['GET', 'http://a/v1/secret', 'unsupported-path'],
    ['TRACE', '/v1/secret', 'unsupported-operation'],
    ['OPTIONS', '/v1/secret', 'unsupported-operation'],
    ['HEAD', '/v1/secret', 'unsupported-operation'],
    ['LINK', '/v1/secret', 'unsupported-operation'],
    ['GET', '/v1/secret?list=true&scan=true', 'invalid-request'],
    ['GET', '/v1/secret?list=maybe', 'invalid-request'],
    ['POST', '/v1/secret/', 'invalid-request'],
    ['PATCH', '/v1/secret/', 'invalid-request'],
    ['GET', '/v1/secret/../sys/raw', 'invalid-request'],
    ['GET', '/v1/..', 'invalid-request'],
    ['GET', '/v1/./secret', 'invalid-request'],
    ['GET', '/v1/secret/%2e%2e/sys', 'invalid-request'],
    ['GET', '/v1/secret/..%2fsys', 'invalid-request'],
    ['GET', '/v1/secret/%00', 'invalid-request'],
    ['GET', '/v1/secret/a%0Ab', 'invalid-request'],
    ['GET', '/v1/secret/%E2%80%8B', 'invalid-request'],
    ['GET', '/v1/secret/%ff', 'invalid-request'],
    ['GET', '/v1/secret/%', 'invalid-request'],
  ])('%s %s is refused: %s', (method, url, code) => {
    expect(refusal(() => parseTarget(method, url))?.code).toBe(code);
  });

  test('a query is data: one value is a string, several are a list', () => {
    expect(parseQuery('version=2&key=a&key=b&empty=&text=a+b%21')).toEqual({
      version: '2',
      key: ['a', 'b'],
      empty: '',
      text: 'a b!',
    });
    expect(Object.keys(parseQuery('__proto__=1'))).toEqual(['__proto__']);
  });
});

describe('headers', () => {
  test.each([
    { raw: ['X-Vault-Token', 's.a'], head: { token: 's.a' } },
    { raw: ['x-vault-token', 's.a', 'Authorization', 'Bearer s.b'], head: { token: 's.a' } },
    { raw: ['Authorization', 'bearer s.b'], head: { token: 's.b' } },
    { raw: ['Authorization', 'Basic czpi'], head: { token: '' } },
    { raw: ['X-Vault-Namespace', ''], head: { namespacePath: '' } },
    { raw: ['X-Vault-Namespace', 'root'], head: { namespacePath: '' } },
    { raw: ['X-Vault-Namespace', '///'], head: { namespacePath: '' } },
    { raw: ['X-Vault-Namespace', '/a/b/'], head: { namespacePath: 'a/b/' } },
    { raw: ['Content-Length', '12'], head: { contentLength: 12, isChunked: false } },
    { raw: ['Transfer-Encoding', 'chunked'], head: { contentLength: -1, isChunked: true } },
    { raw: ['X-Vault-No-Request-Forwarding', '1'], head: { noForwarding: true } },
    { raw: ['X-Vault-No-Request-Forwarding', ''], head: { noForwarding: false } },
    {
      raw: ['X-Vault-Inconsistent', 'await-state', 'X-Vault-Inconsistent', 'fail'],
      head: { inconsistent: 'await-state,fail' },
    },
  ])('$raw', ({ raw, head }) => {
    expect(readHead(raw)).toMatchObject(head);
  });

  test('that repeat say the same to the node that forwards and to the one that answers', () => {
    const raw = [
      ...['X-Vault-Token', 'a', 'X-Vault-Token', 'b', 'x-vault-token', 'c'],
      ...['Content-Type', 'text/plain', 'Content-Type', 'application/json'],
      ...['X-Vault-Namespace', '', 'X-Vault-Namespace', 'n/', 'Accept', 'd', 'Accept', 'e'],
    ];
    const head = { token: 'a', contentType: 'text/plain', namespacePath: 'n/' };
    const forwarded = headerRecord(raw);
    expect(readHead(raw)).toMatchObject(head);
    expect(readHead(Object.entries(forwarded).flat())).toMatchObject(head);
    expect(forwarded['Accept']).toBe('d, e');
  });

  test('two indexes are refused', () => {
    const raw = ['X-Vault-Index', 'a', 'x-vault-index', 'b'];
    expect(refusal(() => readHead(raw))?.code).toBe('invalid-request');
  });
});

describe('bodies', () => {
  const limits = { stringsMax: 1000 };
  test.each([
    ['', 'application/json', {}],
    ['  \n', '', {}],
    ['null', '', {}],
    ['{"a":1}', 'application/json', { a: 1 }],
    ['{"a":1}', 'text/plain', { a: 1 }],
    ['{"a":1}', 'application/x-www-form-urlencoded', { a: 1 }],
    [
      'a=1&a=2&b=x+y',
      'application/x-www-form-urlencoded; charset=utf-8',
      { a: ['1', '2'], b: 'x y' },
    ],
    ['{"a":"\\"}{[\\\\"}', '', { a: '"}{[\\' }],
  ])('%j as %s', (body, contentType, data) => {
    expect(parseBody(Buffer.from(body), contentType, limits)).toEqual(data);
  });

  test.each([
    ['{"password":"hunter2",', /^failed to decode JSON input: (invalid character|unexpected)/],
    ['{"password":hunter2}', /^failed to decode JSON input: (invalid character|unexpected)/],
    ['[1]', /expected an object/],
    ['"a"', /expected an object/],
    ['a=1', /failed to decode JSON input/],
    ['['.repeat(2 * JSON_DEPTH_MAX + 1), /nested deeper/],
    [`{"a":[${'"x",'.repeat(1000)}"x"]}`, /exceeded maximum number of strings/],
  ])('%j is refused', (body, message) => {
    const refused = refusal(() => parseBody(Buffer.from(body), 'application/json', limits));
    expect(refused?.code).toBe('invalid-request');
    expect(refused?.message).toMatch(message);
    expect(refused?.message).not.toContain('hunter2');
  });

  test('brackets and quotes inside strings count for nothing', () => {
    const value = '[{\\"'.repeat(5000);
    expect(parseBody(Buffer.from(`{"a":"${value}"}`), '', limits)).toEqual({
      a: '[{"'.repeat(5000),
    });
  });

  test('a patch must be a merge patch', () => {
    expect(refusal(() => requireMergePatch('application/json'))?.code).toBe(
      'unsupported-media-type',
    );
    expect(refusal(() => requireMergePatch('application/merge-patch+json; charset=utf-8'))).toBe(
      undefined,
    );
  });
});

describe('index headers', () => {
  test('an index survives the way out and in', () => {
    const encode = createIndexEncoder();
    const text = encode('c1', '', 42);
    expect(JSON.parse(Buffer.from(text, 'base64').toString())).toEqual({
      cluster: 'c1',
      namespace: '',
      value: '42',
    });
    expect(encode('c1', '', 42)).toBe(text);
    expect(decodeIndex(encode('c2', 'a/', 43))).toEqual({ cluster: 'c2', value: 43 });
    expect(decodeIndex(encode('c1', '', 44))).toEqual({ cluster: 'c1', value: 44 });
  });

  test.each([
    '',
    '42',
    'bm90IGpzb24=',
    Buffer.from('{"cluster":"a","value":42}').toString('base64'),
    Buffer.from('{"cluster":"a","value":"-1"}').toString('base64'),
    Buffer.from('{"cluster":"a","value":"9999999999999999"}').toString('base64'),
    Buffer.from('null').toString('base64'),
  ])('%j is no index', (text) => {
    expect(refusal(() => decodeIndex(text))?.code).toBe('invalid-request');
  });

  test.each([
    ['fail', { kind: 'fail' }],
    ['forward-active-node', { kind: 'forward-active-node' }],
    ['await-state', { kind: 'await-state', otherwise: undefined }],
    ['await-state, fail', { kind: 'await-state', otherwise: 'fail' }],
    ['await-state,forward-active-node', { kind: 'await-state', otherwise: 'forward-active-node' }],
  ])('%s', (text, expected) => {
    expect(parseInconsistent(text)).toEqual(expected);
  });

  test.each(['', 'wait', 'fail,fail', 'await-state,await-state', 'await-state,fail,fail'])(
    '%j is refused',
    (text) => {
      expect(refusal(() => parseInconsistent(text))?.code).toBe('invalid-request');
    },
  );
});

test.each([
  { index: 'c1', node: 'c1', expected: true },
  { index: 'c2', node: 'c1', expected: false },
  { index: 'c1', node: undefined, expected: false },
  // Restored here, and the client saw what was before.
  { index: 'c1', node: 'c1.70', expected: false },
  { index: 'c1.60', node: 'c1.70', expected: false },
  { index: 'c1.70', node: 'c1.70', expected: true },
  // The client saw a restored state that has not come here yet.
  { index: 'c1.70', node: 'c1', expected: true },
  { index: 'c1.70', node: 'c1.9', expected: true },
  { index: 'c2.70', node: 'c1', expected: false },
])('an index of $index concerns a node at $node: $expected', ({ index, node, expected }) => {
  expect(isOfState({ cluster: index, value: 80 }, node)).toBe(expected);
});
