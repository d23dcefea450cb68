import { createServer } from 'node:http';
import type { AddressInfo } from 'node:net';
import { describe, expect, test } from 'vitest';
import { createJoinClient } from './join.ts';

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
      expect(await client.challenge(address, { node_id: 'n' })).toEqual({ challenge: 'x' });
      expect(await client.answer(`${address}/`, { answer: 'a' })).toEqual({ challenge: 'x' });
    });
    expect(asked).toEqual([
      { url: '/v1/sys/storage/raft/bootstrap/challenge', body: { node_id: 'n' } },
      { url: '/v1/sys/storage/raft/bootstrap/answer', body: { answer: 'a' } },
    ]);
  });

  test('follows a standby to the active node', async () => {
    const ok = { status: 200, body: '{"data":{}}' };
    await withServer([ok], async (active) => {
      const location = `${active}/v1/sys/storage/raft/bootstrap/challenge`;
      await withServer([{ status: 307, body: '', location }], async (standby) => {
        expect(await createJoinClient().challenge(standby, {})).toEqual({});
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
      const asking = createJoinClient().challenge(address, {});
      await expect(asking).rejects.toMatchObject({ code });
      await expect(asking).rejects.toThrow(message);
    });
  });

  test('nobody there, or no address at all', async () => {
    const client = createJoinClient();
    await expect(client.challenge('http://127.0.0.1:1', {})).rejects.toThrow('is not reachable');
    await expect(client.challenge('nonsense', {})).rejects.toMatchObject({
      code: 'invalid-request',
    });
  });
});
