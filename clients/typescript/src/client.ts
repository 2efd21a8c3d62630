// The client: what an application sees of all this.

import { Auth, type TokenSource } from './auth.js';
import { Company } from './company.js';
import { Connection } from './connection.js';
import type { Conversation, Message, Position, Presence } from './contract.js';
import { MessagesError, closed } from './errors.js';
import { Emitter, type Events, type State } from './events.js';
import { Follower } from './follow.js';
import { Http } from './http.js';
import { uuidV7 } from './ids.js';
import { Library } from './library.js';
import { Outbox, type Draft } from './outbox.js';
import { Store } from './store.js';
import type { StoredMessage } from './talk.js';

/** Where to connect, and as whom. */
export interface Options {
  /** Where the server is, such as `https://chat.example.org`. */
  url: string;
  /** An access token, or what gives one: it is asked again before a token expires, and when one is refused. */
  token: TokenSource;
}

/** What a conversation begins with. */
interface Beginning {
  participantIds: string[];
  type?: Conversation['type'] | undefined;
  title?: string | undefined;
}

/** For how long a command other than a message is tried, in milliseconds. */
const PATIENCE_MS = 30_000;
/** How long closing waits for what is under way, in milliseconds. */
const CLOSING_MS = 5_000;
/** How many people's presence is asked for, and how many at once: the server's limit. */
const ASKED = 500;
const ASKED_AT_ONCE = 100;
/** Presence is only told in conversations of up to so many. */
const SOCIABLE = 50;

/** Connects; the client is ready once {@link Client.ready} is. */
export const connect = (options: Options): Client => new Client(options);

/** One user's view of the server, live. */
export class Client {
  /** Done once everything was read and the connection is live; fails where that can't be. */
  readonly ready: Promise<void>;
  #state: State = 'connecting';
  #trouble: MessagesError | undefined;
  #closing: Promise<void> | undefined;
  /** Commands that weren't answered yet, and messages that weren't sent. */
  readonly #underway = new Set<Promise<unknown>>();
  readonly #ended = new AbortController();
  readonly #emitter = new Emitter();
  readonly #auth: Auth;
  readonly #http: Http;
  readonly #store: Store;
  readonly #follower: Follower;
  readonly #connection: Connection;
  readonly #outbox: Outbox;
  readonly #company: Company;
  readonly #library: Library;
  readonly #online = (): void => this.#wake();

  constructor({ url, token }: Options) {
    this.#auth = new Auth(token);
    this.#http = new Http(url, this.#auth, this.#ended.signal, (error) => this.#stuck(error));
    this.#store = new Store(this.#emitter);
    this.#company = new Company(this.#emitter, this.#http);
    this.#follower = new Follower(this.#store, this.#http, (error) => this.#broken(error), () => this.#live());
    this.#library = new Library(this.#store, this.#http, this.#follower);
    this.#outbox = new Outbox(this.#store, this.#http, (position) => this.#follower.settle(position));
    this.#connection = new Connection(url, this.#auth, {
      ready: (position) => this.#follower.ready(position),
      left: () => this.#left(),
      deliver: (delivery) => this.#follower.deliver(delivery),
      typing: (typing, on) => this.#company.typing(typing, on),
      presence: (presence) => this.#company.saw(presence),
      trouble: (error) => this.#stuck(error),
      failed: (error) => this.#fail(error),
    });
    this.#store.me = this.#auth.me;
    this.ready = new Promise((done, failed) => {
      const off = [
        this.on('state', (state) => {
          if (state === 'live') done();
          if (state === 'closed') failed(closed());
          if (state === 'live' || state === 'closed') off.forEach((end) => end());
        }),
        this.on('error', failed),
      ];
    });
    this.ready.catch(() => undefined); // who doesn't wait for it hears `error`
    this.on('conversation:created', (conversation) => void this.#askPresence([conversation]));
    globalThis.addEventListener?.('online', this.#online);
    void this.#begin();
  }

  // ---- How it is

  /** This user's id; empty until the token source has given a token. */
  get me(): string {
    return this.#auth.me;
  }

  /** How the client is connected. */
  get state(): State {
    return this.#state;
  }

  /** Why it isn't live, as far as that is known: what the last try came to, or why it was closed. */
  get trouble(): MessagesError | undefined {
    return this.#trouble;
  }

  /** Listens to what happens; gives what ends that. */
  on<Name extends keyof Events>(name: Name, listener: (payload: Events[Name]) => void): () => void {
    return this.#emitter.on(name, listener);
  }

  /** Is told after anything changed, once for all that changed together; gives what ends that. */
  subscribe(listener: () => void): () => void {
    return this.#emitter.subscribe(listener);
  }

  // ---- What is here: values are never changed, but replaced

  /** The conversations, the most recently active first. */
  conversations(): readonly Conversation[] {
    return this.#store.conversations;
  }

  conversation(id: string): Conversation | undefined {
    return this.#store.talk(id).value;
  }

  /** A conversation's messages, the oldest first: what is new since the client began, and the history that was loaded. */
  messages(conversationId: string): readonly StoredMessage[] {
    return this.#store.talk(conversationId).messages;
  }

  message(id: string): StoredMessage | undefined {
    return this.#store.message(id);
  }

  /** Whether history was loaded, all of it, or is being loaded. */
  history(conversationId: string): { loaded: boolean; complete: boolean; loading: boolean } {
    const { cursor, loading } = this.#store.talk(conversationId);
    return { loaded: cursor !== undefined, complete: cursor === null, loading: loading !== undefined };
  }

  /** Whether somebody is there; undefined where that isn't known. */
  presence(userId: string): Presence | undefined {
    return this.#company.presence(userId);
  }

  /** Who is typing in a conversation. */
  typists(conversationId: string): readonly string[] {
    return this.#company.typists(conversationId);
  }

  // ---- What can be read

  /** Whether there are more conversations than are here. */
  get moreConversations(): boolean {
    return this.#library.more;
  }

  /** Reads a further page of the conversations. */
  loadConversations(): Promise<void> {
    return this.#library.conversations();
  }

  /** Reads a conversation's newest messages, and each time after that an older page. */
  loadMessages(conversationId: string): Promise<void> {
    return this.#library.messages(conversationId);
  }

  /** Reads who takes part: everyone, where a conversation itself only shows the first fifty. */
  participants(conversationId: string): Promise<string[]> {
    return this.#library.participants(conversationId);
  }

  // ---- What can be done

  /** Begins a conversation. The direct one of two people is always the same. */
  startConversation(of: Beginning): Promise<Conversation> {
    return this.#work(async () => {
      const { data, position } = await this.#command<{ id: string }>('POST', '/api/messages', { action: 'conversation', ...of });
      return this.#library.conversation(data.id, position);
    });
  }

  /**
   * Sends a message. It is in {@link Client.messages} at once, `pending`, and tried for ten minutes; fails where it is
   * refused, and stays there as `failed` until it is retried or discarded. One goes after the other.
   */
  send(conversationId: string, message: string | Draft): Promise<Message> {
    if (!this.me) return quiet(this.#auth.token().then(() => this.send(conversationId, message)));
    this.#store.me = this.me; // the id of what is sent derives from it
    this.#company.stop(conversationId, true);
    const draft = typeof message === 'string' ? { content: message } : message;
    return quiet(this.#work(() => this.#outbox.send(conversationId, draft)));
  }

  /** Sends a message that failed once more: it is the same message, should it have arrived. */
  retry(messageId: string): Promise<Message> {
    return quiet(this.#work(() => this.#outbox.retry(messageId)));
  }

  /** Takes a message away that failed. */
  discard(messageId: string): void {
    this.#outbox.discard(messageId);
  }

  /** Gives one's own message another content. */
  async edit(messageId: string, content: string): Promise<void> {
    await this.#command('PATCH', `/api/messages/${encodeURIComponent(messageId)}`, { content });
  }

  /** Deletes one's own message. */
  async delete(messageId: string): Promise<void> {
    await this.#command('DELETE', `/api/messages/${encodeURIComponent(messageId)}`);
  }

  /** Reacts with an emoji, and a label if one is wanted. */
  async react(messageId: string, emoji: string, label?: string): Promise<void> {
    await this.#command('POST', '/api/messages', { action: 'reaction', messageId, emoji, reaction: label });
  }

  /** Takes a reaction back. */
  async unreact(messageId: string, emoji: string): Promise<void> {
    await this.#command('POST', '/api/messages', { action: 'remove_reaction', messageId, emoji });
  }

  /** Everything up to a message is read, or everything. Says nothing where that is known. */
  async markRead(conversationId: string, messageId?: string): Promise<void> {
    const { value, myRead, newest } = this.#store.talk(conversationId);
    if (value?.unreadCount === 0 && myRead !== undefined && myRead >= (newest ?? Infinity)) return;
    const { position } = await this.#command('POST', '/api/messages', { action: 'mark_read', conversationId, messageId });
    this.#follower.settle(position); // large conversations aren't told of read marks
  }

  /** This user types: to be called with each key. Others see it until a few seconds after the last one. */
  typing(conversationId: string): void {
    this.#company.type(conversationId);
  }

  /** This user no longer types. A message that is sent says so, too. */
  stopTyping(conversationId: string): void {
    this.#company.stop(conversationId);
  }

  /**
   * Ends the connection; nothing new is done from now on. While it is live, it first lets what is under way finish,
   * for 5 s at most; what is cut off then fails with `closed`. Done once it is closed.
   */
  close(): Promise<void> {
    this.#closing ??= this.#finish();
    return this.#closing;
  }

  // ---- The inside

  async #finish(): Promise<void> {
    if (this.#state === 'live' && this.#underway.size) {
      let timer;
      const late = new Promise((done) => { timer = setTimeout(done, CLOSING_MS); });
      await Promise.race([Promise.allSettled(this.#underway), late]);
      clearTimeout(timer);
    }
    this.#end();
  }

  #end(): void {
    if (this.#state === 'closed') return;
    globalThis.removeEventListener?.('online', this.#online);
    this.#ended.abort();
    this.#follower.end();
    this.#connection.close();
    this.#company.end();
    this.#become('closed');
  }

  /** Reads what there is, then listens. */
  async #begin(): Promise<void> {
    try {
      await this.#library.begin(() => { this.#store.me = this.#auth.me; });
      this.#connection.connect();
    } catch (error) {
      if (!(error instanceof MessagesError)) throw error;
      this.#fail(error);
    }
  }

  async #command<Data>(method: 'POST' | 'PATCH' | 'DELETE', path: string, body?: unknown): Promise<{ data: Data; position: Position }> {
    const ask = { method, path, body, key: uuidV7(), patience: PATIENCE_MS };
    const { body: answer, position } = await this.#work(() => this.#http.ask<{ data: Data }>(ask));
    return { data: answer.data, position };
  }

  /** Does what closing waits for. */
  #work<Value>(work: () => Promise<Value>): Promise<Value> {
    if (this.#closing) return Promise.reject(closed());
    const done = work();
    const forget = (): void => void this.#underway.delete(done);
    this.#underway.add(done);
    done.then(forget, forget);
    return done;
  }

  /** All that was missed is here. */
  #live(): void {
    if (this.#state !== 'live') void this.#askPresence(this.#store.conversations.slice(0, 100));
    this.#become('live');
    this.#http.wake();
  }

  #left(): void {
    this.#follower.left();
    this.#company.left();
    if (this.#state === 'live') this.#become('offline');
  }

  #wake(): void {
    this.#http.wake();
    if (this.#state === 'offline') this.#connection.connect();
  }

  /** What was known leads nowhere: the log is another one, or the token someone else's. All is read anew. */
  #broken(error: MessagesError): void {
    if (error.status !== 400) {
      this.#fail(error);
      return;
    }
    const opened = this.#store.opened();
    this.#connection.close();
    this.#store.reset();
    this.#emitter.emit('reset', undefined);
    void this.#begin().then(() => Promise.all(opened.map((id) => this.loadMessages(id).catch(() => undefined))));
  }

  #fail(error: MessagesError): void {
    if (this.#state === 'closed') return;
    this.#trouble = error;
    this.#emitter.emit('error', error);
    this.#end();
  }

  /** Something has to be tried again: while it isn't live, that is why. */
  #stuck(error: MessagesError): void {
    if (this.#state === 'live' || this.#state === 'closed') return;
    const told = this.#trouble?.code === error.code && this.#trouble.message === error.message;
    this.#trouble = error;
    if (told) return;
    this.#emitter.emit('trouble', error);
    this.#emitter.note();
  }

  #become(state: State): void {
    if (this.#state === state) return;
    this.#state = state;
    if (state === 'live') this.#trouble = undefined;
    this.#emitter.emit('state', state);
    this.#emitter.note();
  }

  async #askPresence(conversations: readonly Conversation[]): Promise<void> {
    const near = conversations.filter(({ participantCount }) => participantCount <= SOCIABLE);
    const people = new Set(near.flatMap(({ participants }) => participants.map(({ userId }) => userId)));
    people.delete(this.me);
    const asked = [...people].slice(0, ASKED);
    for (let i = 0; i < asked.length; i += ASKED_AT_ONCE) {
      const answers = await this.#connection.presences(asked.slice(i, i + ASKED_AT_ONCE));
      for (const presence of answers) this.#company.saw(presence);
    }
  }
}

/** Who doesn't look at the outcome sees it in the store. */
function quiet<Value>(promise: Promise<Value>): Promise<Value> {
  promise.catch(() => undefined);
  return promise;
}
