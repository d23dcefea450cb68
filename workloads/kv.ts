/** The operations on a kv version 1 mount, from which the kv workloads are mixed. */

import { keyName, valueBody, type Operation, type Row, type Setting } from './workload.ts';

export const KV_V1_MOUNT = { type: 'kv', options: { version: '1' } };

/** Keys per folder of the list workload. */
export const KEYS_PER_FOLDER = 100;

export function kvRead(weight: number): Operation {
  return {
    name: 'read',
    weight,
    writes: false,
    request: (setting, row) => ({
      method: 'GET',
      path: kvPath(setting, row),
      headers: headersOf(setting.readHeaders, row),
      body: undefined,
    }),
    // Another key's value would be a grave fault; an older value of this key is staleness.
    verify: (_setting, row, status, body) =>
      status === 200 && body.includes(`"key":"${keyName(row.key)}"`),
  };
}

export function kvWrite(weight: number): Operation {
  return {
    name: 'write',
    weight,
    writes: true,
    request: (setting, row) => ({
      method: 'POST',
      path: kvPath(setting, row),
      headers: headersOf(setting.writeHeaders, row),
      body: valueBody(setting, row),
    }),
    verify: (_setting, _row, status) => status === 204,
  };
}

/** Lists the folder of a key; OpenBao's own clients spell LIST as a query. */
export function kvList(weight: number): Operation {
  return {
    name: 'list',
    weight,
    writes: false,
    request: (setting, row) => ({
      method: 'GET',
      path: `/v1/${setting.mountPath}/${folderName(row.key)}?list=true`,
      headers: headersOf(setting.readHeaders, row),
      body: undefined,
    }),
    verify: (_setting, row, status, body) =>
      status === 200 && body.includes(`"${keyName(row.key)}"`),
  };
}

/** Returns the request that stores a key in its folder, for the list workload's preload. */
export function kvPath(setting: Setting, row: Row): string {
  return `/v1/${setting.mountPath}/${folderName(row.key)}/${keyName(row.key)}`;
}

function folderName(key: number): string {
  return `f${String(Math.floor(key / KEYS_PER_FOLDER)).padStart(4, '0')}`;
}

export function headersOf(lists: readonly (readonly string[])[], row: Row): readonly string[] {
  return lists[row.key % lists.length] ?? [];
}
