// The client: the public interface of the library, which connects its parts.

import { Auth, type TokenSource } from './auth.js';
import { Connection } from './connection.js';
import { contentError } from './content.js';
import type { StoredMessage } from './conversation-state.js';
import { MessagesError, closedError } from './errors.js';
import { Emitter, type Events, type State } from './events.js';
import { Http } from './http.js';
import { uuidV7 } from './ids.js';
import { Outbox, type Draft } from './outbox.js';
import { PageLoader } from './page-loader.js';
import { PresenceTracker } from './presence.js';
import { Store } from './store.js';
import { Synchronizer } from './synchronizer.js';
import type { Conversation, Message, Position, Presence } from './types.js';

/** The server to connect to, and the user to connect as. */
export interface Options {
  /** The address of the server, such as `https://chat.example.org`. */
  url: string;
  /**
   * An access token, or a function that returns one; it is called before a token expires and after a refusal. Without
   * it, the browser signs in with the cookie of a page of the same origin.
   */
  token?: TokenSource | undefined;
}

/** A conversation to start. */
interface NewConversation {
  participantIds: string[];
  type?: Conversation['type'] | undefined;
  title?: string | undefined;
}

/** How long a command other than a message is retried, in milliseconds. */
const RETRY_FOR_MS = 30_000;
/** How long `close` waits for commands and messages, in milliseconds. */
const CLOSE_TIMEOUT_MS = 5_000;

/** Creates a client and connects it. It can be used at once; {@link Client.ready} says when it is live. */
export const connect = (options: Options): Client => new Client(options);

/** One user's live view of the server. */
export class Client {
  /** Resolves when everything is loaded and the connection is live; rejects where the client is closed before. */
  readonly ready: Promise<void>;
  #state: State = 'connecting';
  #connectionError: MessagesError | undefined;
  #closing: Promise<void> | undefined;
  /** The commands without a response, and the messages that aren't sent. */
  readonly #inFlight = new Set<Promise<unknown>>();
  readonly #closed = new AbortController();
  readonly #emitter = new Emitter();
  readonly #auth: Auth;
  readonly #http: Http;
  readonly #store: Store;
  readonly #synchronizer: Synchronizer;
  readonly #connection: Connection;
  readonly #outbox: Outbox;
  readonly #presence: PresenceTracker;
  readonly #pageLoader: PageLoader;
  readonly #onOnline = (): void => this.#retryNow();

  constructor({ url, token }: Options) {
    this.#auth = new Auth(token);
    this.#http = new Http(url, this.#auth, this.#closed.signal, (error) => this.#reportConnectionError(error));
    this.#store = new Store(this.#emitter);
    this.#presence = new PresenceTracker(this.#emitter, this.#http, (userIds) => this.#connection.presences(userIds));
    this.#synchronizer = new Synchronizer(
      this.#store, this.#http, (error) => this.#syncFailed(error), () => this.#caughtUp(),
    );
    this.#pageLoader = new PageLoader(this.#store, this.#http, this.#synchronizer);
    this.#outbox = new Outbox(this.#store, this.#http, (position) => this.#synchronizer.confirm(position));
    this.#connection = new Connection(url, this.#auth, {
      connected: (userId, position) => this.#connected(userId, position),
      disconnected: () => this.#disconnected(),
      delivery: (delivery) => this.#synchronizer.receive(delivery),
      typing: (typing, active) => this.#presence.setTyping(typing, active),
      presence: (presence) => this.#presence.setPresence(presence),
      connectionError: (error) => this.#reportConnectionError(error),
      failed: (error) => this.#fail(error),
    });
    this.#store.me = this.#auth.me;
    this.ready = new Promise((resolve, reject) => {
      const listeners = [
        this.on('state', (state) => {
          if (state === 'live') resolve();
          if (state === 'closed') reject(closedError());
          if (state === 'live' || state === 'closed') listeners.forEach((remove) => remove());
        }),
        this.on('error', reject),
      ];
    });
    this.ready.catch(() => undefined); // an application that doesn't wait for it receives `error`
    this.on('conversation:created', (conversation) => void this.#presence.request([conversation], this.me));
    globalThis.addEventListener?.('online', this.#onOnline);
    void this.#start();
  }

  // ---- The state of the client

  /** This user's id; empty until the token source has returned a token or, without one, the client has connected. */
  get me(): string {
    return this.#auth.me;
  }

  /** How the client is connected. */
  get state(): State {
    return this.#state;
  }

  /** Why the client isn't live, where that is known: the error of the last attempt, or the one that closed it. */
  get connectionError(): MessagesError | undefined {
    return this.#connectionError;
  }

  /** Adds a listener for an event; returns the function that removes it. */
  on<Name extends keyof Events>(name: Name, listener: (payload: Events[Name]) => void): () => void {
    return this.#emitter.on(name, listener);
  }

  /** Calls `listener` after each batch of changes; returns the function that ends the subscription. */
  subscribe(listener: () => void): () => void {
    return this.#emitter.subscribe(listener);
  }

  // ---- The store: values are replaced, never modified

  /** The conversations, the most recently active first. */
  conversations(): readonly Conversation[] {
    return this.#store.conversations;
  }

  conversation(id: string): Conversation | undefined {
    return this.#store.conversationState(id).value;
  }

  /** A conversation's messages, the oldest first: those newer than the client, and the loaded history. */
  messages(conversationId: string): readonly StoredMessage[] {
    return this.#store.conversationState(conversationId).messages;
  }

  message(id: string): StoredMessage | undefined {
    return this.#store.message(id);
  }

  /** Whether some of a conversation's history is loaded, all of it, or a page is being loaded. */
  history(conversationId: string): { loaded: boolean; complete: boolean; loading: boolean } {
    const { historyCursor, loading } = this.#store.conversationState(conversationId);
    return { loaded: historyCursor !== undefined, complete: historyCursor === null, loading: loading !== undefined };
  }

  /** A user's presence; undefined where the client doesn't know it. */
  presence(userId: string): Presence | undefined {
    return this.#presence.presence(userId);
  }

  /** The users who type in a conversation. */
  typists(conversationId: string): readonly string[] {
    return this.#presence.typists(conversationId);
  }

  // ---- Reads

  /** Whether there are conversations that aren't loaded. */
  get moreConversations(): boolean {
    return this.#pageLoader.hasMoreConversations;
  }

  /** Loads the next page of conversations. */
  loadConversations(): Promise<void> {
    return this.#pageLoader.loadConversations();
  }

  /** Loads a conversation's newest messages, then an older page with each call. */
  loadMessages(conversationId: string): Promise<void> {
    return this.#pageLoader.loadMessages(conversationId);
  }

  /** Loads the ids of all participants; a conversation itself names only the first fifty. */
  participants(conversationId: string): Promise<string[]> {
    return this.#pageLoader.loadParticipants(conversationId);
  }

  // ---- Commands

  /** Starts a conversation. Two people have one direct conversation: a second start returns the first one. */
  startConversation(conversation: NewConversation): Promise<Conversation> {
    return this.#track(async () => {
      const body = { action: 'conversation', ...conversation };
      const { data, position } = await this.#command<{ id: string }>('POST', '/api/messages', body);
      return this.#pageLoader.loadConversation(data.id, position);
    });
  }

  /**
   * Sends a message. {@link Client.messages} contains it at once as `pending`, and the client retries it for ten
   * minutes. Rejects where the server refuses it; it then stays as `failed` until it is retried or discarded. Messages
   * of one conversation are sent one after the other.
   */
  send(conversationId: string, message: string | Draft): Promise<Message> {
    if (!this.me) {
      const identified = this.#auth.usesToken ? this.#auth.token() : this.ready;
      return ignoreRejection(identified.then(() => this.send(conversationId, message)));
    }
    this.#store.me = this.me; // the id of the message is derived from it
    this.#presence.stopTyping(conversationId, true);
    const draft = typeof message === 'string' ? { content: message } : message;
    return ignoreRejection(this.#track(() => this.#outbox.send(conversationId, draft)));
  }

  /** Sends a failed message again; it stays the same message if it did arrive. */
  retry(messageId: string): Promise<Message> {
    return ignoreRejection(this.#track(() => this.#outbox.retry(messageId)));
  }

  /** Removes a failed message. */
  discard(messageId: string): void {
    this.#outbox.discard(messageId);
  }

  /** Replaces the content of a message of this user. */
  async edit(messageId: string, content: string): Promise<void> {
    const refusal = contentError(content, this.#store.message(messageId)?.attachments.length !== 0);
    if (refusal) throw refusal;
    await this.#command('PATCH', `/api/messages/${encodeURIComponent(messageId)}`, { content });
  }

  /** Deletes a message of this user. */
  async delete(messageId: string): Promise<void> {
    await this.#command('DELETE', `/api/messages/${encodeURIComponent(messageId)}`);
  }

  /** Adds a reaction: an emoji, and optionally a label. */
  async react(messageId: string, emoji: string, label?: string): Promise<void> {
    await this.#command('POST', '/api/messages', { action: 'reaction', messageId, emoji, reaction: label });
  }

  /** Removes a reaction. */
  async unreact(messageId: string, emoji: string): Promise<void> {
    await this.#command('POST', '/api/messages', { action: 'remove_reaction', messageId, emoji });
  }

  /** Marks a conversation as read, up to a message or completely. Sends nothing where it is read already. */
  async markRead(conversationId: string, messageId?: string): Promise<void> {
    const { value, newestSeq } = this.#store.conversationState(conversationId);
    const lastReadSeq = this.#store.ownLastReadSeq(conversationId);
    if (value?.unreadCount === 0 && lastReadSeq !== undefined && lastReadSeq >= (newestSeq ?? Infinity)) return;
    const body = { action: 'mark_read', conversationId, messageId };
    const { position } = await this.#command('POST', '/api/messages', body);
    this.#synchronizer.confirm(position); // the server doesn't deliver read marks to large conversations
  }

  /** This user types: call it with each key. Others see it until a few seconds after the last call. */
  typing(conversationId: string): void {
    this.#presence.startTyping(conversationId);
  }

  /** This user stopped typing. Sending a message implies it. */
  stopTyping(conversationId: string): void {
    this.#presence.stopTyping(conversationId);
  }

  /**
   * Closes the client, which from now on refuses new commands. While it is live, it first waits up to 5 s for commands
   * and messages; those that don't finish fail with `closed`. Resolves once the client is closed.
   */
  close(): Promise<void> {
    this.#closing ??= this.#drainAndShutDown();
    return this.#closing;
  }

  // ---- Internals

  async #drainAndShutDown(): Promise<void> {
    if (this.#state === 'live' && this.#inFlight.size) {
      let timer;
      const timeout = new Promise((resolve) => { timer = setTimeout(resolve, CLOSE_TIMEOUT_MS); });
      await Promise.race([Promise.allSettled(this.#inFlight), timeout]);
      clearTimeout(timer);
    }
    this.#shutDown();
  }

  #shutDown(): void {
    if (this.#state === 'closed') return;
    globalThis.removeEventListener?.('online', this.#onOnline);
    this.#closed.abort();
    this.#synchronizer.stop();
    this.#connection.close();
    this.#presence.close();
    this.#setState('closed');
  }

  /** Loads the conversations, then connects the socket. */
  async #start(): Promise<void> {
    try {
      await this.#pageLoader.loadInitial(() => { this.#store.me = this.#auth.me; });
      this.#connection.connect();
    } catch (error) {
      if (!(error instanceof MessagesError)) throw error;
      this.#fail(error);
    }
  }

  async #command<Data>(
    method: 'POST' | 'PATCH' | 'DELETE', path: string, body?: unknown,
  ): Promise<{ data: Data; position: Position }> {
    const request = { method, path, body, key: uuidV7(), retryForMs: RETRY_FOR_MS };
    const response = await this.#track(() => this.#http.request<{ data: Data }>(request));
    return { data: response.body.data, position: response.position };
  }

  /** Starts work that `close` waits for. */
  #track<Value>(work: () => Promise<Value>): Promise<Value> {
    if (this.#closing) return Promise.reject(closedError());
    const running = work();
    const forget = (): void => void this.#inFlight.delete(running);
    this.#inFlight.add(running);
    running.then(forget, forget);
    return running;
  }

  #caughtUp(): void {
    if (this.#state !== 'live') void this.#presence.request(this.#store.conversations.slice(0, 100), this.me);
    this.#setState('live');
    this.#http.retryNow();
  }

  #connected(userId: string, position: string): void {
    this.#auth.me = userId; // without a token, the client learns it here
    this.#store.me = userId;
    this.#synchronizer.connected(position);
  }

  #disconnected(): void {
    this.#synchronizer.disconnected();
    this.#presence.disconnected();
    if (this.#state === 'live') this.#setState('offline');
  }

  #retryNow(): void {
    this.#http.retryNow();
    if (this.#state === 'offline') this.#connection.connect();
  }

  /** The server refuses the sync token, because it has another log or the token is another user's: starts again. */
  #syncFailed(error: MessagesError): void {
    if (error.status !== 400) {
      this.#fail(error);
      return;
    }
    const withHistory = this.#store.idsWithHistory();
    this.#connection.close();
    this.#store.reset();
    this.#emitter.emit('reset', undefined);
    void this.#start().then(() => Promise.all(withHistory.map((id) => this.loadMessages(id).catch(() => undefined))));
  }

  #fail(error: MessagesError): void {
    if (this.#state === 'closed') return;
    this.#connectionError = error;
    this.#emitter.emit('error', error);
    this.#shutDown();
  }

  /** Records why an attempt failed, while the client isn't live. */
  #reportConnectionError(error: MessagesError): void {
    if (this.#state === 'live' || this.#state === 'closed') return;
    const unchanged = this.#connectionError?.code === error.code && this.#connectionError.message === error.message;
    this.#connectionError = error;
    if (unchanged) return;
    this.#emitter.emit('connectionError', error);
    this.#emitter.notify();
  }

  #setState(state: State): void {
    if (this.#state === state) return;
    this.#state = state;
    if (state === 'live') this.#connectionError = undefined;
    this.#emitter.emit('state', state);
    this.#emitter.notify();
  }
}

/** Marks a rejection as handled: the store shows the failure, so an application may ignore the promise. */
function ignoreRejection<Value>(promise: Promise<Value>): Promise<Value> {
  promise.catch(() => undefined);
  return promise;
}
