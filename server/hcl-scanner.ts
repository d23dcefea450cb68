/** The cursor that `hcl.ts` reads with, and the error that says where reading ended. */

export type HclPosition = { readonly line: number; readonly column: number };

export class HclError extends Error {
  readonly line: number;
  readonly column: number;

  constructor(position: HclPosition, message: string) {
    super(`${position.line}:${position.column}: ${message}`);
    this.name = 'HclError';
    this.line = position.line;
    this.column = position.column;
  }
}

/** A cursor over the text. Patterns must be sticky. */
export class Scanner {
  readonly #text: string;
  #offset = 0;
  // Line and start of line as of `#scannedTo`: positions are asked for in rising order, so the
  // text is counted once.
  #line = 1;
  #lineStart = 0;
  #scannedTo = 0;

  constructor(text: string) {
    this.#text = text;
  }

  atEnd(): boolean {
    return this.#offset >= this.#text.length;
  }

  /** The next character, empty at the end. */
  peek(): string {
    return this.#text.charAt(this.#offset);
  }

  next(): string {
    const character = this.peek();
    this.#offset += 1;
    return character;
  }

  accept(character: string): boolean {
    if (this.peek() !== character) return false;
    this.#offset += 1;
    return true;
  }

  match(pattern: RegExp): string | undefined {
    pattern.lastIndex = this.#offset;
    const found = pattern.exec(this.#text)?.[0];
    if (found !== undefined) this.#offset += found.length;
    return found;
  }

  skipSpace(): void {
    this.match(/[ \t\r\n]*/uy);
  }

  /** White space and the three kinds of comments. */
  skipBlank(): void {
    for (;;) {
      this.skipSpace();
      if (this.peek() === '#' || this.#text.startsWith('//', this.#offset)) {
        this.match(/[^\n]*/uy);
      } else if (this.#text.startsWith('/*', this.#offset)) {
        const end = this.#text.indexOf('*/', this.#offset + 2);
        if (end === -1) this.fail('comment not closed, expected "*/"');
        this.#offset = end + 2;
      } else {
        return;
      }
    }
  }

  position(): HclPosition {
    for (;;) {
      const newline = this.#text.indexOf('\n', this.#scannedTo);
      if (newline === -1 || newline >= this.#offset) break;
      this.#line += 1;
      this.#lineStart = newline + 1;
      this.#scannedTo = newline + 1;
    }
    return { line: this.#line, column: this.#offset - this.#lineStart + 1 };
  }

  /** What stands here, for a message. */
  found(): string {
    if (this.atEnd()) return 'the end of the text';
    return quote(/^[\p{L}\p{N}_.-]+|^./su.exec(this.#text.slice(this.#offset))?.[0] ?? '');
  }

  fail(message: string): never {
    throw new HclError(this.position(), message);
  }
}

export function quote(text: string): string {
  return JSON.stringify(text);
}
