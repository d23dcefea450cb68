/**
 * HCL version 1 and its JSON form, as OpenBao reads configurations and policies
 * (hashicorp/hcl `hcl/parser`, `json/parser`; openbao sdk/helper/hclutil/hcl.go).
 *
 * A document is a list of items in the order written, duplicates kept, because a repeated `path`
 * or `listener` means several. What a key means is left to the reader of the tree; `hclBlocks`
 * and `hclAttribute` answer the two questions that every reader has, alike for HCL and JSON.
 * Interpolation (`${...}`) is kept as text: nothing that OpenBao reads evaluates it.
 */

import { HclError, Scanner, quote } from './hcl-scanner.ts';
import type { HclPosition } from './hcl-scanner.ts';

export { HclError };

export type HclValue = null | boolean | number | string | readonly HclValue[] | HclObject;

export type HclItem = HclPosition & {
  readonly key: string;
  /** `listener "tcp" {}` has the label `tcp`. Always empty in JSON. */
  readonly labels: readonly string[];
  readonly value: HclValue;
};

export type HclObject = HclPosition & { readonly items: readonly HclItem[] };

export type HclBlock = HclPosition & { readonly label: string; readonly body: HclObject };

/** Reads a document; one whose first character is `{` is JSON. Throws `HclError`. */
export function parseHcl(text: string): HclObject {
  const source = text.startsWith('\uFEFF') ? text.slice(1) : text;
  const scanner = new Scanner(source);
  return /^\s*\{/.test(source) ? parseJsonDocument(scanner) : parseHclDocument(scanner);
}

export function isHclObject(value: HclValue): value is HclObject {
  return typeof value === 'object' && value !== null && !Array.isArray(value);
}

/**
 * All blocks of one kind. `key "label" {}` in HCL, `{"key": {"label": {}}}` or a list of those in
 * JSON; without a label (`key {}`) the label is empty, if `labels` is `optional` or `none`.
 */
export function hclBlocks(
  parent: HclObject,
  key: string,
  labels: 'required' | 'optional' | 'none',
): HclBlock[] {
  return parent.items.filter((item) => item.key === key).flatMap((item) => blocksOf(item, labels));
}

/** The value of a key: the last one wins, except that repeated lists are joined, as in HCL 1. */
export function hclAttribute(parent: HclObject, key: string): HclValue | undefined {
  let result: HclValue | undefined;
  for (const item of parent.items) {
    if (item.key !== key) continue;
    result =
      Array.isArray(result) && Array.isArray(item.value) ? [...result, ...item.value] : item.value;
  }
  return result;
}

/** A tree without positions: blocks with labels nest (`a "b" {}` is `{a: {b: {}}}`), last wins. */
export function hclToPlain(value: HclValue): unknown {
  if (Array.isArray(value)) return value.map(hclToPlain);
  if (!isHclObject(value)) return value;
  const entries = value.items.map((item) => {
    const nested = item.labels.reduceRight<unknown>(
      (inner, label) => Object.fromEntries([[label, inner]]),
      hclToPlain(item.value),
    );
    return [item.key, nested] as const;
  });
  return Object.fromEntries(entries);
}

function blocksOf(item: HclItem, labels: 'required' | 'optional' | 'none'): HclBlock[] {
  if (item.labels.length > 1) throw new HclError(item, `${quote(item.key)} takes one label`);
  if (item.labels.length === 1 && labels === 'none') {
    throw new HclError(item, `${quote(item.key)} takes no label`);
  }
  const bodies: readonly HclValue[] = Array.isArray(item.value) ? item.value : [item.value];
  return bodies.flatMap((body) => {
    if (!isHclObject(body)) throw new HclError(item, `expected a block for ${quote(item.key)}`);
    const place = { line: item.line, column: item.column };
    const label = item.labels[0];
    if (label !== undefined) return [{ ...place, label, body }];
    if (labels === 'none' || (labels === 'optional' && !onlyHoldsObjects(body))) {
      return [{ ...place, label: '', body }];
    }
    return body.items.flatMap((inner) => blocksOf(labelled(item, inner), labels));
  });
}

/** `{"path": {"a/*": {...}}}` written as `path "a/*" {...}`. */
function labelled(outer: HclItem, inner: HclItem): HclItem {
  if (outer.labels.length === 0 && inner.labels.length === 0 && holdsObject(inner.value)) {
    return { ...inner, key: outer.key, labels: [inner.key] };
  }
  throw new HclError(outer, `expected a label after ${quote(outer.key)}`);
}

function onlyHoldsObjects(body: HclObject): boolean {
  return body.items.length > 0 && body.items.every((item) => holdsObject(item.value));
}

function holdsObject(value: HclValue): boolean {
  return Array.isArray(value) ? value.every((element) => isHclObject(element)) : isHclObject(value);
}

const DEPTH_MAX = 100; // Nesting deeper than this is an attack or a mistake, and would end the stack.

// ---- HCL ----

function parseHclDocument(scanner: Scanner): HclObject {
  const start = scanner.position();
  const items = parseItems(scanner, undefined, 0);
  return { ...start, items };
}

/** Items up to `end` (`}`), or to the end of the text. A comma between them is optional. */
function parseItems(scanner: Scanner, end: '}' | undefined, depth: number): HclItem[] {
  if (depth > DEPTH_MAX) scanner.fail(`nested deeper than ${DEPTH_MAX}`);
  const items: HclItem[] = [];
  for (;;) {
    scanner.skipBlank();
    if (scanner.atEnd()) {
      if (end !== undefined) scanner.fail(`expected ${quote(end)} to close the block`);
      return items;
    }
    if (end !== undefined && scanner.accept(end)) return items;
    items.push(parseItem(scanner, depth));
    scanner.skipBlank();
    scanner.accept(',');
  }
}

function parseItem(scanner: Scanner, depth: number): HclItem {
  const place = scanner.position();
  const key = parseKey(scanner, 'a key');
  const labels: string[] = [];
  for (;;) {
    scanner.skipBlank();
    if (scanner.accept('{')) {
      const items = parseItems(scanner, '}', depth + 1);
      return { ...place, key, labels, value: { ...place, items } };
    }
    if (labels.length === 0 && scanner.accept('=')) {
      return { ...place, key, labels, value: parseValue(scanner, depth + 1) };
    }
    labels.push(parseKey(scanner, labels.length === 0 ? '"=", a label or "{"' : 'a label or "{"'));
  }
}

function parseKey(scanner: Scanner, expected: string): string {
  if (scanner.peek() === '"') return parseString(scanner);
  const word = scanner.match(/[\p{L}_][\p{L}\p{N}_.-]*/uy);
  return word ?? scanner.fail(`expected ${expected}, found ${scanner.found()}`);
}

function parseValue(scanner: Scanner, depth: number): HclValue {
  if (depth > DEPTH_MAX) scanner.fail(`nested deeper than ${DEPTH_MAX}`);
  scanner.skipBlank();
  const place = scanner.position();
  if (scanner.peek() === '"') return parseString(scanner);
  if (scanner.accept('{')) return { ...place, items: parseItems(scanner, '}', depth) };
  if (scanner.accept('[')) return parseList(scanner, depth);
  if (scanner.peek() === '<') return parseHeredoc(scanner);
  const number = scanner.match(/-?(?:0[xX][\da-fA-F]+|(?:\d+\.?\d*|\.\d+)(?:[eE][+-]?\d+)?)/uy);
  if (number !== undefined) return toNumber(scanner, place, number);
  const word = scanner.match(/true\b|false\b/uy);
  if (word !== undefined) return word === 'true';
  return scanner.fail(
    `expected a value (string, number, bool, list or object), found ${scanner.found()}`,
  );
}

function toNumber(scanner: Scanner, place: HclPosition, text: string): number {
  if (/[\p{L}\p{N}_.]/u.test(scanner.peek())) {
    throw new HclError(place, `expected a number, found ${quote(text + scanner.peek())}`);
  }
  const digits = text.startsWith('-') ? text.slice(1) : text;
  // As in Go: a leading zero means octal.
  const isOctal = /^0[0-7]+$/.test(digits);
  if (/^0\d+$/.test(digits) && !isOctal) throw new HclError(place, `bad octal number ${text}`);
  const size = isOctal ? Number.parseInt(digits, 8) : Number(digits);
  return text.startsWith('-') ? -size : size;
}

function parseList(scanner: Scanner, depth: number): HclValue[] {
  const values: HclValue[] = [];
  for (;;) {
    scanner.skipBlank();
    if (scanner.accept(']')) return values;
    values.push(parseValue(scanner, depth + 1));
    scanner.skipBlank();
    if (scanner.accept(',')) continue;
    if (scanner.accept(']')) return values;
    scanner.fail(`expected "," or "]", found ${scanner.found()}`);
  }
}

const SIMPLE_ESCAPES: { readonly [letter: string]: string } = {
  a: '\u0007',
  b: '\b',
  f: '\f',
  n: '\n',
  r: '\r',
  t: '\t',
  v: '\v',
  '\\': '\\',
  '"': '"',
};

function parseString(scanner: Scanner): string {
  const start = scanner.position();
  scanner.accept('"');
  let result = '';
  let braces = 0; // Inside ${...} quotes and newlines are part of the text.
  for (;;) {
    if (scanner.atEnd()) throw new HclError(start, 'string not closed, expected "\\""');
    if (braces === 0) {
      result += scanner.match(/[^"\\\n$]+/uy) ?? '';
      if (scanner.accept('"')) return result;
      if (scanner.peek() === '\n') scanner.fail('newline in a string, expected "\\""');
      if (scanner.peek() === '\\') {
        result += parseEscape(scanner);
        continue;
      }
      if (scanner.match(/\$\{/uy) !== undefined) {
        braces = 1;
        result += '${';
        continue;
      }
    } else if (scanner.peek() === '{') {
      braces += 1;
    } else if (scanner.peek() === '}') {
      braces -= 1;
    }
    result += scanner.next();
  }
}

function parseEscape(scanner: Scanner): string {
  const start = scanner.position();
  scanner.accept('\\');
  const code = scanner.match(/[0-7]{3}|x[\da-fA-F]{2}|u[\da-fA-F]{4}|U[\da-fA-F]{8}/uy);
  if (code !== undefined) {
    const point = /^\d/.test(code) ? Number.parseInt(code, 8) : Number.parseInt(code.slice(1), 16);
    if (point > 0x10ffff) throw new HclError(start, `escape \\${code} is not a character`);
    return String.fromCodePoint(point);
  }
  const letter = scanner.peek();
  const simple = SIMPLE_ESCAPES[letter];
  if (simple === undefined) throw new HclError(start, `unknown escape sequence "\\${letter}"`);
  scanner.next();
  return simple;
}

/** `<<EOF` keeps the text; `<<-EOF` also takes away the indentation of the least indented line. */
function parseHeredoc(scanner: Scanner): string {
  const start = scanner.position();
  const opening = scanner.match(/<<-?[\p{L}\p{N}_]+\r?\n/uy);
  if (opening === undefined) scanner.fail('expected a heredoc like <<EOF and a newline');
  const isIndented = opening.startsWith('<<-');
  const marker = opening.slice(isIndented ? 3 : 2).trim();
  const lines: string[] = [];
  for (;;) {
    if (scanner.atEnd()) throw new HclError(start, `heredoc not closed, expected ${quote(marker)}`);
    const line = scanner.match(/[^\n]*/uy) ?? '';
    if (line.trim() === marker) break;
    lines.push(`${line}\n`);
    scanner.accept('\n');
  }
  if (!isIndented) return lines.join('');
  const indents = lines.filter((line) => line.trim() !== '').map((line) => line.search(/\S/));
  const indent = Math.min(...indents, Number.MAX_SAFE_INTEGER);
  return lines.map((line) => (line.trim() === '' ? '\n' : line.slice(indent))).join('');
}

// ---- JSON ----

function parseJsonDocument(scanner: Scanner): HclObject {
  const value = parseJsonValue(scanner, 0);
  scanner.skipSpace();
  if (!scanner.atEnd()) scanner.fail(`expected the end of the document, found ${scanner.found()}`);
  if (!isHclObject(value)) return scanner.fail('expected an object');
  return value;
}

function parseJsonValue(scanner: Scanner, depth: number): HclValue {
  if (depth > DEPTH_MAX) scanner.fail(`nested deeper than ${DEPTH_MAX}`);
  scanner.skipSpace();
  const place = scanner.position();
  if (scanner.accept('{')) return { ...place, items: parseJsonItems(scanner, depth) };
  if (scanner.accept('[')) return parseJsonList(scanner, depth);
  if (scanner.peek() === '"') return parseJsonScalar(readQuoted(scanner), place);
  const scalar = scanner.match(
    /-?(?:0|[1-9]\d*)(?:\.\d+)?(?:[eE][+-]?\d+)?|true\b|false\b|null\b/uy,
  );
  if (scalar === undefined) {
    return scanner.fail(`expected a JSON value, found ${scanner.found()}`);
  }
  return parseJsonScalar(scalar, place);
}

/** A JSON string with its quotes. Whether it is a good one, JSON.parse says. */
function readQuoted(scanner: Scanner): string {
  const start = scanner.position();
  let text = scanner.next();
  for (;;) {
    text += scanner.match(/[^"\\\n]+/uy) ?? '';
    if (scanner.atEnd() || scanner.peek() === '\n') {
      throw new HclError(start, 'string not closed, expected "\\""');
    }
    const isEnd = scanner.peek() === '"';
    text += scanner.next();
    if (isEnd) return text;
    text += scanner.next();
  }
}

function parseJsonScalar(text: string, place: HclPosition): null | boolean | number | string {
  try {
    // The expression above admits one scalar only.
    return JSON.parse(text) as null | boolean | number | string;
  } catch (error) {
    throw new HclError(place, `bad JSON string: ${error instanceof Error ? error.message : ''}`);
  }
}

function parseJsonItems(scanner: Scanner, depth: number): HclItem[] {
  const items: HclItem[] = [];
  scanner.skipSpace();
  if (scanner.accept('}')) return items;
  for (;;) {
    scanner.skipSpace();
    const place = scanner.position();
    if (scanner.peek() !== '"') scanner.fail(`expected a key in quotes, found ${scanner.found()}`);
    const key = parseJsonValue(scanner, depth + 1);
    scanner.skipSpace();
    if (!scanner.accept(':')) scanner.fail(`expected ":", found ${scanner.found()}`);
    const value = parseJsonValue(scanner, depth + 1);
    items.push({ ...place, key: String(key), labels: [], value });
    scanner.skipSpace();
    if (scanner.accept('}')) return items;
    if (!scanner.accept(',')) scanner.fail(`expected "," or "}", found ${scanner.found()}`);
  }
}

function parseJsonList(scanner: Scanner, depth: number): HclValue[] {
  const values: HclValue[] = [];
  scanner.skipSpace();
  if (scanner.accept(']')) return values;
  for (;;) {
    values.push(parseJsonValue(scanner, depth + 1));
    scanner.skipSpace();
    if (scanner.accept(']')) return values;
    if (!scanner.accept(',')) scanner.fail(`expected "," or "]", found ${scanner.found()}`);
  }
}
