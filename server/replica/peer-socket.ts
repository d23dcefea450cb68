/**
 * What is asked of a connection between peers. TLS sockets have it all; so have the connections of
 * the simulation, which come apart wherever its seed says.
 */

export type PeerSocket = {
  readonly destroyed: boolean;
  /** Bytes that were written and not taken yet. */
  readonly writableLength: number;
  readonly remoteAddress?: string | undefined;
  on(event: 'data', listener: (chunk: Buffer) => void): unknown;
  on(event: 'drain' | 'close', listener: () => void): unknown;
  once(event: 'close', listener: () => void): unknown;
  off(event: 'data', listener: (chunk: Buffer) => void): unknown;
  off(event: 'close', listener: () => void): unknown;
  /** `written`: the memory is not needed any more, whatever became of it. */
  write(bytes: Buffer, written?: () => void): boolean;
  end(bytes: Buffer): unknown;
  destroy(): unknown;
  pause(): unknown;
  resume(): unknown;
  /** What arrives, as it is asked for. */
  iterator(options: { readonly destroyOnReturn: boolean }): AsyncIterable<Buffer>;
};
