/** Troubles that wait for somebody to come to a certain point of a transfer. */

import type { TransferFault, TransferPoint } from './transfer-plan.ts';

type Armed = { readonly fault: TransferFault; skips: number };

export class TransferFaults<Victim> {
  #armed: Armed[] = [];
  readonly #strike: (victim: Victim, fault: TransferFault) => void;
  readonly #count: (name: string) => void;

  constructor(parts: {
    strike(victim: Victim, fault: TransferFault): void;
    count(name: string): void;
  }) {
    this.#strike = parts.strike;
    this.#count = parts.count;
  }

  arm(fault: TransferFault): void {
    this.#armed.push({ fault, skips: fault.skips });
  }

  disarm(): void {
    this.#armed = [];
  }

  reached(victim: Victim, point: TransferPoint): void {
    if (this.#armed.length === 0) return;
    const position = this.#armed.findIndex(({ fault }) => fault.point === point);
    const armed = this.#armed[position];
    if (armed === undefined) return;
    armed.skips -= 1;
    if (armed.skips >= 0) return;
    this.#armed.splice(position, 1);
    this.#count(`transfer: ${armed.fault.trouble} when ${point}`);
    this.#strike(victim, armed.fault);
  }
}
