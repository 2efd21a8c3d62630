// The events that a client emits, and the emitter that calls the application's listeners.

import type { MessagesError } from './errors.js';
import type { Conversation, Message, Presence, ReactionChange, Typing } from './types.js';

/** How a client is connected; `live` means that it has everything and receives what is new. */
export type State = 'connecting' | 'live' | 'offline' | 'closed';

/**
 * The payload of each event. The client emits each change once, however it learns of it: from a delivery, while it
 * catches up, or from the response to a command.
 */
export interface Events {
  /** A message that is newer than the client; a message of this user's once the server has confirmed it. */
  'message:new': Message;
  /** A message has new content. Several edits during an absence are one event. */
  'message:edited': Message;
  /** A message was deleted. */
  'message:deleted': Message;
  /** A message that the client doesn't hold was changed during an absence: the client can't tell how. */
  'message:changed': Message;
  'reaction:added': ReactionChange;
  'reaction:removed': ReactionChange;
  /** A participant, possibly this user on another device, has read up to a `seq`. */
  'messages:read': { conversationId: string; userId: string; lastReadSeq: number };
  'conversation:created': Conversation;
  /** A new message mentions this user. */
  'mention:new': Message;
  'typing:start': Typing;
  'typing:stop': Typing;
  'presence:update': Presence;
  state: State;
  /** Why the client isn't live. Emitted when the reason changes; the client keeps trying. */
  connectionError: MessagesError;
  /** The client has closed itself: the server refuses the token, and the source has no other. */
  error: MessagesError;
  /** The server has another log: the client drops its state and loads everything again. */
  reset: undefined;
}

type Listener<Payload> = (payload: Payload) => void;

/** The listeners of one client. An exception in one doesn't reach the others; it is rethrown after all were called. */
export class Emitter {
  readonly #listeners = new Map<keyof Events, Set<Listener<never>>>();
  readonly #subscribers = new Set<() => void>();
  #notificationQueued = false;

  /** Adds a listener; returns the function that removes it. */
  on<Name extends keyof Events>(name: Name, listener: Listener<Events[Name]>): () => void {
    const listeners = this.#listeners.get(name) ?? new Set();
    this.#listeners.set(name, listeners);
    listeners.add(listener);
    return () => listeners.delete(listener);
  }

  emit<Name extends keyof Events>(name: Name, payload: Events[Name]): void {
    for (const listener of [...(this.#listeners.get(name) ?? [])]) {
      callSafely(() => (listener as Listener<Events[Name]>)(payload));
    }
  }

  /** Calls `subscriber` after each batch of changes; returns the function that ends the subscription. */
  subscribe(subscriber: () => void): () => void {
    const own = (): void => subscriber(); // two subscriptions of one function are two
    this.#subscribers.add(own);
    return () => this.#subscribers.delete(own);
  }

  /** Reports a change: the subscribers are called once for all changes of the current task. */
  notify(): void {
    if (this.#notificationQueued) return;
    this.#notificationQueued = true;
    queueMicrotask(() => {
      this.#notificationQueued = false;
      for (const subscriber of [...this.#subscribers]) callSafely(subscriber);
    });
  }
}

/** Rethrows an exception later, when it can't stop the caller. */
function callSafely(call: () => void): void {
  try {
    call();
  } catch (error) {
    queueMicrotask(() => { throw error; });
  }
}
