import { setImmediate as turn } from 'node:timers/promises';

import { describe, expect, test } from 'vitest';

import type { LogicalResponse } from '../core/backend.ts';
import { ServerError, standbyPleaseForwardError, type ErrorCode } from '../errors.ts';
import { EMPTY_BODY } from './exchange.ts';
import type { HandlerSettings } from './request-handler.ts';
import { ACTIVE, ask, header, indexOf, Node } from './testing/node.ts';

describe('answers', () => {
  test('the envelope, byte for byte', async () => {
    const answer = await ask(new Node().handler(), 'GET', '/v1/secret/a');
    expect(answer).toEqual({
      status: 200,
      headers: [
        'Cache-Control',
        'no-store',
        'Content-Type',
        'application/json',
        'X-Vault-Raft-Node-ID',
        'n1',
        'X-Vault-Index',
        indexOf(10),
      ],
      body: '{"request_id":"id-1","lease_id":"","renewable":false,"lease_duration":0,"data":{"a":1},"wrap_info":null,"warnings":null,"auth":null}\n',
    });
  });

  test.each<[string, string, LogicalResponse | undefined, number, unknown]>([
    ['GET', 'secret/a', undefined, 404, { errors: [] }],
    ['LIST', 'secret', undefined, 404, { errors: [] }],
    ['LIST', 'secret', { data: { keys: [] } }, 404, { errors: [] }],
    ['SCAN', 'secret', undefined, 204, undefined],
    ['POST', 'secret/a', undefined, 204, undefined],
    ['POST', 'secret/a', {}, 204, undefined],
    ['DELETE', 'secret/a', undefined, 204, undefined],
    [
      'GET',
      'secret/a',
      { dataJson: '{"b":[2]}' },
      200,
      expect.objectContaining({ data: { b: [2] } }),
    ],
    ['GET', 'a', { data: null, status: 404 }, 404, expect.objectContaining({ data: null })],
    ['GET', 'a', { warnings: ['w'] }, 200, expect.objectContaining({ warnings: ['w'] })],
    [
      'GET',
      'a',
      { data: {}, leaseDurationSeconds: 7 },
      200,
      expect.objectContaining({ lease_duration: 7 }),
    ],
    [
      'GET',
      'sys/mounts',
      { data: { 'a/': { data: 1 }, data: 2 } },
      200,
      expect.objectContaining({ 'a/': { data: 1 }, data: { 'a/': { data: 1 }, data: 2 } }),
    ],
  ])('%s %s: %j', async (method, path, response, status, body) => {
    const node = new Node();
    node.respond = () => response;
    const answer = await ask(node.handler(), method, `/v1/${path}`, { body: '{}' });
    expect(answer.status).toBe(status);
    expect(answer.body.length === 0 ? undefined : JSON.parse(String(answer.body))).toEqual(body);
  });

  test('auth in OpenBao’s order', async () => {
    const node = new Node();
    node.respond = () => ({
      auth: {
        clientToken: 's.x',
        accessor: 'acc',
        policies: ['default'],
        tokenPolicies: ['default'],
        metadata: null,
        leaseDurationSeconds: 60,
        renewable: true,
        entityId: '',
        tokenType: 'service',
        orphan: false,
        numUses: 0,
      },
    });
    const { body } = await ask(node.handler(), 'POST', '/v1/auth/token/create', { body: '{}' });
    expect(body).toContain(
      '"data":null,"wrap_info":null,"warnings":null,"auth":{"client_token":"s.x","accessor":"acc","policies":["default"],"token_policies":["default"],"metadata":null,"lease_duration":60,"renewable":true,"entity_id":"","token_type":"service","orphan":false,"mfa_requirement":null,"num_uses":0}}',
    );
  });

  test('a raw answer has no envelope', async () => {
    const node = new Node();
    node.respond = () => ({ raw: { contentType: 'text/plain', body: 'metrics' } });
    const answer = await ask(node.handler(), 'GET', '/v1/sys/metrics');
    expect([answer.status, header(answer, 'Content-Type'), answer.body]).toEqual([
      200,
      'text/plain',
      'metrics',
    ]);
  });

  test.each<[ErrorCode, number, string | undefined]>([
    ['invalid-request', 400, undefined],
    ['permission-denied', 403, undefined],
    ['unsupported-path', 404, undefined],
    ['unsupported-operation', 405, undefined],
    ['conflict', 409, undefined],
    ['too-large', 413, undefined],
    ['unsupported-media-type', 415, undefined],
    ['too-many-requests', 429, '1'],
    ['sealed', 503, undefined],
    ['overloaded', 503, '1'],
    ['no-leader', 503, '1'],
    ['outcome-unknown', 504, undefined],
    ['refused', 500, undefined],
    ['internal', 500, undefined],
  ])('%s is %i', async (code, status, retryAfter) => {
    const node = new Node();
    node.respond = () => {
      throw new ServerError(code, 'why');
    };
    const answer = await ask(node.handler(), 'GET', '/v1/secret/a');
    expect(answer.status).toBe(status);
    expect(header(answer, 'Retry-After')).toBe(retryAfter);
    expect(header(answer, 'X-Vault-Index')).toBe(undefined);
    expect(JSON.parse(String(answer.body))).toEqual({ errors: ['why'] });
  });

  test('a bug is reported, and its message kept back', async () => {
    const node = new Node();
    const bug = new TypeError('secret value');
    node.respond = () => {
      throw bug;
    };
    const answer = await ask(node.handler(), 'GET', '/v1/secret/a');
    expect(answer.status).toBe(500);
    expect(JSON.parse(String(answer.body))).toEqual({ errors: ['internal error'] });
    expect(node.internalErrors).toEqual([bug]);
  });

  test('what the core is asked', async () => {
    const node = new Node();
    const handler = node.handler();
    const headers = ['X-Vault-Token', 's.t', 'X-Vault-Namespace', 'team', 'X-Vault-Wrap-TTL', '1m'];
    const answer = await ask(handler, 'PUT', '/v1/secret/a', { headers, body: '{"b":2}' });
    await ask(handler, 'GET', '/v1/secret?list=true&after=x');
    expect(node.calls).toMatchObject([
      {
        operation: 'update',
        path: 'secret/a',
        namespacePath: 'team/',
        data: { b: 2 },
        clientToken: 's.t',
        remoteAddress: '10.0.0.9',
        forwarded: false,
        wrapTtlSeconds: 60,
      },
      { operation: 'list', path: 'secret/', namespacePath: '', clientToken: '' },
    ]);
    expect(node.calls[1]?.data).toEqual({ after: 'x' });
    expect(header(answer, 'X-Vault-Namespace')).toBe('team/');
  });
});

describe('the node’s own routes', () => {
  test.each<[string, string, Partial<Node>, number, object]>([
    ['GET', 'sys/init', {}, 200, { initialized: true }],
    ['GET', 'sys/health', {}, 200, { initialized: true, sealed: false, standby: false }],
    ['GET', 'sys/health', { isStandby: true }, 429, { standby: true }],
    ['GET', 'sys/health?standbyok=true', { isStandby: true }, 200, { standby: true }],
    ['GET', 'sys/health?standbyok', { isStandby: true }, 429, {}],
    ['GET', 'sys/health?standbyok=maybe', { isStandby: true }, 400, {}],
    ['GET', 'sys/health?perfstandbyok=true', { isStandby: true }, 429, {}],
    ['GET', 'sys/health?activecode=', {}, 400, {}],
    ['GET', 'sys/health?activecode=99', {}, 400, {}],
    ['GET', 'sys/health?standbycode=299', { isStandby: true }, 299, {}],
    ['GET', 'sys/health', { isSealed: true }, 503, { sealed: true }],
    ['GET', 'sys/health?sealedcode=204', { isSealed: true }, 204, {}],
    ['GET', 'sys/health', { isInitialized: false, isSealed: true }, 501, {}],
    ['GET', 'sys/health?uninitcode=200', { isInitialized: false, isSealed: true }, 200, {}],
    ['GET', 'sys/health?activecode=soon', {}, 400, {}],
    ['GET', 'sys/leader', {}, 200, { leader_address: 'http://n2:8200', raft_applied_index: 10 }],
    ['GET', 'sys/leader', { isSealed: true }, 503, { errors: ['Vault is sealed'] }],
    [
      'GET',
      'sys/seal-status',
      { isSealed: true },
      200,
      { t: 2, n: 3, progress: 1, sealed: true, storage_type: 'raft' },
    ],
    ['DELETE', 'sys/init', {}, 405, {}],
    ['GET', 'sys/unseal', {}, 405, {}],
  ])('%s %s of %j', async (method, path, state, status, body) => {
    const node = Object.assign(new Node(), state);
    const answer = await ask(node.handler(), method, `/v1/${path}`);
    expect(answer.status).toBe(status);
    expect(JSON.parse(String(answer.body))).toMatchObject(body);
    expect(node.calls).toEqual([]);
  });

  test('HEAD health has no body', async () => {
    const answer = await ask(new Node().handler(), 'HEAD', '/v1/sys/health');
    expect([answer.status, answer.body.length]).toEqual([200, 0]);
  });

  test.each<[string, string, number, object]>([
    [
      'sys/init',
      '{"secret_shares":1,"secret_threshold":1}',
      200,
      { keys: ['0102'], keys_base64: ['AQI='], root_token: 's.root' },
    ],
    ['sys/init', '{"secret_shares":"1"}', 400, {}],
    ['sys/unseal', '{"key":"0102"}', 200, { progress: 0 }],
    ['sys/unseal', '{"key":"AQI="}', 200, { progress: 0 }],
    ['sys/unseal', '{"reset":true}', 200, { progress: 0 }],
    ['sys/unseal', '{"key":"*"}', 400, {}],
    ['sys/unseal', '{}', 400, {}],
    ['sys/unseal', '{', 400, {}],
    ['sys/storage/raft/join', '{"leader_api_addr":"http://n2:8200"}', 200, { joined: true }],
    ['sys/storage/raft/join', '{"leader_api_addr":"n2"}', 400, {}],
    [
      'sys/storage/raft/join',
      '{"leader_api_addr":"https://n2:8200","retry":true,"leader_tls_servername":"n2"}',
      200,
      { joined: false },
    ],
    [
      'sys/storage/raft/join',
      '{"leader_api_addr":"https://n2:8200","leader_ca_cert":"nonsense"}',
      400,
      { errors: ['leader_ca_cert is not a PEM certificate'] },
    ],
    ['sys/storage/raft/join', '{"leader_api_addr":"https://n2:8200","leader_ca_cert":1}', 400, {}],
    ['sys/storage/raft/join', '{"auto_join":"provider=aws"}', 400, {}],
  ])('PUT %s %s', async (path, body, status, expected) => {
    const answer = await ask(new Node().handler(), 'PUT', `/v1/${path}`, { body });
    expect(answer.status).toBe(status);
    expect(JSON.parse(String(answer.body))).toMatchObject(expected);
  });
});

describe('forwarding', () => {
  const standby = (): Node => {
    const node = new Node();
    node.isStandby = true;
    node.respond = () => {
      throw standbyPleaseForwardError();
    };
    return node;
  };

  test('the original request, and the answer as it came', async () => {
    const node = standby();
    const headers = ['X-Vault-Token', 's.t', 'Connection', 'close', 'X-Forwarded-For', '1.2.3.4'];
    const body = '{"a":1}';
    const answer = await ask(node.handler(), 'PUT', '/v1/secret/a?x=1', { headers, body });
    expect(answer).toEqual({
      status: 200,
      headers: ['X-Vault-Raft-Node-ID', 'n2'],
      body: Buffer.from('from the active node'),
    });
    expect(node.forwarded).toEqual([
      {
        address: 'n2:8201',
        request: {
          id: 'id-1',
          method: 'PUT',
          url: '/v1/secret/a?x=1',
          headers: expect.objectContaining({
            'X-Vault-Token': 's.t',
            'X-Forwarded-For': '1.2.3.4',
          }),
          body: Buffer.from(body),
          remoteAddress: '10.0.0.9',
          stamp: expect.objectContaining({ sequence: 1, isRepeated: false }),
        },
      },
    ]);
    expect(Object.keys(node.forwarded[0]?.request.headers ?? {})).not.toContain('Connection');
  });

  test.each<[string, Partial<HandlerSettings>, number[]]>([
    ['PUT', {}, [12]],
    ['DELETE', {}, [12]],
    ['GET', {}, []],
    ['LIST', {}, []],
    ['PUT', { awaitForwardedWrites: false }, []],
    ['PUT', { disableStandbyReads: true }, []],
  ])('a %s with %j waits for %j here', async (method, settings, waits) => {
    const node = standby();
    await ask(node.handler(settings), method, '/v1/secret/a', { body: '{}' });
    expect(node.waits).toEqual(waits);
  });

  test('without standby reads nothing is handled here but the node’s own', async () => {
    const node = Object.assign(new Node(), { isStandby: true });
    const handler = node.handler({ disableStandbyReads: true });
    await ask(handler, 'GET', '/v1/secret/a');
    await ask(handler, 'GET', '/v1/sys/health');
    await ask(handler, 'GET', '/v1/s%79s/metrics');
    expect(node.forwarded.map(({ request }) => request.url)).toEqual(['/v1/secret/a']);
    expect(node.calls.map(({ path }) => path)).toEqual(['sys/metrics']);
  });

  test('stepping down is for the active node, sealing for this one', async () => {
    const node = Object.assign(new Node(), { isStandby: true });
    await ask(node.handler(), 'PUT', '/v1/sys/step-down');
    await ask(node.handler(), 'PUT', '/v1/sys/seal');
    // Unstamped: that leadership moved is written nowhere, so it must not be asked for twice.
    expect(node.forwarded.map(({ request }) => [request.url, request.stamp])).toEqual([
      ['/v1/sys/step-down', undefined],
    ]);
    expect(node.calls.map(({ path }) => path)).toEqual(['sys/seal']);
  });

  test('what concerns this node only is never forwarded', async () => {
    const answer = await ask(standby().handler(), 'GET', '/v1/sys/metrics');
    expect(answer.status).toBe(400);
    expect(answer.body).toContain('cannot forward local-only request');
  });

  test('a redirect on request, with method and query intact', async () => {
    const headers = ['X-Vault-No-Request-Forwarding', '1'];
    const node = standby();
    const answer = await ask(node.handler(), 'PUT', '/v1/secret/a?b=1', { headers, body: '{}' });
    expect([answer.status, header(answer, 'Location')]).toEqual([
      307,
      'http://n2:8200/v1/secret/a?b=1',
    ]);
    expect(node.forwarded).toEqual([]);
  });

  test('a redirect needs a leader', async () => {
    const node = Object.assign(standby(), { leader: undefined });
    const headers = ['X-Vault-No-Request-Forwarding', '1'];
    const answer = await ask(node.handler(), 'PUT', '/v1/a', { headers });
    expect([answer.status, header(answer, 'Retry-After')]).toEqual([503, '1']);
  });

  test('waits for a leader, and asks it as soon as there is one', async () => {
    const node = standby();
    node.leader = undefined;
    const pending = ask(node.handler(), 'PUT', '/v1/secret/a', { body: '{}' });
    while (node.leaderListeners.size === 0) await turn();
    node.leader = ACTIVE;
    for (const listener of node.leaderListeners) listener();
    expect((await pending).status).toBe(200);
    expect(node.leaderListeners.size).toBe(0);
  });

  test('a node that becomes active meanwhile handles it itself', async () => {
    const node = standby();
    node.forward = () => {
      node.isStandby = false;
      node.respond = () => ({ data: { own: true } });
      throw new ServerError('no-leader', 'connection refused');
    };
    const answer = await ask(node.handler(), 'PUT', '/v1/secret/a', { body: '{}' });
    expect([answer.status, node.forwarded.length]).toEqual([200, 1]);
    expect(answer.body).toContain('"own":true');
  });

  test('the active node answers as if asked directly, and says how far it was', async () => {
    const node = new Node();
    node.respond = () => ({ data: { keys: ['a'] } });
    const response = await node.handler().serveForwarded({
      id: 'id-7',
      method: 'LIST',
      url: '/v1/secret',
      headers: { 'x-vault-token': 's.t' },
      body: EMPTY_BODY,
      remoteAddress: '10.0.0.9',
    });
    expect(response).toMatchObject({
      status: 200,
      index: 10,
      headers: { 'X-Vault-Raft-Node-ID': 'n1', 'X-Vault-Index': indexOf(10) },
    });
    expect(node.calls).toMatchObject([{ id: 'id-7', operation: 'list', forwarded: true }]);
  });

  test.each<[ErrorCode, boolean, ErrorCode | number]>([
    ['invalid-request', false, 400],
    ['invalid-request', true, 400],
    ['response-lost', true, 504],
    ['overloaded', false, 503],
    ['overloaded', true, 'outcome-unknown'],
    ['transaction-conflict', true, 'outcome-unknown'],
    ['no-leader', false, 'no-leader'],
    ['no-leader', true, 'outcome-unknown'],
    ['outcome-unknown', false, 'outcome-unknown'],
    ['session-expired', false, 'session-expired'],
  ])('%s of a request that is repeated (%s) is handed back as %s', async (code, isRepeated, as) => {
    const node = new Node();
    node.respond = () => {
      throw new ServerError(code, 'why');
    };
    const stamp = { session: 's', openedIndex: 0, sequence: 1, acknowledgedBelow: 1, isRepeated };
    const request = { id: '', method: 'PUT', url: '/v1/a', headers: {}, remoteAddress: '', stamp };
    const fate = await node
      .handler()
      .serveForwarded({ ...request, body: EMPTY_BODY })
      .then(
        ({ status }) => status,
        (error: ServerError) => error.code,
      );
    expect(fate).toBe(as);
    expect(node.calls).toMatchObject([{ stamped: { stamp: { sequence: 1 }, isRepeated } }]);
  });

  test.each<Partial<Node>>([{ isStandby: true }, { isSealed: true }])(
    'a node with %j takes no forwarded request',
    async (state) => {
      const node = Object.assign(new Node(), state);
      const request = { id: '', method: 'GET', url: '/v1/a', headers: {}, remoteAddress: '' };
      await expect(
        node.handler().serveForwarded({ ...request, body: EMPTY_BODY }),
      ).rejects.toMatchObject({ code: 'no-leader' });
      expect(node.calls).toEqual([]);
    },
  );
});
