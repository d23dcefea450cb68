import { createServer } from 'node:http';
import { createServer as createTlsServer } from 'node:https';
import type { AddressInfo } from 'node:net';
import { beforeAll, describe, expect, test } from 'vitest';
import type { ClusterCredentials, JoinPeer } from '../core/ports.ts';
import { createClusterCredentials } from './credentials.ts';
import { joinTlsComplaint } from './join-tls.ts';
import { createJoinClient } from './join.ts';

function peer(apiAddress: string, tls: JoinPeer['tls'] = {}): JoinPeer {
  return { apiAddress, tls };
}

type Answer = { readonly status: number; readonly body: string; readonly location?: string };

/** Answers each request with the next of `answers`; resolves with what it was asked. */
async function withServer(
  answers: readonly Answer[],
  run: (address: string) => Promise<void>,
): Promise<{ url: string; body: unknown }[]> {
  const asked: { url: string; body: unknown }[] = [];
  const server = createServer((request, response) => {
    const chunks: Buffer[] = [];
    request.on('data', (chunk: Buffer) => chunks.push(chunk));
    request.on('end', () => {
      const answer = answers[asked.length];
      asked.push({
        url: request.url ?? '',
        body: JSON.parse(Buffer.concat(chunks).toString()),
      });
      const { location } = answer ?? {};
      response.writeHead(answer?.status ?? 500, location === undefined ? {} : { location });
      response.end(answer?.body);
    });
  });
  await new Promise<void>((resolve) => server.listen(0, '127.0.0.1', resolve));
  const { port } = server.address() as AddressInfo;
  try {
    await run(`http://127.0.0.1:${port}`);
  } finally {
    server.closeAllConnections();
    await new Promise((resolve) => server.close(resolve));
  }
  return asked;
}

describe('createJoinClient()', () => {
  test('posts to the bootstrap paths and hands back data', async () => {
    const ok = { status: 200, body: '{"data":{"challenge":"x"}}' };
    const asked = await withServer([ok, ok], async (address) => {
      const client = createJoinClient();
      expect(await client.challenge(peer(address), { server_id: 'n' })).toEqual({ challenge: 'x' });
      expect(await client.answer(peer(`${address}/`), { answer: 'a' })).toEqual({ challenge: 'x' });
    });
    expect(asked).toEqual([
      { url: '/v1/sys/storage/raft/bootstrap/challenge', body: { server_id: 'n' } },
      { url: '/v1/sys/storage/raft/bootstrap/answer', body: { answer: 'a' } },
    ]);
  });

  test('follows a standby to the active node', async () => {
    const ok = { status: 200, body: '{"data":{}}' };
    await withServer([ok], async (active) => {
      const location = `${active}/v1/sys/storage/raft/bootstrap/challenge`;
      await withServer([{ status: 307, body: '', location }], async (standby) => {
        expect(await createJoinClient().challenge(peer(standby), {})).toEqual({});
      });
    });
  });

  const failures: readonly [string, Answer, string, string][] = [
    [
      'a refusal',
      { status: 400, body: '{"errors":["invalid answer given"]}' },
      'invalid-request',
      'answered 400: invalid answer given',
    ],
    [
      'a sealed node',
      { status: 503, body: '{"errors":["Vault is sealed"]}' },
      'internal',
      'sealed',
    ],
    ['something else', { status: 200, body: 'hello' }, 'internal', 'no reason given'],
    ['too much', { status: 200, body: 'x'.repeat(100_000) }, 'internal', 'exceeds 65536 bytes'],
  ];
  test.each(failures)('%s is told as it is', async (_, answer, code, message) => {
    await withServer([answer], async (address) => {
      const asking = createJoinClient().challenge(peer(address), {});
      await expect(asking).rejects.toMatchObject({ code });
      await expect(asking).rejects.toThrow(message);
    });
  });

  test('nobody there, or no address at all', async () => {
    const client = createJoinClient();
    await expect(client.challenge(peer('http://127.0.0.1:1'), {})).rejects.toThrow(
      'is not reachable',
    );
    await expect(client.challenge(peer('nonsense'), {})).rejects.toMatchObject({
      code: 'invalid-request',
    });
  });
});

describe('TLS', () => {
  let own: ClusterCredentials;
  let foreign: ClusterCredentials;
  beforeAll(async () => {
    own = await createClusterCredentials();
    foreign = await createClusterCredentials();
  });

  /** A member whose certificate names `baobench-cluster`; `isMutual` asks for one in return. */
  async function withMember(
    isMutual: boolean,
    run: (address: string) => Promise<void>,
  ): Promise<void> {
    const { certificatePem: cert, privateKeyPem: key } = own;
    const options = { cert, key, ca: cert, requestCert: isMutual, rejectUnauthorized: isMutual };
    const server = createTlsServer(options, (_, response) => {
      response.end('{"data":{"challenge":"x"}}');
    });
    await new Promise<void>((resolve) => server.listen(0, '127.0.0.1', resolve));
    const { port } = server.address() as AddressInfo;
    try {
      await run(`https://127.0.0.1:${port}`);
    } finally {
      server.closeAllConnections();
      await new Promise((resolve) => server.close(resolve));
    }
  }

  test('the member is known by the CA and the name that were given', async () => {
    await withMember(false, async (address) => {
      const client = createJoinClient();
      const { certificatePem: caCert } = own;
      const serverName = 'baobench-cluster';
      const ask = (tls: JoinPeer['tls']): Promise<unknown> =>
        client.challenge(peer(address, tls), {});
      expect(await ask({ caCert, serverName })).toEqual({ challenge: 'x' });
      await expect(ask({ serverName })).rejects.toThrow('self-signed certificate');
      await expect(ask({ caCert: foreign.certificatePem, serverName })).rejects.toThrow(
        'is not reachable',
      );
      await expect(ask({ caCert })).rejects.toThrow("does not match certificate's altnames");
    });
  });

  test('a joiner shows its own certificate where one is wanted', async () => {
    await withMember(true, async (address) => {
      const client = createJoinClient();
      const { certificatePem, privateKeyPem: clientKey } = own;
      const known = { caCert: certificatePem, serverName: 'baobench-cluster' };
      await expect(client.challenge(peer(address, known), {})).rejects.toThrow('is not reachable');
      const shown = { ...known, clientCert: certificatePem, clientKey };
      expect(await client.challenge(peer(address, shown), {})).toEqual({ challenge: 'x' });
    });
  });

  test('what cannot be used is told before anybody is asked', () => {
    const { certificatePem: clientCert, privateKeyPem: clientKey } = own;
    expect(joinTlsComplaint({})).toBeUndefined();
    expect(joinTlsComplaint({ caCert: clientCert, clientCert, clientKey })).toBeUndefined();
    expect(joinTlsComplaint({ caCert: 'hello' })).toMatch('not a PEM certificate');
    expect(joinTlsComplaint({ clientCert })).toMatch('belong together');
    const other = foreign.privateKeyPem;
    expect(joinTlsComplaint({ clientCert, clientKey: other })).toMatch('cannot be used');
  });
});
