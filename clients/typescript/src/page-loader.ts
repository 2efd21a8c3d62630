// Loads pages over HTTP: conversations, a conversation's history, its participants.

import type { ConversationState } from './conversation-state.js';
import type { Http, HttpResponse } from './http.js';
import type { Store } from './store.js';
import type { Synchronizer } from './synchronizer.js';
import type { Conversation, Message, Position } from './types.js';

/** The page sizes. For conversations and participants they are the server's limit. */
const CONVERSATIONS_PER_PAGE = 100;
const MESSAGES_PER_PAGE = 50;
const PARTICIPANTS_PER_PAGE = 100;
/** How many pages of conversations the client loads when it starts; the application requests the others. */
const INITIAL_PAGES_MAX = 10;
/** How long a page is retried, in milliseconds. */
const RETRY_FOR_MS = 30_000;

interface Page<Data> {
  data: Data;
  page: { nextCursor: string | null };
}

/** Loads pages into the store of one client. */
export class PageLoader {
  readonly #store: Store;
  readonly #http: Http;
  readonly #synchronizer: Synchronizer;
  /** The cursor of the next page of conversations. */
  #cursor: string | null = null;
  #loadingConversations: Promise<void> | undefined;

  constructor(store: Store, http: Http, synchronizer: Synchronizer) {
    this.#store = store;
    this.#http = http;
    this.#synchronizer = synchronizer;
  }

  /** Whether there are conversations that aren't loaded. */
  get hasMoreConversations(): boolean {
    return this.#cursor !== null;
  }

  /**
   * Loads the conversations, retrying without end, and starts the synchronizer from there. Calls `onResponse` after
   * each response: the token source has then named the user.
   */
  async loadInitial(onResponse: () => void): Promise<void> {
    let token = '';
    this.#cursor = null;
    for (let pages = 0; pages < INITIAL_PAGES_MAX; pages += 1) {
      const { body, position } = await this.#conversationPage(Infinity);
      onResponse();
      token ||= position; // of the first page: a sync from there brings what changed while the others were loaded
      for (const conversation of body.data) this.#store.upsertConversation(conversation, true);
      this.#cursor = body.page.nextCursor;
      this.#store.newSince = body.data.at(-1)?.updatedAt ?? '';
      if (!this.hasMoreConversations) break;
    }
    this.#store.hasAllConversations = !this.hasMoreConversations;
    this.#synchronizer.start(token);
  }

  /** Loads the next page of conversations. */
  loadConversations(): Promise<void> {
    if (!this.hasMoreConversations) return Promise.resolve();
    this.#loadingConversations ??= this.#nextConversations().finally(() => { this.#loadingConversations = undefined; });
    return this.#loadingConversations;
  }

  /** Loads a conversation's newest messages, then an older page with each call. */
  loadMessages(conversationId: string): Promise<void> {
    const state = this.#store.conversationState(conversationId);
    if (state.historyCursor === null) return Promise.resolve();
    state.loading ??= this.#olderMessages(conversationId, state).finally(() => {
      state.loading = undefined;
      state.changesWhileLoading = [];
      this.#store.notify();
    });
    this.#store.notify();
    return state.loading;
  }

  /** Loads one conversation, including the log up to a position. */
  async loadConversation(id: string, minPosition: Position): Promise<Conversation> {
    const path = `/api/conversations/${encodeURIComponent(id)}`;
    const request = { method: 'GET', path, minPosition, retryForMs: RETRY_FOR_MS } as const;
    const { body } = await this.#http.request<Page<Conversation>>(request);
    this.#store.upsertConversation(body.data);
    return this.#store.conversationState(id).value ?? body.data;
  }

  /** Loads the ids of all participants. */
  async loadParticipants(id: string): Promise<string[]> {
    const userIds: string[] = [];
    let cursor: string | null = '';
    while (cursor !== null) {
      const query: string = `limit=${PARTICIPANTS_PER_PAGE}${cursorParameter(cursor)}`;
      const path = `/api/conversations/${encodeURIComponent(id)}?${query}`;
      const request = { method: 'GET', path, retryForMs: RETRY_FOR_MS } as const;
      const { body }: { body: Page<Conversation> } = await this.#http.request(request);
      userIds.push(...body.data.participants.map(({ userId }) => userId));
      cursor = body.page.nextCursor;
    }
    return userIds;
  }

  async #nextConversations(): Promise<void> {
    const { body } = await this.#conversationPage(RETRY_FOR_MS);
    for (const conversation of body.data) this.#store.upsertConversation(conversation);
    this.#cursor = body.page.nextCursor;
    if (!this.hasMoreConversations) this.#store.hasAllConversations = true;
  }

  #conversationPage(retryForMs: number): Promise<HttpResponse<Page<Conversation[]>>> {
    const path = `/api/messages?limit=${CONVERSATIONS_PER_PAGE}${cursorParameter(this.#cursor)}`;
    return this.#http.request<Page<Conversation[]>>({ method: 'GET', path, retryForMs });
  }

  /** Loads pages until one has a message that the client doesn't hold: it holds those that were delivered before. */
  async #olderMessages(id: string, state: ConversationState): Promise<void> {
    const before = state.loadedFromSeq;
    while (state.historyCursor !== null && (state.historyCursor === undefined || state.loadedFromSeq >= before)) {
      const page = `limit=${MESSAGES_PER_PAGE}${cursorParameter(state.historyCursor)}`;
      const path = `/api/messages?conversationId=${encodeURIComponent(id)}&${page}`;
      const minPosition = this.#synchronizer.minPosition(id);
      const request = { method: 'GET', path, minPosition, retryForMs: RETRY_FOR_MS } as const;
      const { body } = await this.#http.request<Page<Message[]>>(request);
      this.#store.addHistoryPage(state, body.data, body.page.nextCursor);
    }
  }
}

const cursorParameter = (cursor: string | null | undefined): string =>
  (cursor ? `&cursor=${encodeURIComponent(cursor)}` : '');
