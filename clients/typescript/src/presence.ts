// Presence and typing: short-lived state that isn't stored and doesn't survive a disconnection.

import type { Emitter } from './events.js';
import type { Http } from './http.js';
import type { Conversation, Presence, Typing } from './types.js';

/** In milliseconds. Ends another user's typing where its end was lost; the server reports the end after 5 s. */
const TYPING_TIMEOUT_MS = 6_000;
/** How often the client repeats that this user types, in milliseconds; the server forgets it after 5 s. */
const TYPING_REPEAT_MS = 3_000;
/** How long after the last key this user still counts as typing, in milliseconds. */
const TYPING_IDLE_MS = 4_000;
/** For how many users the client requests the presence, and how many at once: the server's limit. */
const PRESENCE_USERS_MAX = 500;
const PRESENCE_USERS_PER_REQUEST = 100;
/** The server publishes presence in conversations of up to this many participants. */
const SMALL_CONVERSATION_MAX = 50;

type Timer = ReturnType<typeof setTimeout>;

/** The presence and typing of other users, and what the client last reported of this user's typing. */
export class PresenceTracker {
  readonly #presences = new Map<string, Presence>();
  /** By conversation and user: the timer that ends the typing. */
  readonly #typists = new Map<string, Map<string, Timer>>();
  /** The lists that were returned, which stay the same objects until they change. */
  readonly #typistLists = new Map<string, readonly string[]>();
  /** This user's typing by conversation. */
  readonly #ownTyping = new Map<string, { sentAt: number; timer: Timer }>();
  readonly #emitter: Emitter;
  readonly #http: Http;
  readonly #query: (userIds: string[]) => Promise<Presence[]>;

  /** `query` asks the server for the presence of some users. */
  constructor(emitter: Emitter, http: Http, query: (userIds: string[]) => Promise<Presence[]>) {
    this.#emitter = emitter;
    this.#http = http;
    this.#query = query;
    // A message ends its sender's typing.
    emitter.on('message:new', ({ senderId, conversationId }) => {
      this.setTyping({ userId: senderId, conversationId }, false);
    });
  }

  presence(userId: string): Presence | undefined {
    return this.#presences.get(userId);
  }

  /** The users who type in a conversation, in the order in which they started. */
  typists(conversationId: string): readonly string[] {
    const list = this.#typistLists.get(conversationId) ?? [...(this.#typists.get(conversationId)?.keys() ?? [])];
    this.#typistLists.set(conversationId, list);
    return list;
  }

  /** Requests and stores the presence of the others in small conversations. */
  async request(conversations: readonly Conversation[], me: string): Promise<void> {
    const small = conversations.filter(({ participantCount }) => participantCount <= SMALL_CONVERSATION_MAX);
    const others = new Set(small.flatMap(({ participants }) => participants.map(({ userId }) => userId)));
    others.delete(me);
    const userIds = [...others].slice(0, PRESENCE_USERS_MAX);
    for (let i = 0; i < userIds.length; i += PRESENCE_USERS_PER_REQUEST) {
      const presences = await this.#query(userIds.slice(i, i + PRESENCE_USERS_PER_REQUEST));
      for (const presence of presences) this.setPresence(presence);
    }
  }

  /** Stores a user's presence. */
  setPresence(presence: Presence): void {
    const known = this.#presences.get(presence.userId);
    this.#presences.set(presence.userId, presence);
    if (known?.status === presence.status && known.lastSeenAt === presence.lastSeenAt) return;
    this.#emitter.emit('presence:update', presence);
    this.#emitter.notify();
  }

  /** Stores whether another user types. */
  setTyping(typing: Typing, active: boolean): void {
    const { userId, conversationId } = typing;
    const typists = this.#typists.get(conversationId) ?? new Map<string, Timer>();
    const timer = typists.get(userId);
    if (!active && !timer) return;
    clearTimeout(timer);
    if (active) {
      typists.set(userId, setTimeout(() => this.setTyping(typing, false), TYPING_TIMEOUT_MS));
      this.#typists.set(conversationId, typists);
    } else {
      typists.delete(userId);
      if (!typists.size) this.#typists.delete(conversationId);
    }
    if (active && timer) return;
    this.#typistLists.delete(conversationId);
    this.#emitter.emit(active ? 'typing:start' : 'typing:stop', typing);
    this.#emitter.notify();
  }

  /** Ends all typing of others: without a connection the client doesn't learn when it ends. */
  disconnected(): void {
    for (const [conversationId, typists] of [...this.#typists]) {
      for (const userId of [...typists.keys()]) this.setTyping({ userId, conversationId }, false);
    }
  }

  /** This user pressed a key. */
  startTyping(conversationId: string): void {
    const own = this.#ownTyping.get(conversationId);
    clearTimeout(own?.timer);
    const now = Date.now();
    const sentAt = own && now - own.sentAt < TYPING_REPEAT_MS ? own.sentAt : now;
    const timer = setTimeout(() => this.stopTyping(conversationId), TYPING_IDLE_MS);
    this.#ownTyping.set(conversationId, { sentAt, timer });
    if (sentAt === now) this.#send('typing_start', conversationId);
  }

  /** This user stopped typing. `silently`: without a request, because a sent message implies it. */
  stopTyping(conversationId: string, silently = false): void {
    const own = this.#ownTyping.get(conversationId);
    if (!own) return;
    clearTimeout(own.timer);
    this.#ownTyping.delete(conversationId);
    if (!silently) this.#send('typing_stop', conversationId);
  }

  close(): void {
    this.disconnected();
    for (const { timer } of this.#ownTyping.values()) clearTimeout(timer);
    this.#ownTyping.clear();
  }

  /** Never retries: late typing is worthless. */
  #send(action: 'typing_start' | 'typing_stop', conversationId: string): void {
    const body = { action, conversationId };
    this.#http.request({ method: 'POST', path: '/api/messages', body, retryForMs: 0 }).catch(() => undefined);
  }
}
