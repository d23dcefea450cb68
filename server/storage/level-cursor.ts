/** LevelDB's variable-length numbers, and what is made of them. */

/** Where a block of a table is. */
export type Handle = { readonly offset: number; readonly size: number };

export class LevelCursor {
  readonly #bytes: Buffer;
  offset: number;

  constructor(bytes: Buffer, offset: number) {
    this.#bytes = bytes;
    this.offset = offset;
  }

  handle(): Handle {
    return { offset: this.varint(), size: this.varint() };
  }

  /** A string, whose bytes nobody here reads. */
  skipString(): void {
    const bytes = this.varint();
    this.offset += bytes;
  }

  /** Beyond the end of the file everything is zero: what it leads to fails its checksum. */
  varint(): number {
    let value = 0;
    for (let factor = 1; ; factor *= 128) {
      const byte = this.#bytes[this.offset++] ?? 0;
      value += (byte & 0x7f) * factor;
      if (byte < 0x80) return value;
    }
  }
}
