// In which order it is told what happened: what an absence brings comes in the order of its last changes, which isn't
// the one in which it happened.

import type { Emitter, Events } from './events.js';

interface Told {
  name: keyof Events;
  tell: () => void;
  /** Where the message that is new is in its conversation, by when it is told. */
  order: () => number;
}

/** Tells at once, or gathers and tells in order. */
export class Telling {
  readonly #emitter: Emitter;
  #gathered: Told[] | undefined;

  constructor(emitter: Emitter) {
    this.#emitter = emitter;
  }

  tell<Name extends keyof Events>(name: Name, payload: Events[Name], order: () => number = () => 0): void {
    const told: Told = { name, order, tell: () => this.#emitter.emit(name, payload) };
    if (this.#gathered) this.#gathered.push(told);
    else told.tell();
  }

  /** From now on it waits. */
  gather(): void {
    this.#gathered ??= [];
  }

  /** Tells what has waited: new conversations, new messages by their place, and then what became of them. */
  release(): void {
    const told = (this.#gathered ?? []).map((one) => ({ ...one, rank: rank(one.name), order: one.order() }));
    this.#gathered = undefined;
    told.sort((a, b) => a.rank - b.rank || (a.order === b.order ? 0 : a.order - b.order));
    for (const { tell } of told) tell();
  }

  /** What has waited is never told. */
  drop(): void {
    this.#gathered = undefined;
  }
}

function rank(name: keyof Events): number {
  if (name === 'conversation:created') return 0;
  return name === 'message:new' || name === 'mention:new' ? 1 : 2;
}
