// The messages that aren't confirmed yet: the outbox shows each at once, sends those of a conversation in order, and
// retries each until the server accepts or refuses it.

import { contentError } from './content.js';
import { MessagesError } from './errors.js';
import type { Http } from './http.js';
import { messageId, uuidV7 } from './ids.js';
import type { Store } from './store.js';
import type { Message, Position } from './types.js';

/** A message to send. */
export interface Draft {
  /** Up to 4,000 characters; without anything visible only with attachments. */
  content: string;
  messageType?: Message['messageType'] | undefined;
  /** Up to 10. */
  attachments?: Message['attachments'] | undefined;
  /** The message that this one replies to. */
  replyToId?: string | null | undefined;
  /** The users to mention in addition to those whose `@id` is in the content. */
  mentions?: string[] | undefined;
}

/** How long a message is retried, in milliseconds. */
const RETRY_FOR_MS = 10 * 60_000;
/** How many messages may wait. */
const PENDING_MAX = 1_000;

interface PendingMessage {
  key: string;
  conversationId: string;
  draft: Draft;
}

/** The outbox of one client. */
export class Outbox {
  readonly #store: Store;
  readonly #http: Http;
  /** Called with the position of a confirmed message. */
  readonly #onSent: (position: Position) => void;
  /** By message id. A failed message stays until it is retried or discarded. */
  readonly #pending = new Map<string, PendingMessage>();
  /** The last message of each conversation that is being sent: the next one waits for it, to keep the order. */
  readonly #lastByConversation = new Map<string, Promise<unknown>>();

  constructor(store: Store, http: Http, onSent: (position: Position) => void) {
    this.#store = store;
    this.#http = http;
    this.#onSent = onSent;
  }

  /** Shows a message and sends it. */
  send(conversationId: string, draft: Draft): Promise<Message> {
    for (const id of this.#pending.keys()) if (!this.#store.message(id)?.pending) this.#pending.delete(id);
    if (this.#pending.size >= PENDING_MAX) {
      return Promise.reject(new MessagesError('too_many_pending', `${PENDING_MAX} messages are waiting to be sent`));
    }
    const key = uuidV7();
    const id = messageId(conversationId, this.#store.me, key);
    this.#pending.set(id, { key, conversationId, draft });
    this.#store.addPending({
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

  /** Sends a failed message again with its first key: if it did arrive, it stays one message. */
  retry(id: string): Promise<Message> {
    if (!this.#pending.has(id) || this.#store.message(id)?.pending !== 'failed') {
      return Promise.reject(new MessagesError('not_failed', 'no message with this id has failed'));
    }
    this.#store.updatePending(id, { pending: 'sending' });
    return this.#enqueue(id);
  }

  /** Removes a failed message. */
  discard(id: string): void {
    if (this.#store.message(id)?.pending !== 'failed') return;
    this.#pending.delete(id);
    this.#store.removePending(id);
  }

  /** Sends a message after those of its conversation that were sent before. */
  #enqueue(id: string): Promise<Message> {
    const conversationId = this.#pending.get(id)?.conversationId ?? '';
    const previous = this.#lastByConversation.get(conversationId) ?? Promise.resolve();
    const sent = previous.then(() => this.#post(id));
    const settled = sent.catch(() => undefined); // the store shows the failure, so the promise may be ignored
    this.#lastByConversation.set(conversationId, settled);
    void settled.then(() => {
      if (this.#lastByConversation.get(conversationId) === settled) this.#lastByConversation.delete(conversationId);
    });
    return sent;
  }

  async #post(id: string): Promise<Message> {
    const pending = this.#pending.get(id);
    if (!pending) throw new MessagesError('not_failed', 'the message was discarded');
    const { conversationId, key, draft } = pending;
    try {
      const refusal = contentError(draft.content, Boolean(draft.attachments?.length));
      if (refusal) throw refusal;
      const body = { action: 'message', conversationId, ...draft };
      const response = await this.#http.request<{ data: Message }>({
        method: 'POST', path: '/api/messages', body, key, retryForMs: RETRY_FOR_MS,
        onRetry: (error) => this.#store.updatePending(id, { pending: 'sending', error }),
      });
      this.#pending.delete(id);
      // A repeated response may be older than an edit of the message: without a position it replaces nothing newer.
      const position = response.replayed ? {} : { position: response.position };
      const message = { ...response.body.data, ...position };
      this.#store.upsertMessage(message);
      this.#onSent(response.position);
      return message;
    } catch (error) {
      const isKnown = error instanceof MessagesError;
      const failure = isKnown ? error : new MessagesError('unknown', String(error), { cause: error });
      this.#store.updatePending(id, { pending: 'failed', error: failure });
      throw failure;
    }
  }
}
