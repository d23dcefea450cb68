import { describe } from 'vitest';

import { createMemoryStore } from './memory.ts';
import { declareStoreContract } from './store.contract.ts';

describe('memory', () => {
  declareStoreContract(async () => createMemoryStore());
});
