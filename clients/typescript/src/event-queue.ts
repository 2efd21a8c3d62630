// The order of events. `sync` returns each thing once, sorted by its last change, which isn't the order in which things
// happened. The queue collects the events of a catch-up and emits them in the order that an application expects.

import type { Emitter, Events } from './events.js';

interface QueuedEvent {
  name: keyof Events;
  emit: () => void;
  /** The place of a new message in its conversation, known when the queue is released. */
  order: () => number;
}

/** Emits events at once, or collects them and emits them in order. */
export class EventQueue {
  readonly #emitter: Emitter;
  #collected: QueuedEvent[] | undefined;

  constructor(emitter: Emitter) {
    this.#emitter = emitter;
  }

  emit<Name extends keyof Events>(name: Name, payload: Events[Name], order: () => number = () => 0): void {
    const event: QueuedEvent = { name, order, emit: () => this.#emitter.emit(name, payload) };
    if (this.#collected) this.#collected.push(event);
    else event.emit();
  }

  /** Starts to collect events instead of emitting them. */
  collect(): void {
    this.#collected ??= [];
  }

  /** Emits the collected events: new conversations, then new messages in their order, then all other changes. */
  release(): void {
    const collected = this.#collected ?? [];
    const events = collected.map((event) => ({ ...event, rank: rankOf(event.name), order: event.order() }));
    this.#collected = undefined;
    events.sort((a, b) => a.rank - b.rank || (a.order === b.order ? 0 : a.order - b.order));
    for (const { emit } of events) emit();
  }

  /** Discards the collected events. */
  discard(): void {
    this.#collected = undefined;
  }
}

function rankOf(name: keyof Events): number {
  if (name === 'conversation:created') return 0;
  return name === 'message:new' || name === 'mention:new' ? 1 : 2;
}
