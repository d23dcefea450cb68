import { once } from 'node:events';
import { connect, createServer, type AddressInfo, type Server, type Socket } from 'node:net';

import { afterEach, beforeEach, describe, expect, test } from 'vitest';

import { Random } from '../../server/testing/random.ts';
import { findSocketOwner } from './socket-owner.ts';
import { SOUND, TcpProxy, type LinkFaults } from './tcp-proxy.ts';

let echo: Server;
let proxy: TcpProxy;
let client: Socket;
let served: Socket[];
let dialledFrom: number[];
const faults = new Map<string, LinkFaults>();

beforeEach(async () => {
  faults.clear();
  dialledFrom = [];
  served = [];
  echo = createServer((socket) => {
    served.push(socket);
    socket.on('error', () => undefined).pipe(socket);
  });
  echo.listen(0, '127.0.0.1');
  await once(echo, 'listening');
  const { port } = echo.address() as AddressInfo;
  proxy = new TcpProxy(
    { name: 'b', host: '127.0.0.1', port },
    {
      random: new Random(1, 'proxy'),
      faults: (from, to) => faults.get(`${from}>${to}`) ?? SOUND,
      nameOf: (from) => {
        dialledFrom.push(from);
        return 'a';
      },
    },
  );
  client = connect({ host: '127.0.0.1', port: await proxy.listen() });
  client.on('error', () => undefined);
  await once(client, 'connect');
});

afterEach(async () => {
  client.destroy();
  await proxy.close();
  echo.close();
});

describe('TcpProxy', () => {
  test('carries bytes both ways when nothing is wrong', async () => {
    const bytes = Buffer.alloc(3_000_000, 'baobench');
    client.write(bytes);
    expect((await receive(bytes.length)).equals(bytes)).toBe(true);
  });

  test.each(['a>b', 'b>a'])(
    'holds what is sent while %s is cut, and loses nothing',
    async (link) => {
      faults.set(link, { ...SOUND, isCut: true });
      client.write('first');
      await quiet(100);
      expect(client.readableLength).toBe(0);
      faults.clear();
      expect((await receive(5)).toString()).toBe('first');
    },
  );

  test('does not tell of an end across a cut', async () => {
    faults.set('b>a', { ...SOUND, isCut: true });
    const closed = closeOf(client.resume());
    client.write('x');
    await quiet(50);
    for (const socket of served) socket.destroy();
    await quiet(100);
    expect(client.destroyed).toBe(false);
    faults.clear();
    await closed;
  });

  test('delays, and keeps the order', async () => {
    faults.set('a>b', { ...SOUND, delayMs: 80 });
    const startMs = performance.now();
    client.write('one');
    await quiet(5);
    faults.clear();
    client.write('two');
    expect((await receive(6)).toString()).toBe('onetwo');
    expect(performance.now() - startMs).toBeGreaterThan(75);
  });

  test('slows down to a rate', async () => {
    faults.set('a>b', { ...SOUND, bytesPerSecond: 100_000 });
    const startMs = performance.now();
    client.write(Buffer.alloc(20_000));
    await receive(20_000);
    expect(performance.now() - startMs).toBeGreaterThan(150);
  });

  test('changes one bit', async () => {
    faults.set('a>b', { ...SOUND, flipShare: 1 });
    client.write(Buffer.alloc(100));
    const changed = [...(await receive(100))].filter((byte) => byte !== 0);
    expect(changed.length).toBe(1);
    expect(Math.log2(changed[0] ?? 0) % 1).toBe(0);
  });

  test('resets what is open', async () => {
    client.write('x');
    await receive(1);
    const closed = closeOf(client);
    proxy.resetAll();
    await closed;
    expect(client.destroyed).toBe(true);
  });

  test('knows who dials by the port', async () => {
    client.write('x');
    await receive(1);
    expect(dialledFrom).toEqual([client.localPort]);
    const port = client.localPort ?? 0;
    expect(findSocketOwner(port, [1, process.pid])).toBe(process.pid);
    expect(findSocketOwner(port, [process.ppid])).toBe(undefined);
  });
});

async function receive(length: number): Promise<Buffer> {
  const chunks: Buffer[] = [];
  let bytes = 0;
  while (bytes < length) {
    const chunk: Buffer | null = client.read();
    if (chunk === null) {
      await once(client, 'readable');
      continue;
    }
    chunks.push(chunk);
    bytes += chunk.length;
  }
  return Buffer.concat(chunks);
}

function closeOf(socket: Socket): Promise<void> {
  return new Promise((resolve) => {
    socket.once('close', () => resolve());
  });
}

/** Nothing may come: there is no event to wait for. */
function quiet(ms: number): Promise<void> {
  return new Promise((resolve) => {
    setTimeout(resolve, ms);
  });
}
