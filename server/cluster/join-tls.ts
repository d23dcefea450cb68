/** How a joiner knows the member it asks, and is known by it: the `leader_*` settings of a join. */

import { createSecureContext } from 'node:tls';
import { Agent } from 'undici';
import type { JoinPeer } from '../core/ports.ts';

/** Says what is wrong with PEM texts that somebody has given, or nothing. */
export function joinTlsComplaint({
  caCert,
  clientCert,
  clientKey,
}: JoinPeer['tls']): string | undefined {
  if ((clientCert === undefined) !== (clientKey === undefined)) {
    return 'leader_client_cert and leader_client_key belong together';
  }
  try {
    // A CA that is no certificate is otherwise not noticed before the first connection fails.
    if (caCert !== undefined && !caCert.includes('-----BEGIN CERTIFICATE-----')) {
      return 'leader_ca_cert is not a PEM certificate';
    }
    createSecureContext({ ca: caCert, cert: clientCert, key: clientKey });
    return undefined;
  } catch (error) {
    const reason = error instanceof Error ? error.message : String(error);
    return `leader_ca_cert, leader_client_cert or leader_client_key cannot be used: ${reason}`;
  }
}

/** For one exchange; to be closed after it. */
export function createJoinAgent({ tls }: JoinPeer): Agent {
  const { caCert, clientCert, clientKey, serverName } = tls;
  return new Agent({
    connect: {
      ...(caCert === undefined ? {} : { ca: caCert }),
      ...(clientCert === undefined ? {} : { cert: clientCert }),
      ...(clientKey === undefined ? {} : { key: clientKey }),
      ...(serverName === undefined ? {} : { servername: serverName }),
    },
  });
}
