import assert from 'node:assert/strict';
import { createServer, maxHeaderSize, type RequestListener, type Server } from 'node:http';
import { createServer as createTlsServer } from 'node:https';
import { connect, type AddressInfo, type Socket } from 'node:net';
import type { Duplex } from 'node:stream';
import { connect as connectTls } from 'node:tls';

import { afterAll, beforeAll, describe, expect, test } from 'vitest';

import { createClusterCredentials } from '../cluster/credentials.ts';
import { allowListAndScan, methodOf } from './verbs.ts';

/** Answers `method url body`, one line per request. */
const echo: RequestListener = (request, response) => {
  const method = methodOf(request);
  const chunks: Buffer[] = [];
  request.on('data', (chunk: Buffer) => chunks.push(chunk));
  request.on('end', () => {
    response.end(`<${method} ${request.url} ${Buffer.concat(chunks).toString()}>`);
  });
};

function refuse(_error: Error, socket: Duplex): void {
  if (socket.writable) socket.end('HTTP/1.1 400 Bad Request\r\nConnection: close\r\n\r\n<refused>');
  else socket.destroy();
}

function head(method: string, path: string, rest = ''): string {
  return `${method} ${path} HTTP/1.1\r\nHost: a\r\n${rest}\r\n`;
}

/** Sends the packets, each after the answers that it must wait for, and returns what came back. */
async function exchange(
  open: () => Socket,
  packets: readonly { readonly send: string; readonly until: string }[],
): Promise<string[]> {
  const socket = open();
  socket.setNoDelay(true);
  let received = '';
  let next = 0;
  const send = () => {
    const packet = packets[next];
    if (packet === undefined) socket.end();
    else socket.write(packet.send);
  };
  await new Promise<void>((resolve, reject) => {
    socket.on('error', reject);
    socket.on('close', () => resolve());
    socket.on('data', (chunk: Buffer) => {
      received += chunk.toString();
      while (next < packets.length && received.includes(packets[next]?.until ?? '')) {
        next += 1;
        send();
      }
    });
    send();
  });
  return received.match(/<[^>]*>/g) ?? [];
}

const CASES: readonly {
  name: string;
  packets: readonly { send: string; until: string }[];
  answers: readonly string[];
}[] = [
  {
    name: 'verbs mixed on one keep-alive connection',
    packets: [
      { send: head('LIST', '/1'), until: '<LIST /1 >' },
      { send: head('GET', '/2'), until: '<GET /2 >' },
      { send: head('LIST', '/3'), until: '<LIST /3 >' },
      { send: head('LIST', '/4'), until: '<LIST /4 >' },
      {
        send: `${head('POST', '/5', 'Content-Length: 15\r\n')}LIST / HTTP/1.1`,
        until: '<POST /5 LIST / HTTP/1.1>',
      },
      { send: head('SCAN', '/6'), until: '<SCAN /6 >' },
      { send: head('GET', '/7'), until: '<GET /7 >' },
    ],
    answers: [
      '<LIST /1 >',
      '<GET /2 >',
      '<LIST /3 >',
      '<LIST /4 >',
      '<POST /5 LIST / HTTP/1.1>',
      '<SCAN /6 >',
      '<GET /7 >',
    ],
  },
  {
    name: 'pipelined in one packet',
    packets: [
      {
        send: head('GET', '/1') + head('LIST', '/2') + head('SCAN', '/3') + head('GET', '/4'),
        until: '<GET /4 >',
      },
    ],
    answers: ['<GET /1 >', '<LIST /2 >', '<SCAN /3 >', '<GET /4 >'],
  },
  {
    name: 'a body that holds a whole request is a body',
    packets: [
      {
        send:
          head('POST', '/1', 'Transfer-Encoding: chunked\r\n') +
          `1c\r\nLIST / HTTP/1.1\r\nHost: a\r\n\r\n\r\n0\r\n\r\n` +
          head('LIST', '/2'),
        until: '<LIST /2 >',
      },
    ],
    answers: ['<POST /1 LIST / HTTP/1.1\r\nHost: a\r\n\r\n>', '<LIST /2 >'],
  },
  {
    name: 'a LIST with a body',
    packets: [{ send: `${head('LIST', '/1', 'Content-Length: 2\r\n')}{}`, until: '<LIST /1 {}>' }],
    answers: ['<LIST /1 {}>'],
  },
  {
    name: 'the substitutes themselves are what they are',
    packets: [
      { send: head('LINK', '/1'), until: '<LINK /1 >' },
      { send: head('LIST', '/2') + head('BIND', '/3'), until: '<BIND /3 >' },
    ],
    answers: ['<LINK /1 >', '<LIST /2 >', '<BIND /3 >'],
  },
  ...[
    { name: 'another unknown verb', send: head('BOGUS', '/') },
    { name: 'a verb that only begins so', send: head('LISTEN', '/') },
    { name: 'lower case', send: head('list', '/') },
    // Nothing follows: what is compared with the verb must not reach past the packet.
    ...['LIS', 'LIST', 'SC', 'SCAN'].map((send) => ({ name: `a packet that is ${send}`, send })),
    {
      name: 'both lengths after a LIST',
      send: head('LIST', '/', 'Content-Length: 3\r\nTransfer-Encoding: chunked\r\n'),
    },
    { name: 'a folded header after a LIST', send: head('LIST', '/', 'X-A: b\r\n  c\r\n') },
    {
      name: 'two lengths after a LIST',
      send: head('LIST', '/', 'Content-Length: 3\r\nContent-Length: 4\r\n'),
    },
    { name: 'a space before the colon', send: head('LIST', '/', 'X-A : b\r\n') },
    { name: 'a bare LF request line', send: 'LIST / HTTP/1.1\nHost: a\n\n' },
  ].map(({ name, send }) => ({
    name: `refused: ${name}`,
    packets: [{ send, until: '<refused>' }],
    answers: ['<refused>'],
  })),
];

describe.each(['tcp', 'tls'] as const)('LIST and SCAN over %s', (transport) => {
  let server: Server;
  const open = () => {
    const { port } = server.address() as AddressInfo;
    if (transport === 'tcp') return connect(port, '127.0.0.1');
    return connectTls({ port, host: '127.0.0.1', rejectUnauthorized: false });
  };

  beforeAll(async () => {
    const { certificatePem: cert, privateKeyPem: key } = await createClusterCredentials();
    const tls = { cert, key };
    server = transport === 'tcp' ? createServer(echo) : createTlsServer(tls, echo);
    allowListAndScan(server, maxHeaderSize, refuse);
    await new Promise<void>((resolve) => server.listen(0, '127.0.0.1', resolve));
  });

  afterAll(() => new Promise((resolve) => server.close(resolve)));

  test.each(CASES)('$name', async ({ packets, answers }) => {
    expect(await exchange(open, packets)).toEqual(answers);
  });

  test('headers in a later packet than the verb', async () => {
    const socket = open();
    socket.setNoDelay(true);
    socket.write('SCAN /split HTT');
    await new Promise((resolve) => setImmediate(resolve));
    const answer = new Promise<string>((resolve) => socket.once('data', (d) => resolve(String(d))));
    socket.write('P/1.1\r\nHost: a\r\n\r\n');
    assert.match(await answer, /<SCAN \/split >/);
    socket.destroy();
  });

  test('a verb split inside its letters is refused', async () => {
    const socket = open();
    socket.setNoDelay(true);
    const answer = new Promise<string>((resolve) => socket.once('data', (d) => resolve(String(d))));
    const first = new Promise<void>((resolve) => {
      server.once(transport === 'tcp' ? 'connection' : 'secureConnection', (accepted: Socket) => {
        const poll = () => (accepted.bytesRead > 0 ? resolve() : setImmediate(poll));
        poll();
      });
    });
    socket.write('LI');
    await first;
    socket.write('ST / HTTP/1.1\r\nHost: a\r\n\r\n');
    assert.match(await answer, /<refused>/);
    socket.destroy();
  });

  test('thousands on one connection leave no listeners behind', async () => {
    const socket = open();
    let accepted: Socket | undefined;
    const onRequest: RequestListener = (request) => {
      accepted = request.socket;
    };
    server.on('request', onRequest);
    const listeners = new Set<number>();
    for (let round = 0; round < 2000; round += 1) {
      const answer = new Promise((resolve) => socket.once('data', resolve));
      socket.write(head('LIST', `/${round}`));
      await answer;
      assert(accepted);
      const sockets = accepted;
      const count = sockets
        .eventNames()
        .reduce((sum, name) => sum + sockets.listenerCount(name), 0);
      if (round > 0) listeners.add(count);
    }
    expect(listeners.size).toBe(1);
    server.off('request', onRequest);
    socket.destroy();
  });
});
