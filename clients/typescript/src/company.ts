// Who is there, and who is typing: what passes, and is not kept.

import type { Presence, Typing } from './contract.js';
import type { Emitter } from './events.js';
import type { Http } from './http.js';

/** Somebody's typing ends by itself after this, should its end get lost; the server says so after 5 s. Milliseconds. */
const LOST_MS = 6_000;
/** Typing is told again after this while it goes on, in milliseconds: the server forgets it after 5 s. */
const REPEAT_MS = 3_000;
/** So long after the last key somebody no longer types, in milliseconds. */
const IDLE_MS = 4_000;

/** Other people, as far as they are seen at the moment; and what they see of this user. */
export class Company {
  readonly #presences = new Map<string, Presence>();
  readonly #typists = new Map<string, Map<string, ReturnType<typeof setTimeout>>>();
  readonly #lists = new Map<string, readonly string[]>();
  readonly #mine = new Map<string, { told: number; timer: ReturnType<typeof setTimeout> }>();
  readonly #emitter: Emitter;
  readonly #http: Http;

  constructor(emitter: Emitter, http: Http) {
    this.#emitter = emitter;
    this.#http = http;
    emitter.on('message:new', ({ senderId, conversationId }) => this.typing({ userId: senderId, conversationId }, false));
  }

  presence(userId: string): Presence | undefined {
    return this.#presences.get(userId);
  }

  /** Who types in a conversation, in the order in which they began. */
  typists(conversationId: string): readonly string[] {
    const list = this.#lists.get(conversationId) ?? [...(this.#typists.get(conversationId)?.keys() ?? [])];
    this.#lists.set(conversationId, list);
    return list;
  }

  /** Somebody came or went. */
  saw(presence: Presence): void {
    const known = this.#presences.get(presence.userId);
    this.#presences.set(presence.userId, presence);
    if (known?.status === presence.status && known.lastSeenAt === presence.lastSeenAt) return;
    this.#emitter.emit('presence:update', presence);
    this.#emitter.note();
  }

  /** Somebody types, or stopped. */
  typing(typing: Typing, on: boolean): void {
    const { userId, conversationId } = typing;
    const typists = this.#typists.get(conversationId) ?? new Map<string, ReturnType<typeof setTimeout>>();
    const timer = typists.get(userId);
    if (!on && !timer) return;
    clearTimeout(timer);
    if (on) {
      typists.set(userId, setTimeout(() => this.typing(typing, false), LOST_MS));
      this.#typists.set(conversationId, typists);
    } else {
      typists.delete(userId);
      if (!typists.size) this.#typists.delete(conversationId);
    }
    if (on && timer) return;
    this.#lists.delete(conversationId);
    this.#emitter.emit(on ? 'typing:start' : 'typing:stop', typing);
    this.#emitter.note();
  }

  /** The connection ended: nobody hears of anybody's typing any more. */
  left(): void {
    for (const [conversationId, typists] of [...this.#typists]) {
      for (const userId of [...typists.keys()]) this.typing({ userId, conversationId }, false);
    }
  }

  /** This user types, as of now. */
  type(conversationId: string): void {
    const mine = this.#mine.get(conversationId);
    clearTimeout(mine?.timer);
    const now = Date.now();
    const told = mine && now - mine.told < REPEAT_MS ? mine.told : now;
    this.#mine.set(conversationId, { told, timer: setTimeout(() => this.stop(conversationId), IDLE_MS) });
    if (told === now) this.#tell('typing_start', conversationId);
  }

  /** This user has stopped; `quietly` where a message says so. */
  stop(conversationId: string, quietly = false): void {
    const mine = this.#mine.get(conversationId);
    if (!mine) return;
    clearTimeout(mine.timer);
    this.#mine.delete(conversationId);
    if (!quietly) this.#tell('typing_stop', conversationId);
  }

  end(): void {
    this.left();
    for (const { timer } of this.#mine.values()) clearTimeout(timer);
    this.#mine.clear();
  }

  /** Tried once: what comes late says nothing. */
  #tell(action: 'typing_start' | 'typing_stop', conversationId: string): void {
    const body = { action, conversationId };
    this.#http.ask({ method: 'POST', path: '/api/messages', body, patience: 0 }).catch(() => undefined);
  }
}
