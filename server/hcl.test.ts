import assert from 'node:assert/strict';
import * as fc from 'fast-check';
import { parseToObject } from 'hcl2-parser';
import { describe, expect, test } from 'vitest';
import { HclError, hclAttribute, hclBlocks, hclToPlain, parseHcl } from './hcl.ts';

function plain(text: string): unknown {
  return hclToPlain(parseHcl(text));
}

describe('parseHcl() reads', () => {
  const rows: [name: string, text: string, expected: unknown][] = [
    ['nothing', '  \n\t', {}],
    ['comments', '# a\n// b\n/* c\n * d */ x = 1 # e', { x: 1 }],
    ['numbers', 'a = -1\nb = 1.5e3\nc = 0x1F\nd = 017', { a: -1, b: 1500, c: 31, d: 15 }],
    ['booleans', 'a = true\nb = false', { a: true, b: false }],
    ['escapes', String.raw`s = "a\n\"\\\t\x41\u00e9\101\U0001F600"`, { s: 'a\n"\\\tA\u00e9A😀' }],
    ['a lone dollar sign', 's = "$ $$ a$"', { s: '$ $$ a$' }],
    ['interpolation as text', 's = "${file("a b")}\u00e9"', { s: '${file("a b")}\u00e9' }],
    ['templates as text', 's = "{{identity.entity.id}}"', { s: '{{identity.entity.id}}' }],
    ['a key in quotes', '"a b" = 1', { 'a b': 1 }],
    ['keys with dots and dashes', 'a.b-c = 1', { 'a.b-c': 1 }],
    ['lists over lines', 'l = [\n  1, # one\n  "2",\n  [true],\n]', { l: [1, '2', [true]] }],
    ['objects as values', 'o = { a = 1, b = { c = "d" } }', { o: { a: 1, b: { c: 'd' } } }],
    ['several items on a line', 'a = 1 b = 2', { a: 1, b: 2 }],
    ['a block', 'a {\n b = 1\n}', { a: { b: 1 } }],
    ['labels, bare and quoted', 'a "b" c { d = 1 }', { a: { b: { c: { d: 1 } } } }],
    ['a heredoc', 'h = <<EOF\n a\n  b\nEOF\nx = 1', { h: ' a\n  b\n', x: 1 }],
    ['an indented heredoc', 'h = <<-EOF\n    a\n\n      b\n    EOF\n', { h: 'a\n\n  b\n' }],
    ['a heredoc in a list', 'l = [<<A\nx\nA\n, "y"]', { l: ['x\n', 'y'] }],
    ['an empty heredoc', 'h = <<E\nE\n', { h: '' }],
    ['Windows line ends', 'a = 1\r\nb = "x"\r\n', { a: 1, b: 'x' }],
    ['a byte order mark', '\uFEFFa = 1', { a: 1 }],
    [
      'JSON',
      ' {"a": [1, null, "\\u00e9"], "b": {"c": -1.5e1}}',
      { a: [1, null, 'é'], b: { c: -15 } },
    ],
    ['empty JSON', '{}', {}],
    ['no inherited names', '__proto__ = 1', JSON.parse('{"__proto__": 1}')],
  ];
  test.each(rows)('%s', (_name, text, expected) => {
    expect(plain(text)).toEqual(expected);
  });
});

describe('parseHcl() says where and what', () => {
  const rows: [text: string, message: string][] = [
    [
      'a = ',
      '1:5: expected a value (string, number, bool, list or object), found the end of the text',
    ],
    ['a = b', '1:5: expected a value (string, number, bool, list or object), found "b"'],
    ['a', '1:2: expected "=", a label or "{", found the end of the text'],
    ['= 1', '1:1: expected a key, found "="'],
    ['a "b" = 1', '1:7: expected a label or "{", found "="'],
    ['a {\n  b = 1\n', '3:1: expected "}" to close the block'],
    ['x = 1\n}', '2:1: expected a key, found "}"'],
    ['a = [1 2]', '1:8: expected "," or "]", found "2"'],
    [
      'a = [1,',
      '1:8: expected a value (string, number, bool, list or object), found the end of the text',
    ],
    ['a = "b', '1:5: string not closed, expected "\\""'],
    ['a = "b\n"', '1:7: newline in a string, expected "\\""'],
    ['a = "\\q"', '1:6: unknown escape sequence "\\q"'],
    ['\n\na = 12x', '3:5: expected a number, found "12x"'],
    ['a = 09', '1:5: bad octal number 09'],
    ['/* a', '1:1: comment not closed, expected "*/"'],
    ['a = <<E\nb', '1:5: heredoc not closed, expected "E"'],
    ['a = <E', '1:5: expected a heredoc like <<EOF and a newline'],
    ['a = "\\U99999999"', '1:6: escape \\U99999999 is not a character'],
    ['{"a" 1}', '1:6: expected ":", found "1"'],
    ['{"a": 1,}', '1:9: expected a key in quotes, found "}"'],
    ['{"a": [1,]}', '1:10: expected a JSON value, found "]"'],
    ['{"a": 1', '1:8: expected "," or "}", found the end of the text'],
    ['{"a": 01}', '1:8: expected "," or "}", found "1"'],
    ['{"a": "b', '1:7: string not closed, expected "\\""'],
    ['{"a\n": 1}', '1:2: string not closed, expected "\\""'],
    ['{} x', '1:4: expected the end of the document, found "x"'],
    [`a = ${'['.repeat(200)}`, '1:105: nested deeper than 100'],
    [`${'a {'.repeat(200)}`, '1:304: nested deeper than 100'],
    [`{"a": ${'['.repeat(200)}`, '1:107: nested deeper than 100'],
  ];
  test.each(rows)('%s', (text, message) => {
    expect(catchMessage(text)).toBe(message);
  });
});

test('an error of a bad JSON string points at the string', () => {
  expect(catchMessage('{"a": "\\q"}')).toMatch(/^1:7: bad JSON string/);
});

describe('hclBlocks() finds the same in HCL and JSON', () => {
  const rows: [name: string, text: string][] = [
    ['blocks', 'path "a" { x = 1 }\npath "b" { x = 2 }'],
    ['an object of objects', 'path = { "a" = { x = 1 }, "b" = { x = 2 } }'],
    ['JSON object', '{"path": {"a": {"x": 1}, "b": {"x": 2}}}'],
    ['JSON list', '{"path": [{"a": {"x": 1}}, {"b": {"x": 2}}]}'],
    ['JSON with each body in a list', '{"path": {"a": [{"x": 1}], "b": [{"x": 2}]}}'],
  ];
  test.each(rows)('%s', (_name, text) => {
    const blocks = hclBlocks(parseHcl(text), 'path', 'required');
    expect(blocks.map((block) => [block.label, hclToPlain(block.body)])).toEqual([
      ['a', { x: 1 }],
      ['b', { x: 2 }],
    ]);
  });

  test('a label is required, optional or refused', () => {
    const document = parseHcl('a { x = 1 }\nb "l" { x = 1 }');
    expect(() => hclBlocks(document, 'a', 'required')).toThrow('1:1: expected a label after "a"');
    expect(hclBlocks(document, 'a', 'optional')[0]?.label).toBe('');
    expect(() => hclBlocks(document, 'b', 'none')).toThrow('2:1: "b" takes no label');
    expect(() => hclBlocks(parseHcl('a = 1'), 'a', 'none')).toThrow('expected a block for "a"');
    expect(() => hclBlocks(parseHcl('a "b" "c" {}'), 'a', 'optional')).toThrow('takes one label');
  });
});

test('hclAttribute() takes the last of several values, and joins lists', () => {
  const document = parseHcl('a = 1\na = 2\nl = ["x"]\nl = ["y"]');
  expect(hclAttribute(document, 'a')).toBe(2);
  expect(hclAttribute(document, 'l')).toEqual(['x', 'y']);
  expect(hclAttribute(document, 'b')).toBeUndefined();
});

// The parser of HCL 2 is an independent reader of the subset that both versions share: one item
// to a line, strings in NFC without HCL 1's own escapes, labels in quotes.
describe('parseHcl() agrees with hcl2-parser', () => {
  const key = fc.stringMatching(/^[a-z_][a-z0-9_]{0,8}$/).filter((k) => !RESERVED.has(k));
  const scalar = fc.oneof(
    fc
      .string({ maxLength: 12, unit: 'grapheme' })
      .map((s) => s.replaceAll(/[%$]/g, 'x').normalize('NFC')),
    fc.integer(),
    fc.boolean(),
  );
  const value = fc.oneof(scalar, fc.array(scalar, { maxLength: 4 }));
  const body = fc.dictionary(key, value, { maxKeys: 4, noNullPrototype: true });
  const documents = fc.record({
    attributes: body,
    blocks: fc.uniqueArray(fc.tuple(key, body), { maxLength: 3, selector: ([label]) => label }),
  });

  test('on generated documents', () => {
    fc.assert(
      fc.property(documents, ({ attributes, blocks }) => {
        const text = `${print(attributes)}${blocks
          .map(([label, inner]) => `block "${label}" {\n${print(inner)}}\n`)
          .join('')}`;
        const [expected, error] = parseToObject(text) as [object | null, unknown];
        assert(error === null && expected !== null, `not in the common subset: ${text}`);
        const document = parseHcl(text);
        const found = hclBlocks(document, 'block', 'required');
        const byLabel = Object.fromEntries(found.map((b) => [b.label, [hclToPlain(b.body)]]));
        const actual = {
          ...Object.fromEntries(
            document.items
              .filter((item) => item.labels.length === 0)
              .map((item) => [item.key, hclToPlain(item.value)]),
          ),
          ...(found.length === 0 ? {} : { block: byLabel }),
        };
        expect(actual).toEqual(expected);
      }),
      { numRuns: 150 },
    );
  });
});

test('parseHcl() reads a large document without much stack', () => {
  const blank = `${' '.repeat(200_000)}${'# c\n'.repeat(50_000)}`;
  const text = 'x'.repeat(500_000);
  expect(plain(`${blank}a = "${text}"`)).toEqual({ a: text });
  expect(plain(`{"a": "${text}"}`)).toEqual({ a: text });
  expect(catchMessage(`{"a": "${text}`)).toBe('1:7: string not closed, expected "\\""');
});

test('parseHcl() never fails with anything but HclError', () => {
  const pieces = fc.constantFrom(
    'a',
    '"b"',
    '=',
    '{',
    '}',
    '[',
    ']',
    ',',
    '\n',
    '#',
    '/*',
    '*/',
    '<<E\n',
    'E\n',
    '1',
    '-',
    '0x',
    '"',
    '\\',
    '${',
    'true',
    ':',
    'null',
    '\u{1F600}',
    '\ud800',
  );
  fc.assert(
    fc.property(fc.array(pieces, { maxLength: 30 }), (tokens) => {
      expect(catchError(tokens.join('')) ?? new HclError(START, '')).toBeInstanceOf(HclError);
    }),
    { numRuns: 2000 },
  );
});

const START = { line: 1, column: 1 };
const RESERVED = new Set(['true', 'false', 'null', 'for', 'if', 'in', 'block', '__proto__']);

function print(values: Record<string, unknown>): string {
  return Object.entries(values)
    .map(([key, value]) => `${key} = ${JSON.stringify(value)}\n`)
    .join('');
}

function catchMessage(text: string): string | undefined {
  const error = catchError(text);
  return error instanceof Error ? error.message : undefined;
}

function catchError(text: string): unknown {
  try {
    parseHcl(text);
  } catch (error) {
    return error;
  }
  return undefined;
}
