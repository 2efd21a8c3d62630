// What a client tells those who listen.

import type { Conversation, Message, Presence, ReactionChange, Typing } from './contract.js';
import type { MessagesError } from './errors.js';

/** How a client is connected: `live` when it has everything and hears of what is new. */
export type State = 'connecting' | 'live' | 'offline' | 'closed';

/** What happened, by name. Each thing is told once, whichever way it came: live, by catching up, or by an answer. */
export interface Events {
  /** A message that wasn't there when the client began; one's own once it is confirmed. */
  'message:new': Message;
  /** A message has another content. Two edits while one was away are told as one. */
  'message:edited': Message;
  /** A message was deleted. */
  'message:deleted': Message;
  /** A message that isn't held here was changed while one was away: nobody here can tell how. */
  'message:changed': Message;
  'reaction:added': ReactionChange;
  'reaction:removed': ReactionChange;
  /** Somebody, perhaps oneself elsewhere, has read up to a `seq`. */
  'messages:read': { conversationId: string; userId: string; lastReadSeq: number };
  'conversation:created': Conversation;
  /** A new message mentions this user. */
  'mention:new': Message;
  'typing:start': Typing;
  'typing:stop': Typing;
  'presence:update': Presence;
  state: State;
  /** Why it isn't live yet, or again: told where that is something else than before. It is tried on. */
  trouble: MessagesError;
  /** The client can't go on, and is closed: the token is no good, and there is no other. */
  error: MessagesError;
  /** The server's log is another one: what was known is dropped, and all is read anew. */
  reset: undefined;
}

type Listener<Payload> = (payload: Payload) => void;

/** Those who listen. What one of them throws reaches no other, and is thrown once all were told. */
export class Emitter {
  readonly #listeners = new Map<keyof Events, Set<Listener<never>>>();
  readonly #subscribers = new Set<() => void>();
  #noted = false;

  /** Listens; gives what ends it. */
  on<Name extends keyof Events>(name: Name, listener: Listener<Events[Name]>): () => void {
    const listeners = this.#listeners.get(name) ?? new Set();
    this.#listeners.set(name, listeners);
    listeners.add(listener);
    return () => listeners.delete(listener);
  }

  emit<Name extends keyof Events>(name: Name, payload: Events[Name]): void {
    for (const listener of [...(this.#listeners.get(name) ?? [])]) {
      guarded(() => (listener as Listener<Events[Name]>)(payload));
    }
  }

  /** Is told after something changed, once for all that changed together; gives what ends it. */
  subscribe(subscriber: () => void): () => void {
    const own = (): void => subscriber();
    this.#subscribers.add(own);
    return () => this.#subscribers.delete(own);
  }

  /** Something changed. */
  note(): void {
    if (this.#noted) return;
    this.#noted = true;
    queueMicrotask(() => {
      this.#noted = false;
      for (const subscriber of [...this.#subscribers]) guarded(subscriber);
    });
  }
}

function guarded(call: () => void): void {
  try {
    call();
  } catch (error) {
    queueMicrotask(() => { throw error; });
  }
}
