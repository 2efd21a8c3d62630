// The conversations and messages of this user as the server has them, and the events that each change causes. Every
// value carries the position of its last change, and an older value never replaces a newer one. The store must never
// use the network or the time.

import { ConversationState, type Entry, type StoredMessage } from './conversation-state.js';
import { EventQueue } from './event-queue.js';
import type { Emitter } from './events.js';
import { reactionDifferences, reduceMessage, type MessageChange } from './reducers.js';
import {
  offset, type Conversation, type Delivery, type Frames, type Message, type Position, type ReadMark,
} from './types.js';

/** The tie-breakers of pending messages start here, beyond every offset. */
const PENDING_TIE_BREAKER = Number.MAX_SAFE_INTEGER / 2;

/** The store of one client. */
export class Store {
  /** Whether the store contains a guess that only the server can confirm, such as a `seq`. */
  unconfirmed = false;
  /** Whether every conversation is loaded: another one must be new. */
  hasAllConversations = false;
  /** The last activity of the last loaded conversation: in a conversation beyond it, what is later counts as new. */
  newSince = '';
  me = '';
  readonly #states = new Map<string, ConversationState>();
  /** The conversation of each message, by message id. */
  readonly #stateOfMessage = new Map<string, ConversationState>();
  readonly #emitter: Emitter;
  readonly #events: EventQueue;
  #sortedConversations: readonly Conversation[] | undefined;
  #pendingCount = 0;

  constructor(emitter: Emitter) {
    this.#emitter = emitter;
    this.#events = new EventQueue(emitter);
  }

  // ---- Queries

  /** All conversations, the most recently active first, as the server sorts them. */
  get conversations(): readonly Conversation[] {
    this.#sortedConversations ??= [...this.#states.values()].flatMap((state) => state.value ?? [])
      .sort((a, b) => compare(b.updatedAt, a.updatedAt) || compare(b.id, a.id));
    return this.#sortedConversations;
  }

  /** The state of a conversation, which may have no value yet. */
  conversationState(id: string): ConversationState {
    const known = this.#states.get(id);
    if (known) return known;
    const created = new ConversationState();
    this.#states.set(id, created);
    return created;
  }

  message(id: string): StoredMessage | undefined {
    return this.#stateOfMessage.get(id)?.entries.get(id)?.value;
  }

  /** How far this user has read a conversation; undefined where the client doesn't know. */
  ownLastReadSeq(conversationId: string): number | undefined {
    return this.#lastReadSeqOf(this.conversationState(conversationId), this.me);
  }

  /** The ids of the conversations with loaded history. */
  idsWithHistory(): string[] {
    return [...this.#states].filter(([, state]) => state.historyCursor !== undefined).map(([id]) => id);
  }

  /** Removes everything but the messages that are being sent. */
  reset(): void {
    const pending = [...this.#states].flatMap(([id, state]) =>
      [...state.entries.values()].filter((entry) => entry.value.pending).map((entry) => ({ id, entry })));
    this.#events.discard();
    this.#states.clear();
    this.#stateOfMessage.clear();
    for (const { id, entry } of pending) this.#insert(this.conversationState(id), entry);
    Object.assign(this, { hasAllConversations: false, unconfirmed: false });
    this.#changed();
  }

  /** Notifies the subscribers of a change that isn't in the values, such as the start of a load. */
  notify(): void {
    this.#emitter.notify();
  }

  // ---- Values from the HTTP API

  /** Applies a part of a catch-up. Its events are emitted in order after the last part. */
  applyCatchUp(apply: () => void, more: boolean): void {
    this.#events.collect();
    apply();
    if (!more) this.#events.release();
  }

  /** Stores a conversation; `initial` while the client starts. */
  upsertConversation(conversation: Conversation, initial = false): void {
    const { lastMessage } = conversation;
    const state = this.conversationState(conversation.id);
    const created = !state.value && !initial && (this.hasAllConversations || conversation.createdAt > this.newSince);
    if (initial || created) state.setBaseline(created ? 0 : lastMessage?.seq ?? 0);
    if (initial && lastMessage && !state.entries.has(lastMessage.id)) this.#insert(state, entryOf(lastMessage));
    const newestSeq = lastMessage?.seq ?? (lastMessage ? undefined : 0);
    if (newestSeq !== undefined) state.newestSeq = Math.max(state.newestSeq ?? 0, newestSeq);
    if (state.isNewerThan(conversation.position)) {
      this.unconfirmed = true;
      return;
    }
    const before = state.value;
    state.value = conversation;
    for (const { userId, lastReadSeq } of conversation.participants) {
      const old = before?.participants.find((participant) => participant.userId === userId);
      if (old && lastReadSeq > old.lastReadSeq) this.#emitRead(conversation.id, userId, lastReadSeq);
    }
    if (created) this.#events.emit('conversation:created', conversation);
    this.#changed();
  }

  /** Stores a message. `emitChanged`: emits `message:changed` for one that is neither held nor new. */
  upsertMessage(message: Message, emitChanged = false): void {
    const state = this.conversationState(message.conversationId);
    const known = state.entries.get(message.id);
    if (!known || known.value.pending) {
      if (this.#isNew(state, message)) {
        this.#addNewMessage(state, entryOf(message));
      } else {
        this.#insert(state, entryOf(message));
        if (emitChanged) this.#events.emit('message:changed', message);
      }
      return;
    }
    if (message.seq) known.order = message.seq;
    if (offset(message.position) >= offset(known.value.position)) {
      this.#replace(state, known, { ...message, ...seqOf(known.value), ...seqOf(message) });
    } else if (message.seq && !known.value.seq) {
      this.unconfirmed = true;
      this.#replace(state, known, { ...known.value, seq: message.seq });
    }
  }

  /** Stores a page of history, the newest first, and the cursor of the next page. */
  addHistoryPage(state: ConversationState, page: Message[], nextCursor: string | null): void {
    for (const message of page) this.upsertMessage(message);
    state.historyCursor = nextCursor;
    state.extendLoadedTo(nextCursor === null ? 0 : page.at(-1)?.seq ?? Infinity);
    // The page may lack the changes that were delivered while it was being loaded.
    for (const change of state.changesWhileLoading.splice(0)) this.#applyChange(change, change.meta.position);
    this.#changed();
  }

  upsertReadMark({ conversationId, userId, lastReadSeq, lastReadAt }: ReadMark): void {
    const state = this.conversationState(conversationId);
    const before = this.#lastReadSeqOf(state, userId);
    if (before !== undefined && lastReadSeq < before) return; // a read mark never moves back
    this.#setReadMark(state, userId, lastReadSeq, lastReadAt);
    if (before === undefined || lastReadSeq > before) this.#emitRead(conversationId, userId, lastReadSeq);
  }

  // ---- Deliveries

  /** Applies a delivery. Every earlier change of its conversation has been applied. */
  applyDelivery(delivery: Delivery): void {
    const { name, payload, meta: { position } } = delivery;
    if (name === 'message:new') this.#applyNewMessage(payload, position);
    else if (name === 'conversation:created') this.#applyNewConversation(payload);
    else if (name === 'messages:read') this.#applyRead(payload, position);
    else this.#applyChange(delivery, position);
  }

  #applyNewMessage(message: Message, position: Position): void {
    const state = this.conversationState(message.conversationId);
    const known = state.entries.get(message.id);
    if (known && !known.value.pending && Number.isFinite(known.order)) return;
    const last = state.value?.lastMessage;
    const order = (last?.id === message.id && last.seq) || state.nextOrder();
    this.unconfirmed = true; // deliveries contain no `seq`
    if (known && !known.value.pending) {
      this.#place(state, { ...known, order }); // the response came first and didn't name the messages before it
      return;
    }
    this.#addNewMessage(state, { value: { ...message, position }, order, tieBreaker: offset(position) });
  }

  #applyNewConversation(conversation: Conversation): void {
    if (!this.conversationState(conversation.id).value) this.upsertConversation(conversation);
  }

  #applyRead({ conversationId, userId, messageId }: Frames['messages:read'], position: Position): void {
    const state = this.conversationState(conversationId);
    this.unconfirmed = true; // deliveries don't contain the time of a read mark
    const seq = messageId === null ? state.newestSeq : state.entries.get(messageId)?.order;
    const before = this.#lastReadSeqOf(state, userId);
    if (seq === undefined || !Number.isFinite(seq) || before === undefined || seq <= before) return;
    this.#setReadMark(state, userId, seq, this.#lastReadAtOf(state, userId));
    if (userId === this.me) this.#setUnreadCount(state, state.countUnreadAfter(seq, this.me));
    this.#advancePosition(state, position);
    this.#emitRead(conversationId, userId, seq);
  }

  #applyChange(change: MessageChange & Delivery, position: Position): void {
    const { payload } = change;
    const id = 'messageId' in payload ? payload.messageId : payload.id;
    const state = this.conversationState(payload.conversationId);
    const known = state.entries.get(id);
    if (!known) {
      this.unconfirmed = true; // a sync returns the message as it is now
      if (state.loading) state.changesWhileLoading.push(change); // the page may lack this change
      return;
    }
    if (offset(position) <= offset(known.value.position)) return;
    const { value, changed, uncertain } = reduceMessage(known.value, change);
    if (uncertain) this.unconfirmed = true;
    if (!changed) return;
    this.#replace(state, known, { ...value, position });
    this.#advancePosition(state, position);
    if (change.name === 'message:deleted') this.#decrementUnread(state, known);
  }

  // ---- Messages that this user is sending

  /** Shows a message before the server confirms it. */
  addPending(message: Message): void {
    const state = this.conversationState(message.conversationId);
    if (state.entries.has(message.id)) return;
    this.#pendingCount += 1;
    const tieBreaker = PENDING_TIE_BREAKER + this.#pendingCount;
    this.#insert(state, { value: { ...message, pending: 'sending' }, order: Infinity, tieBreaker });
  }

  /** Replaces the status of a message that the server hasn't confirmed. */
  updatePending(id: string, status: Pick<StoredMessage, 'pending' | 'error'>): void {
    const state = this.#stateOfMessage.get(id);
    const entry = state?.entries.get(id);
    if (!state || !entry?.value.pending) return;
    const { error: _, ...value } = entry.value;
    entry.value = { ...value, ...status };
    state.messagesChanged();
    this.#changed();
  }

  /** Removes a message that the server hasn't confirmed. */
  removePending(id: string): void {
    const state = this.#stateOfMessage.get(id);
    if (!state?.entries.get(id)?.value.pending) return;
    state.remove(id);
    this.#stateOfMessage.delete(id);
    this.#changed();
  }

  // ---- Steps of the methods above

  #isNew(state: ConversationState, message: Message): boolean {
    if (state.entries.get(message.id)?.value.pending) return true;
    if (state.baselineSeq === undefined) return message.createdAt > this.newSince;
    return !message.seq || message.seq > state.baselineSeq;
  }

  /** Adds a new message, updates its conversation, and emits the message once. */
  #addNewMessage(state: ConversationState, entry: Entry): void {
    const { value } = entry;
    this.#insert(state, entry);
    if (state.value && offset(value.position) > offset(state.value.position)) {
      const updatedAt = value.createdAt > state.value.updatedAt ? value.createdAt : state.value.updatedAt;
      const unreadCount = value.senderId === this.me ? 0 : state.value.unreadCount + (value.deletedAt ? 0 : 1);
      state.value = { ...state.value, lastMessage: value, updatedAt, unreadCount };
      this.#advancePosition(state, value.position);
    }
    this.#place(state, entry);
    for (const id of state.trim()) this.#stateOfMessage.delete(id);
    this.#emitNewMessage(entry);
  }

  /** A message that was deleted before the client saw it is emitted as deleted, never as new. */
  #emitNewMessage({ value }: Entry): void {
    const { id, conversationId } = value;
    if (value.deletedAt) {
      this.#events.emit('message:deleted', value);
      return;
    }
    const order = (): number => this.#states.get(conversationId)?.entries.get(id)?.order ?? Infinity;
    this.#events.emit('message:new', value, order);
    if (value.senderId !== this.me && value.mentions.includes(this.me)) this.#events.emit('mention:new', value, order);
  }

  /** Gives a new message its place. Its sender has read everything before it. */
  #place(state: ConversationState, entry: Entry): void {
    state.put(entry);
    if (!Number.isFinite(entry.order)) return;
    state.extendLoadedTo(entry.order);
    const { senderId, createdAt } = entry.value;
    const before = this.#lastReadSeqOf(state, senderId);
    if (before !== undefined && before < entry.order) this.#setReadMark(state, senderId, entry.order, createdAt);
    this.#changed();
  }

  #insert(state: ConversationState, entry: Entry): void {
    state.put(entry);
    this.#stateOfMessage.set(entry.value.id, state);
    this.#changed();
  }

  /** Replaces the value of a held message and emits the differences. */
  #replace(state: ConversationState, entry: Entry, value: StoredMessage): void {
    const before = entry.value;
    entry.value = value;
    state.put(entry);
    const last = state.value?.lastMessage;
    if (state.value && last?.id === value.id && offset(last.position) <= offset(value.position)) {
      state.value = { ...state.value, lastMessage: value };
    }
    this.#changed();
    if (value.deletedAt && !before.deletedAt) {
      this.#events.emit('message:deleted', value);
      return;
    }
    const edited = value.editedAt !== before.editedAt || value.content !== before.content;
    if (edited) this.#events.emit('message:edited', value);
    for (const { name, reaction } of reactionDifferences(before, value)) {
      this.#events.emit(name, { messageId: value.id, conversationId: value.conversationId, ...reaction });
    }
  }

  #lastReadSeqOf(state: ConversationState, userId: string): number | undefined {
    const named = state.value?.participants.find((participant) => participant.userId === userId)?.lastReadSeq;
    return named ?? (userId === this.me ? state.ownLastReadSeq : undefined);
  }

  #lastReadAtOf(state: ConversationState, userId: string): string | null {
    return state.value?.participants.find((participant) => participant.userId === userId)?.lastReadAt ?? null;
  }

  #setReadMark(state: ConversationState, userId: string, lastReadSeq: number, lastReadAt: string | null): void {
    if (userId === this.me) state.ownLastReadSeq = lastReadSeq;
    if (!state.value?.participants.some((participant) => participant.userId === userId)) return;
    const participants = state.value.participants.map(
      (participant) => (participant.userId === userId ? { userId, lastReadSeq, lastReadAt } : participant),
    );
    state.value = { ...state.value, participants };
    this.#changed();
  }

  #decrementUnread(state: ConversationState, { order, value }: Entry): void {
    if (!state.value || value.senderId === this.me) return;
    const lastReadSeq = this.#lastReadSeqOf(state, this.me);
    if (lastReadSeq === undefined || !Number.isFinite(order)) this.unconfirmed = true;
    else if (order > lastReadSeq) this.#setUnreadCount(state, Math.max(state.value.unreadCount - 1, 0));
  }

  #setUnreadCount(state: ConversationState, unreadCount: number | undefined): void {
    if (unreadCount === undefined) this.unconfirmed = true;
    else if (state.value) state.value = { ...state.value, unreadCount };
    this.#changed();
  }

  /** Records that the last change of a conversation is at this position. */
  #advancePosition(state: ConversationState, position: Position | null | undefined): void {
    if (!state.value) this.unconfirmed = true;
    else if (position && !state.isNewerThan(position)) state.value = { ...state.value, position };
    this.#changed();
  }

  #emitRead(conversationId: string, userId: string, lastReadSeq: number): void {
    this.#events.emit('messages:read', { conversationId, userId, lastReadSeq });
  }

  #changed(): void {
    this.#sortedConversations = undefined;
    this.#emitter.notify();
  }
}

const compare = (a: string, b: string): number => (a < b ? -1 : Number(a > b));
const seqOf = ({ seq }: Message): Pick<Message, 'seq'> => (seq === undefined ? {} : { seq });
const entryOf = (value: Message): Entry =>
  ({ value, order: value.seq ?? Infinity, tieBreaker: offset(value.position) });
