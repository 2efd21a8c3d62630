// Reading pages: of conversations, of a conversation's history, of its people.

import type { Conversation, Message, Position } from './contract.js';
import type { Follower } from './follow.js';
import type { Http } from './http.js';
import type { Store } from './store.js';
import type { Talk } from './talk.js';

/** How many conversations a page has: the server's limit. */
const CONVERSATIONS = 100;
/** How many pages of conversations are read when a client begins; the rest when it is asked for. */
const PAGES = 10;
/** How many messages a page has. */
const MESSAGES = 50;
/** How many people a page has: the server's limit. */
const PEOPLE = 100;
/** For how long a page is asked for, in milliseconds. */
const PATIENCE_MS = 30_000;

interface Page<Data> {
  data: Data;
  page: { nextCursor: string | null };
}

/** Reads what there is. */
export class Library {
  readonly #store: Store;
  readonly #http: Http;
  readonly #follower: Follower;
  #cursor: string | null = null;
  #loading: Promise<void> | undefined;

  constructor(store: Store, http: Http, follower: Follower) {
    this.#store = store;
    this.#http = http;
    this.#follower = follower;
  }

  /** Whether there are conversations that weren't read. */
  get more(): boolean {
    return this.#cursor !== null;
  }

  /** Reads the list, for as long as it takes, and follows from there; `answered` once the server knows who we are. */
  async begin(answered: () => void): Promise<void> {
    let token = '';
    this.#cursor = null;
    for (let pages = 0; pages < PAGES; pages += 1) {
      const { body, position } = await this.#list(Infinity);
      answered();
      token ||= position; // the first is the oldest: what changed while the others were read is synced
      for (const conversation of body.data) this.#store.conversation(conversation, true);
      this.#cursor = body.page.nextCursor;
      this.#store.began = body.data.at(-1)?.updatedAt ?? '';
      if (!this.more) break;
    }
    this.#store.whole = !this.more;
    this.#follower.begin(token);
  }

  conversations(): Promise<void> {
    if (!this.more) return Promise.resolve();
    this.#loading ??= this.#further().finally(() => { this.#loading = undefined; });
    return this.#loading;
  }

  messages(conversationId: string): Promise<void> {
    const talk = this.#store.talk(conversationId);
    if (talk.cursor === null) return Promise.resolve();
    talk.loading ??= this.#older(conversationId, talk).finally(() => {
      talk.loading = undefined;
      talk.missed = [];
      this.#store.note();
    });
    this.#store.note();
    return talk.loading;
  }

  /** One conversation, as it is from a position on. */
  async conversation(id: string, atLeast: Position): Promise<Conversation> {
    const path = `/api/conversations/${encodeURIComponent(id)}`;
    const { body } = await this.#http.ask<Page<Conversation>>({ method: 'GET', path, atLeast, patience: PATIENCE_MS });
    this.#store.conversation(body.data);
    return this.#store.talk(id).value ?? body.data;
  }

  async participants(id: string): Promise<string[]> {
    const people: string[] = [];
    let cursor: string | null = '';
    while (cursor !== null) {
      const path: string = `/api/conversations/${encodeURIComponent(id)}?limit=${PEOPLE}${from(cursor)}`;
      const ask = { method: 'GET', path, patience: PATIENCE_MS } as const;
      const { body }: { body: Page<Conversation> } = await this.#http.ask(ask);
      people.push(...body.data.participants.map(({ userId }) => userId));
      cursor = body.page.nextCursor;
    }
    return people;
  }

  async #further(): Promise<void> {
    const { body } = await this.#list(PATIENCE_MS);
    for (const conversation of body.data) this.#store.conversation(conversation);
    this.#cursor = body.page.nextCursor;
    if (!this.more) this.#store.whole = true;
  }

  #list(patience: number): Promise<{ body: Page<Conversation[]>; position: string }> {
    const path = `/api/messages?limit=${CONVERSATIONS}${from(this.#cursor)}`;
    return this.#http.ask<Page<Conversation[]>>({ method: 'GET', path, patience });
  }

  /** Pages until there is something that wasn't here: what came while it wasn't looked at is here already. */
  async #older(id: string, talk: Talk): Promise<void> {
    for (const before = talk.reach; talk.cursor !== null && (talk.cursor === undefined || talk.reach >= before);) {
      const path = `/api/messages?conversationId=${encodeURIComponent(id)}&limit=${MESSAGES}${from(talk.cursor)}`;
      const atLeast = this.#follower.atLeast(id);
      const { body } = await this.#http.ask<Page<Message[]>>({ method: 'GET', path, atLeast, patience: PATIENCE_MS });
      this.#store.history(talk, body.data, body.page.nextCursor);
    }
  }
}

const from = (cursor: string | null | undefined): string => (cursor ? `&cursor=${encodeURIComponent(cursor)}` : '');
