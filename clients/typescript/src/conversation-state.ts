// One conversation in the store: its value, its messages, and how much of its history is loaded.

import type { MessagesError } from './errors.js';
import type { MessageChange } from './reducers.js';
import { offset, type Conversation, type Message, type Meta, type Position } from './types.js';

/** A message in the store. */
export type StoredMessage = Message & {
  /** Set while the server hasn't confirmed the message: the client is sending it, or the server refused it. */
  pending?: 'sending' | 'failed';
  /** Why the message failed; while it is being sent, why the last attempt failed and another one follows. */
  error?: MessagesError;
};

/** A message and its place in the conversation. */
export interface Entry {
  value: StoredMessage;
  /** The `seq`, or the expected one if no unknown message is in between; infinite where it can't be known. */
  order: number;
  /** Decides between equal `order`s: the offset at which the message first appeared, beyond all offsets if pending. */
  tieBreaker: number;
}

/** How many new messages a conversation keeps whose history nobody has loaded. */
const KEPT_MESSAGES = 1_000;
/** How many more may accumulate before the oldest are removed. */
const TRIM_SLACK = 200;

/** The state of one conversation. */
export class ConversationState {
  value: Conversation | undefined;
  readonly entries = new Map<string, Entry>();
  /**
   * The last `seq` when the client started: messages up to it are history, later ones are new. Undefined for a
   * conversation that wasn't in the list at that time.
   */
  baselineSeq: number | undefined;
  /** All messages from this `seq` on are loaded. */
  loadedFromSeq = Infinity;
  /** The cursor of the next older page: null if there is none, undefined before the first page. */
  historyCursor: string | null | undefined;
  loading: Promise<void> | undefined;
  /** Deliveries about messages that weren't held, received while a page is being loaded. */
  changesWhileLoading: (MessageChange & { meta: Meta })[] = [];
  /** How far this user has read, where `participants` doesn't tell: it contains only the first fifty people. */
  ownLastReadSeq: number | undefined;
  /** The newest `seq` that the client knows of. */
  newestSeq: number | undefined;
  #visibleMessages: readonly StoredMessage[] | undefined;

  /** The messages from `loadedFromSeq` on, the oldest first, followed by those that are being sent. */
  get messages(): readonly StoredMessage[] {
    this.#visibleMessages ??= [...this.entries.values()]
      .filter((entry) => entry.order >= this.loadedFromSeq || !entry.value.seq)
      .sort((a, b) => (a.order === b.order ? a.tieBreaker - b.tieBreaker : a.order - b.order))
      .map((entry) => entry.value);
    return this.#visibleMessages;
  }

  /** Discards the sorted list after a change of the messages. */
  messagesChanged(): void {
    this.#visibleMessages = undefined;
  }

  put(entry: Entry): void {
    this.entries.set(entry.value.id, entry);
    if (Number.isFinite(entry.order)) this.newestSeq = Math.max(this.newestSeq ?? 0, entry.order);
    this.messagesChanged();
  }

  remove(id: string): void {
    this.entries.delete(id);
    this.messagesChanged();
  }

  /** The order of a message that has just been delivered: after all others. */
  nextOrder(): number {
    return this.newestSeq === undefined ? Infinity : this.newestSeq + 1;
  }

  /** Records that all messages from a `seq` on are loaded. */
  extendLoadedTo(seq: number): void {
    this.loadedFromSeq = Math.min(this.loadedFromSeq, seq);
    this.messagesChanged();
  }

  /** Sets the baseline once: the client holds every message after it. */
  setBaseline(seq: number): void {
    this.baselineSeq ??= seq;
    this.extendLoadedTo(this.baselineSeq + 1);
  }

  /** How many messages after a read mark are unread; undefined unless all of them are loaded. */
  countUnreadAfter(lastReadSeq: number, me: string): number | undefined {
    const later = [...this.entries.values()].filter(({ order, value }) => order > lastReadSeq && !value.pending);
    if (this.newestSeq === undefined || later.length !== this.newestSeq - lastReadSeq) return undefined;
    return later.filter(({ value }) => value.senderId !== me && !value.deletedAt).length;
  }

  /**
   * Removes the oldest messages of a conversation whose history nobody has loaded, and returns their ids. The
   * application can load them again.
   */
  trim(): string[] {
    const historyLoaded = this.historyCursor !== undefined;
    if (historyLoaded || this.baselineSeq === undefined || this.entries.size <= KEPT_MESSAGES + TRIM_SLACK) return [];
    const sorted = [...this.entries.values()].filter(({ value }) => value.seq).sort((a, b) => a.order - b.order);
    const removed = sorted.slice(0, -KEPT_MESSAGES);
    for (const entry of removed) {
      this.entries.delete(entry.value.id);
      this.baselineSeq = Math.max(this.baselineSeq, entry.order);
    }
    this.loadedFromSeq = this.baselineSeq + 1;
    this.messagesChanged();
    return removed.map(({ value }) => value.id);
  }

  /** Whether the held conversation is newer than a position. */
  isNewerThan(position: Position | null | undefined): boolean {
    return offset(this.value?.position) > offset(position);
  }
}
