/** The `retry_join` stanzas of the configuration, with the certificates that they name read. */

import { readFileSync } from 'node:fs';

import { joinTlsComplaint } from './cluster/join-tls.ts';
import type { Config, RetryJoin } from './config.ts';
import type { JoinPeer } from './core/ports.ts';
import { ServerError } from './errors.ts';

/** Throws before a node is started whose configuration could never let it join. */
export function retryJoinPeers({ raft }: Config): JoinPeer[] {
  return raft.retryJoin.map((stanza) => {
    const tls = {
      caCert: pem(stanza, 'leader_ca_cert'),
      clientCert: pem(stanza, 'leader_client_cert'),
      clientKey: pem(stanza, 'leader_client_key'),
      serverName: stanza.leader_tls_servername,
    };
    const complaint = joinTlsComplaint(tls);
    if (complaint !== undefined) {
      throw new ServerError(
        'invalid-request',
        `retry_join ${stanza.leader_api_addr}: ${complaint}`,
      );
    }
    return { apiAddress: stanza.leader_api_addr, tls };
  });
}

/** A file counts before a text, as in OpenBao (internal/physical/raft/raft.go, parseTLSInfo). */
function pem(
  stanza: RetryJoin,
  name: 'leader_ca_cert' | 'leader_client_cert' | 'leader_client_key',
): string | undefined {
  const file = stanza[`${name}_file`];
  if (file === undefined || file === '') return stanza[name] === '' ? undefined : stanza[name];
  try {
    return readFileSync(file, 'utf8');
  } catch (error) {
    const reason = error instanceof Error ? error.message : String(error);
    throw new ServerError('invalid-request', `retry_join: cannot read ${name}_file: ${reason}`, {
      cause: error,
    });
  }
}
