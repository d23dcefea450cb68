import { mkdtemp, rm, writeFile } from 'node:fs/promises';
import { tmpdir } from 'node:os';
import { join } from 'node:path';

import { describe, expect, test } from 'vitest';

import { createClusterCredentials } from './cluster/credentials.ts';
import { parseConfig } from './config.ts';
import { replicaSettings } from './replica/settings.ts';
import { retryJoinPeers } from './retry-join.ts';
import { ENTRY_BYTES_MAX } from './storage/entry-codec.ts';

const MINIMAL = `
storage "raft" {
  path = "/var/lib/bao"
}
listener "tcp" {
  tls_disable = true
}
`;

test('defaults are those of OpenBao', () => {
  expect(parseConfig(MINIMAL, 'a.hcl')).toMatchObject({
    disable_standby_reads: false,
    cache_size: 131_072,
    default_lease_ttl: 768 * 3_600_000,
    clusterAddress: undefined,
    ignored: [],
    raft: {
      path: '/var/lib/bao',
      node_id: undefined,
      max_entry_size: 1_048_576,
      trailing_logs: 10_240,
      trailing_bytes: replicaSettings().trailingBytesMax,
      retry_join_as_non_voter: false,
      retryJoin: [],
      autopilot_server_stabilization_time: 10_000,
      commit_notify: 'push',
      commit_timeout: 50,
      leader_lease: 'off',
      fsm_mode: 'overlay',
      log_thread: 'worker',
      raft_threads: 'inline',
      max_pending_writes: 4_096,
      snapshot_rate: replicaSettings().snapshotBytesPerSecond,
    },
    listener: {
      host: '127.0.0.1',
      port: 8200,
      clusterHost: '127.0.0.1',
      clusterPort: 8201,
      tls: undefined,
      max_request_size: 33_554_432,
      consistency_fail_status: 429,
      consistency_fallback_behavior: 'fail',
      consistency_default: 'stale',
      consistency_max_staleness: 0,
      consistency_read_wait: 2_000,
    },
  });
});

test('the same in HCL and in JSON', () => {
  const hcl = `
    api_addr = "https://10.0.0.1:8200"
    cluster_addr = "https://10.0.0.1:8201"
    disable_standby_reads = true
    default_lease_ttl = "1h30m"
    commit_timeout = "20ms"
    ui = true
    storage "raft" {
      path = "/data"
      node_id = "n1"
      commit_notify = "piggyback"
    }
    listener "tcp" {
      address = "[::1]:8300"
      cluster_address = "10.0.0.1:8400"
      tls_cert_file = "/c.pem"
      tls_key_file = "/k.pem"
      consistency_max_index_wait = 2
      consistency_fail_status = 412
      telemetry {
        unauthenticated_metrics_access = true
      }
    }`;
  const json = JSON.stringify({
    api_addr: 'https://10.0.0.1:8200',
    cluster_addr: 'https://10.0.0.1:8201',
    disable_standby_reads: true,
    default_lease_ttl: '1h30m',
    commit_timeout: '20ms',
    ui: true,
    storage: { raft: { path: '/data', node_id: 'n1', commit_notify: 'piggyback' } },
    listener: {
      tcp: {
        address: '[::1]:8300',
        cluster_address: '10.0.0.1:8400',
        tls_cert_file: '/c.pem',
        tls_key_file: '/k.pem',
        consistency_max_index_wait: 2,
        consistency_fail_status: 412,
        telemetry: { unauthenticated_metrics_access: true },
      },
    },
  });
  const config = parseConfig(hcl, 'a.hcl');
  expect(parseConfig(json, 'a.json')).toEqual(config);
  expect(config).toMatchObject({
    clusterAddress: '10.0.0.1:8201',
    default_lease_ttl: 5_400_000,
    ignored: ['ui'],
    raft: { commit_notify: 'piggyback', commit_timeout: 20 },
    listener: {
      host: '::1',
      port: 8300,
      clusterHost: '10.0.0.1',
      clusterPort: 8400,
      tls: { certFile: '/c.pem', keyFile: '/k.pem' },
      consistency_max_index_wait: 2000,
      consistency_fail_status: 412,
      unauthenticated_metrics_access: true,
    },
  });
});

const LISTENER = 'listener "tcp" { tls_disable = true }';

test('max_entry_size goes as far as the log can write, and no further', () => {
  const source = (bytes: number): string =>
    `storage "raft" {\n path = "/d"\n max_entry_size = ${bytes}\n}\n${LISTENER}`;
  expect(parseConfig(source(ENTRY_BYTES_MAX), 'a.hcl').raft.max_entry_size).toBe(ENTRY_BYTES_MAX);
  expect(() => parseConfig(source(ENTRY_BYTES_MAX + 1), 'a.hcl')).toThrow(
    'a.hcl:3:2: max_entry_size: expected an integer from',
  );
});

test('retry_join stanzas, one or several, in HCL and in JSON', () => {
  const listener = 'listener "tcp" { tls_disable = true }';
  const hcl = `
    storage "raft" {
      path = "/d"
      retry_join_as_non_voter = true
      retry_join { leader_api_addr = "https://a:8200/" leader_ca_cert_file = "/ca.pem" }
      retry_join { leader_api_addr = "http://b:8200" leader_tls_servername = "bao" }
    }
    ${listener}`;
  const { raft } = parseConfig(hcl, 'x.hcl');
  expect(raft.retry_join_as_non_voter).toBe(true);
  expect(raft.retryJoin).toMatchObject([
    { leader_api_addr: 'https://a:8200', leader_ca_cert_file: '/ca.pem' },
    { leader_api_addr: 'http://b:8200', leader_tls_servername: 'bao' },
  ]);
  const json = JSON.stringify({
    storage: { raft: { path: '/d', retry_join: [{ leader_api_addr: 'http://b:8200' }] } },
    listener: { tcp: { tls_disable: true } },
  });
  expect(parseConfig(json, 'x.json').raft.retryJoin).toMatchObject([
    { leader_api_addr: 'http://b:8200' },
  ]);
  for (const [stanza, complaint] of [
    ['', 'expected an address'],
    ['leader_api_addr = "b:8200"', 'expected an address'],
    ['auto_join = "provider=aws"', 'unknown key "auto_join"'],
  ]) {
    const text = `storage "raft" {\n path = "/d"\n retry_join { ${stanza} }\n}\n${listener}`;
    expect(() => parseConfig(text, 'x.hcl')).toThrow(complaint);
  }
});

test('certificates of retry_join are read, the file before the text, or refused', async () => {
  const directory = await mkdtemp(join(tmpdir(), 'retry-join-'));
  const { certificatePem } = await createClusterCredentials();
  const file = join(directory, 'ca.pem');
  await writeFile(file, certificatePem);
  const peersOf = (stanza: string): unknown =>
    retryJoinPeers(
      parseConfig(
        `storage "raft" { path = "/d"\n retry_join { leader_api_addr = "https://a:1"\n${stanza} } }
        listener "tcp" { tls_disable = true }`,
        'x.hcl',
      ),
    );
  try {
    expect(peersOf(`leader_ca_cert_file = "${file}"\n leader_ca_cert = "nonsense"`)).toEqual([
      { apiAddress: 'https://a:1', tls: { caCert: certificatePem } },
    ]);
    expect(() => peersOf('leader_ca_cert_file = "/nowhere.pem"')).toThrow('ENOENT');
    expect(() => peersOf('leader_ca_cert = "nonsense"')).toThrow('not a PEM certificate');
    expect(() => peersOf('leader_client_key = "k"')).toThrow('belong together');
  } finally {
    await rm(directory, { recursive: true });
  }
});

describe('mistakes name their place', () => {
  test.each([
    {
      source: `storage "raft" { path = "/d" }\nlistener "tcp" {\n  tls_disable = true\n  consistency_default = "bounded"\n}`,
      message: 'a.hcl:4:3: consistency_default: bounded needs consistency_max_staleness',
    },
    ...['узел', 'a\\nb', 'a b', ''].map((id) => ({
      source: `storage "raft" {\n  path = "/d"\n  node_id = "${id}"\n}\n${LISTENER}`,
      message: 'a.hcl:3:3: node_id: expected ASCII characters that can be seen',
    })),
    {
      source: `storage "raft" {\n  path = "/d"\n  node_idd = "a"\n}\n${LISTENER}`,
      message: 'a.hcl:3:3: unknown key "node_idd", did you mean "node_id"?',
    },
    {
      source: `${MINIMAL}\ndisable_standby_read = true`,
      message:
        'a.hcl:9:1: unknown key "disable_standby_read", did you mean "disable_standby_reads"?',
    },
    { source: `${MINIMAL}\nfrobnicate = 1`, message: 'a.hcl:9:1: unknown key "frobnicate"' },
    {
      source: `{\n  "storage": {"raft": {"path": "/d"}},\n  "listner": {}\n}`,
      message: 'a.hcl:3:3: unknown key "listner", did you mean "listener"?',
    },
    {
      source: `storage "raft" { path = "/d" }\nlistener "tcp" { adress = "a:1" }`,
      message: 'a.hcl:2:18: unknown key "adress", did you mean "address"?',
    },
    {
      source: `storage "raft" { path = "/d" }\nlistener "tcp" {\n tls_disable = true\n address = "8200" }`,
      message: 'a.hcl:4:2: address: expected an address like "127.0.0.1:8200"',
    },
    {
      source: `storage "raft" { path = "/d" }\nlistener "tcp" {}`,
      message:
        'a.hcl:2:1: listener "tcp" needs tls_cert_file and tls_key_file, or tls_disable = true',
    },
    { source: LISTENER, message: 'a.hcl:1:1: a storage "raft" block is missing' },
    {
      source: `storage "file" { path = "/d" }\n${LISTENER}`,
      message: 'a.hcl:1:1: storage "file" is not supported, only "raft"',
    },
    {
      source: `storage "raft" {}\n${LISTENER}`,
      message: 'a.hcl:1:1: storage "raft" needs a path',
    },
    {
      source: `storage "raft" {\n path = "/d"\n performance_multiplier = 11 }\n${LISTENER}`,
      message: 'a.hcl:3:2: performance_multiplier: expected an integer from 1 to 10',
    },
    {
      source: `storage "raft" {\n path = "/d"\n commit_notify = "pull" }\n${LISTENER}`,
      message: 'a.hcl:3:2: commit_notify: expected one of push, piggyback',
    },
    {
      source: `storage "raft" {\n path = "/d"\n fsm_mode = "async" }\n${LISTENER}`,
      message: 'a.hcl:3:2: fsm_mode: expected one of sync, overlay',
    },
    {
      source: `storage "raft" {\n path = "/d"\n commit_timeout = "50 years" }\n${LISTENER}`,
      message: 'a.hcl:3:2: commit_timeout: expected a duration like "50ms" or "1h30m"',
    },
    {
      source: `storage "raft" {\n path = "/d"\n commit_timeout = "1h" }\n${LISTENER}`,
      message: 'a.hcl:3:2: commit_timeout: expected a duration from 1 ms to 10000 ms',
    },
    {
      source: `${MINIMAL}disable_cache = "maybe"`,
      message: 'a.hcl:8:1: disable_cache: expected true or false',
    },
    { source: `${MINIMAL}api_addr = 7`, message: 'a.hcl:8:1: api_addr: expected a string' },
    {
      source: `${MINIMAL}api_addr = "10.0.0.1:8200"`,
      message: 'a.hcl:8:1: api_addr: expected an address like "https://10.0.0.1:8200"',
    },
    {
      source: `${MINIMAL}max_lease_ttl = "1h"`,
      message: 'a.hcl:8:1: max_lease_ttl: must not be below default_lease_ttl',
    },
    {
      source: `${MINIMAL}${MINIMAL}`,
      message: 'a.hcl:9:1: more than one storage block',
    },
  ])('$message', ({ source, message }) => {
    expect(() => parseConfig(source, 'a.hcl')).toThrow(
      expect.objectContaining({ name: 'ConfigError', message }),
    );
  });

  test('a syntax error', () => {
    expect(() => parseConfig('storage "raft" {', 'a.hcl')).toThrow(/^a\.hcl:1:17: expected/);
  });
});
