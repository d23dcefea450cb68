/**
 * The one certificate of a cluster. It authenticates nothing but possession: a peer is accepted if
 * it presents exactly this certificate, so neither names nor an authority are needed. The shape is
 * that of OpenBao's cluster certificate (internal/vault/cluster.go: self-signed, ECDSA, both
 * client and server), with P-256 instead of P-521: half the handshake, and no less suited.
 */

import { X509Certificate } from 'node:crypto';
import type { ClusterCredentials } from '../core/ports.ts';

/** Clocks of nodes may differ by so much. */
const NOT_BEFORE_MS = 24 * 3_600_000;
/** 30 years, as OpenBao has it: the cluster outlives no certificate by accident. */
const NOT_AFTER_MS = 262_980 * 3_600_000;
const SERIAL_BYTES = 16;

export async function createClusterCredentials(): Promise<ClusterCredentials> {
  // Loaded on first use: it serves once in the life of a cluster and costs tens of milliseconds.
  await import('reflect-metadata');
  const x509 = await import('@peculiar/x509');
  const algorithm = { name: 'ECDSA', namedCurve: 'P-256', hash: 'SHA-256' };
  const keys = await crypto.subtle.generateKey(algorithm, true, ['sign', 'verify']);
  const now = Date.now();
  // The leading octet keeps the serial positive and of full length (RFC 5280 §4.1.2.2).
  const serial = Buffer.from(crypto.getRandomValues(new Uint8Array(SERIAL_BYTES)));
  serial[0] = 0x40 | ((serial[0] ?? 0) >>> 2);
  const certificate = await x509.X509CertificateGenerator.createSelfSigned({
    serialNumber: serial.toString('hex'),
    name: 'CN=baobench-cluster',
    notBefore: new Date(now - NOT_BEFORE_MS),
    notAfter: new Date(now + NOT_AFTER_MS),
    signingAlgorithm: algorithm,
    keys,
    extensions: [
      new x509.BasicConstraintsExtension(true, 0, true),
      new x509.KeyUsagesExtension(
        x509.KeyUsageFlags.digitalSignature | x509.KeyUsageFlags.keyCertSign,
        true,
      ),
      new x509.ExtendedKeyUsageExtension([
        x509.ExtendedKeyUsage.serverAuth,
        x509.ExtendedKeyUsage.clientAuth,
      ]),
    ],
  });
  const key = Buffer.from(await crypto.subtle.exportKey('pkcs8', keys.privateKey));
  const base64 = key.toString('base64').replace(/(.{64})(?=.)/g, '$1\n');
  return {
    certificatePem: certificate.toString('pem'),
    privateKeyPem: `-----BEGIN PRIVATE KEY-----\n${base64}\n-----END PRIVATE KEY-----\n`,
  };
}

/** The encoded certificate, by which peers recognize each other. */
export function certificateDer(credentials: ClusterCredentials): Buffer {
  return new X509Certificate(credentials.certificatePem).raw;
}
