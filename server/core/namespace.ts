/**
 * Which namespaces exist. Only the root does so far, but every request, mount, token, and policy
 * passes through here and carries what it gets.
 */

import { ROOT_NAMESPACE } from './backend.ts';
import type { Namespace } from './backend.ts';

export class NamespaceStore {
  /** `path` is what the client sent, with or without slashes at its ends; empty for root. */
  byPath(path: string): Namespace | undefined {
    return path === '' || path === '/' || path === 'root' || path === 'root/'
      ? ROOT_NAMESPACE
      : undefined;
  }

  byId(id: string): Namespace | undefined {
    return id === ROOT_NAMESPACE.id ? ROOT_NAMESPACE : undefined;
  }

  list(): readonly Namespace[] {
    return [ROOT_NAMESPACE];
  }
}
