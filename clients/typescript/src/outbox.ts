// Messages on their way: shown at once, sent in order, tried until there is an answer.

import type { Message, Position } from './contract.js';
import { MessagesError } from './errors.js';
import type { Http } from './http.js';
import { messageId, uuidV7 } from './ids.js';
import type { Store } from './store.js';

/** What to send. */
export interface Draft {
  /** Up to 4,000 characters. May be empty only with attachments. */
  content: string;
  messageType?: Message['messageType'] | undefined;
  /** Up to 10. */
  attachments?: Message['attachments'] | undefined;
  /** The message that it answers. */
  replyToId?: string | null | undefined;
  /** Whom it mentions besides those whose `@id` is in the content. */
  mentions?: string[] | undefined;
}

/** For how long a message is tried, in milliseconds. */
const PATIENCE_MS = 10 * 60_000;
/** How many messages may wait. */
const MOST = 1_000;

interface Waiting {
  key: string;
  conversationId: string;
  draft: Draft;
}

/** The messages of one client that aren't confirmed. */
export class Outbox {
  readonly #store: Store;
  readonly #http: Http;
  /** Is told where a message is in the log, or that it was sent before. */
  readonly #sent: (position: Position) => void;
  readonly #waiting = new Map<string, Waiting>();
  /** What was begun last in each conversation: the next waits for it, so that order stays. */
  readonly #last = new Map<string, Promise<unknown>>();

  constructor(store: Store, http: Http, sent: (position: Position) => void) {
    this.#store = store;
    this.#http = http;
    this.#sent = sent;
  }

  /** Shows a message and sends it. */
  send(conversationId: string, draft: Draft): Promise<Message> {
    for (const id of this.#waiting.keys()) if (!this.#store.message(id)?.pending) this.#waiting.delete(id);
    if (this.#waiting.size >= MOST) {
      return Promise.reject(new MessagesError('too_many_pending', `${MOST} messages wait to be sent already`));
    }
    const key = uuidV7();
    const id = messageId(conversationId, this.#store.me, key);
    this.#waiting.set(id, { key, conversationId, draft });
    this.#store.pend({
      id,
      conversationId,
      senderId: this.#store.me,
      content: draft.content,
      messageType: draft.messageType ?? 'TEXT',
      attachments: draft.attachments ?? [],
      mentions: draft.mentions ?? [],
      replyToId: draft.replyToId ?? null,
      reactions: [],
      createdAt: new Date().toISOString(),
      editedAt: null,
      deletedAt: null,
    });
    return this.#enqueue(id);
  }

  /** Sends one that failed again, under its first key: should it have arrived after all, it is one message. */
  retry(id: string): Promise<Message> {
    if (!this.#waiting.has(id) || this.#store.message(id)?.pending !== 'failed') {
      return Promise.reject(new MessagesError('not_failed', 'no message of that id has failed'));
    }
    this.#store.pending(id, { pending: 'sending' });
    return this.#enqueue(id);
  }

  /** Gives one up that failed. */
  discard(id: string): void {
    if (this.#store.message(id)?.pending !== 'failed') return;
    this.#waiting.delete(id);
    this.#store.pending(id, undefined);
  }

  #enqueue(id: string): Promise<Message> {
    const conversationId = this.#waiting.get(id)?.conversationId ?? '';
    const before = this.#last.get(conversationId) ?? Promise.resolve();
    const sent = before.then(() => this.#deliver(id));
    const settled = sent.catch(() => undefined); // who doesn't look at the promise sees it in the store
    this.#last.set(conversationId, settled);
    void settled.then(() => {
      if (this.#last.get(conversationId) === settled) this.#last.delete(conversationId);
    });
    return sent;
  }

  async #deliver(id: string): Promise<Message> {
    const waiting = this.#waiting.get(id);
    if (!waiting) throw new MessagesError('not_failed', 'it was discarded');
    const { conversationId, key, draft } = waiting;
    try {
      const body = { action: 'message', conversationId, ...draft };
      const answer = await this.#http.ask<{ data: Message }>({
        method: 'POST', path: '/api/messages', body, key, patience: PATIENCE_MS,
        failing: (error) => this.#store.pending(id, { pending: 'sending', error }),
      });
      this.#waiting.delete(id);
      // One that was sent before may have changed since: whatever is read of it is newer.
      const position = answer.replayed ? {} : { position: answer.position };
      const message = { ...answer.body.data, ...position };
      this.#store.read(message);
      this.#sent(answer.position);
      return message;
    } catch (error) {
      const failed = error instanceof MessagesError ? error : new MessagesError('unknown', String(error), { cause: error });
      this.#store.pending(id, { pending: 'failed', error: failed });
      throw failed;
    }
  }
}
