// What this user has: conversations and messages as the server has them, and what changed with each step. Every value
// carries the position of its last change: an older one never replaces a newer one. Neither network nor time.

import { change, reactionDifferences, type Change } from './changes.js';
import { offset, type Conversation, type Delivery, type Message, type Position, type ReadMark } from './contract.js';
import type { Emitter } from './events.js';
import { Talk, type Entry, type StoredMessage } from './talk.js';
import { Telling } from './telling.js';

/** Makes what is pending come after everything that has an offset. */
const PENDING = Number.MAX_SAFE_INTEGER / 2;

/** The store. */
export class Store {
  /** Something here is a guess that the server would have to confirm, such as a `seq`. */
  unsettled = false;
  /** Whether every conversation is known: one that isn't here was begun since. */
  whole = false;
  /** Where the list doesn't reach, what is later than this is new: the last activity of its last conversation. */
  began = '';
  me = '';
  readonly #talks = new Map<string, Talk>();
  /** Where each message is, by its id. */
  readonly #where = new Map<string, Talk>();
  readonly #emitter: Emitter;
  readonly #telling: Telling;
  #listed: readonly Conversation[] | undefined;
  #pending = 0;

  constructor(emitter: Emitter) {
    this.#emitter = emitter;
    this.#telling = new Telling(emitter);
  }

  // ---- What is here

  /** All conversations, the most recently active first: the server's order. */
  get conversations(): readonly Conversation[] {
    this.#listed ??= [...this.#talks.values()].flatMap((talk) => talk.value ?? [])
      .sort((a, b) => compare(b.updatedAt, a.updatedAt) || compare(b.id, a.id));
    return this.#listed;
  }

  talk(id: string): Talk {
    const known = this.#talks.get(id);
    if (known) return known;
    const made = new Talk();
    this.#talks.set(id, made);
    return made;
  }

  message(id: string): StoredMessage | undefined {
    return this.#where.get(id)?.entries.get(id)?.value;
  }

  /** Conversations with something in their history read. */
  opened(): string[] {
    return [...this.#talks].filter(([, talk]) => talk.cursor !== undefined).map(([id]) => id);
  }

  /** Forgets everything but what is being sent. */
  reset(): void {
    const pending = [...this.#talks].flatMap(([id, talk]) =>
      [...talk.entries.values()].filter((entry) => entry.value.pending).map((entry) => ({ id, entry })));
    this.#telling.drop();
    this.#talks.clear();
    this.#where.clear();
    for (const { id, entry } of pending) this.#insert(this.talk(id), entry);
    Object.assign(this, { whole: false, unsettled: false });
    this.#changed();
  }

  /** Something about it changed that isn't in it. */
  note(): void {
    this.#emitter.note();
  }

  // ---- What is read

  /** Some of what was missed comes, `more` of it later: what happened is told once all is here, in order. */
  missed(apply: () => void, more: boolean): void {
    this.#telling.gather();
    apply();
    if (!more) this.#telling.release();
  }

  /** A conversation as the server has it; `first` while the client begins. */
  conversation(read: Conversation, first = false): void {
    const talk = this.talk(read.id);
    const created = !talk.value && !first && (this.whole || read.createdAt > this.began);
    if (first || created) talk.since(created ? 0 : read.lastMessage?.seq ?? 0);
    if (first && read.lastMessage && !talk.entries.has(read.lastMessage.id)) this.#insert(talk, entryOf(read.lastMessage));
    const newest = read.lastMessage?.seq ?? (read.lastMessage ? undefined : 0);
    if (newest !== undefined) talk.newest = Math.max(talk.newest ?? 0, newest);
    if (talk.isNewer(read.position)) {
      this.unsettled = true;
      return;
    }
    const before = talk.value;
    talk.value = read;
    for (const { userId, lastReadSeq } of read.participants) {
      if (userId === this.me) talk.myRead = lastReadSeq;
      const old = before?.participants.find((one) => one.userId === userId);
      if (old && lastReadSeq > old.lastReadSeq) this.#tellRead(read.id, userId, lastReadSeq);
    }
    if (created) this.#telling.tell('conversation:created', read);
    this.#changed();
  }

  /** A message as the server has it. One that changed, but isn't held and isn't new, is only worth telling with `tell`. */
  read(read: Message, tell = false): void {
    const talk = this.talk(read.conversationId);
    const known = talk.entries.get(read.id);
    if (!known || known.value.pending) {
      if (this.#isNew(talk, read)) {
        this.#arrive(talk, entryOf(read));
      } else {
        this.#insert(talk, entryOf(read));
        if (tell) this.#telling.tell('message:changed', read);
      }
      return;
    }
    if (read.seq) known.order = read.seq;
    if (offset(read.position) >= offset(known.value.position)) {
      this.#replace(talk, known, { ...read, ...seqOf(known.value), ...seqOf(read) });
    } else if (read.seq && !known.value.seq) {
      this.unsettled = true;
      this.#replace(talk, known, { ...known.value, seq: read.seq });
    }
  }

  /** A page of history, the newest first, and where the next one begins; what was delivered meanwhile is applied. */
  history(talk: Talk, page: Message[], cursor: string | null): void {
    for (const message of page) this.read(message);
    talk.cursor = cursor;
    talk.reachTo(cursor === null ? 0 : page.at(-1)?.seq ?? Infinity);
    for (const delivery of talk.missed.splice(0)) this.#change(delivery, delivery.meta.position);
    this.#changed();
  }

  /** A read mark as the server has it. */
  readMark({ conversationId, userId, lastReadSeq, lastReadAt }: ReadMark): void {
    const talk = this.talk(conversationId);
    const before = this.#markOf(talk, userId);
    if (before !== undefined && lastReadSeq < before) return; // they never move back
    this.#mark(talk, userId, lastReadSeq, lastReadAt);
    if (before === undefined || lastReadSeq > before) this.#tellRead(conversationId, userId, lastReadSeq);
  }

  // ---- What is delivered

  /** Applies a delivery that follows all that is known of its conversation. */
  deliver(delivery: Delivery): void {
    const { name, payload, meta: { position } } = delivery;
    if (name === 'message:new') this.#sent(payload, position);
    else if (name === 'conversation:created') this.#created(payload);
    else if (name === 'messages:read') this.#hasRead(payload, position);
    else this.#change(delivery, position);
  }

  #sent(payload: Message, position: Position): void {
    const talk = this.talk(payload.conversationId);
    const known = talk.entries.get(payload.id);
    if (known && !known.value.pending && Number.isFinite(known.order)) return;
    const last = talk.value?.lastMessage;
    const order = (last?.id === payload.id && last.seq) || talk.next();
    this.unsettled = true; // its `seq` is only read
    if (known && !known.value.pending) {
      this.#place(talk, { ...known, order }); // the answer came first, without saying what came before it
      return;
    }
    this.#arrive(talk, { value: { ...payload, position }, order, born: offset(position) });
  }

  #created(payload: Conversation): void {
    if (!this.talk(payload.id).value) this.conversation(payload);
  }

  #hasRead({ conversationId, userId, messageId }: { conversationId: string; userId: string; messageId: string | null }, position: Position): void {
    const talk = this.talk(conversationId);
    this.unsettled = true; // the time is only read
    const seq = messageId === null ? talk.newest : talk.entries.get(messageId)?.order;
    const before = this.#markOf(talk, userId);
    if (seq === undefined || !Number.isFinite(seq) || before === undefined || seq <= before) return;
    this.#mark(talk, userId, seq, this.#markTime(talk, userId));
    if (userId === this.me) this.#unread(talk, talk.unreadAfter(seq, this.me));
    this.#moved(talk, position);
    this.#tellRead(conversationId, userId, seq);
  }

  #change(delivery: Change, position: Position): void {
    const { payload } = delivery;
    const id = 'messageId' in payload ? payload.messageId : payload.id;
    const talk = this.talk(payload.conversationId);
    const known = talk.entries.get(id);
    if (!known) {
      this.unsettled = true; // `sync` brings it as it is now
      if (talk.loading) talk.missed.push(delivery); // the page that is being read may lack it
      return;
    }
    if (offset(position) <= offset(known.value.position)) return;
    const { value, changed, unsure } = change(known.value, delivery);
    if (unsure) this.unsettled = true;
    if (!changed) return;
    this.#replace(talk, known, { ...value, position });
    this.#moved(talk, position);
    if (delivery.name === 'message:deleted') this.#lessUnread(talk, known);
  }

  // ---- What this user does

  /** Shows a message before it is confirmed. */
  pend(message: Message): void {
    const talk = this.talk(message.conversationId);
    if (talk.entries.has(message.id)) return;
    this.#pending += 1;
    this.#insert(talk, { value: { ...message, pending: 'sending' }, order: Infinity, born: PENDING + this.#pending });
  }

  /** Changes how a message that isn't confirmed is shown; undefined takes it away. */
  pending(id: string, how: Pick<StoredMessage, 'pending' | 'error'> | undefined): void {
    const talk = this.#where.get(id);
    const entry = talk?.entries.get(id);
    if (!talk || !entry?.value.pending) return;
    if (how) {
      const { error: _, ...value } = entry.value;
      entry.value = { ...value, ...how };
      talk.touch();
    } else {
      talk.remove(id);
      this.#where.delete(id);
    }
    this.#changed();
  }

  // ---- Steps of the above

  #isNew(talk: Talk, message: Message): boolean {
    if (talk.entries.get(message.id)?.value.pending) return true;
    if (talk.baseline === undefined) return message.createdAt > this.began;
    return !message.seq || message.seq > talk.baseline;
  }

  /** A message that is new: everyone is told once, for the next time it is known. */
  #arrive(talk: Talk, entry: Entry): void {
    const { value } = entry;
    this.#insert(talk, entry);
    if (talk.value && offset(value.position) > offset(talk.value.position)) {
      const updatedAt = value.createdAt > talk.value.updatedAt ? value.createdAt : talk.value.updatedAt;
      const unreadCount = value.senderId === this.me ? 0 : talk.value.unreadCount + (value.deletedAt ? 0 : 1);
      talk.value = { ...talk.value, lastMessage: value, updatedAt, unreadCount };
      this.#moved(talk, value.position);
    }
    this.#place(talk, entry);
    for (const id of talk.trim()) this.#where.delete(id);
    this.#tellNew(entry);
  }

  /** One that was deleted before anyone here saw it isn't new to anyone: it is only told that it is gone. */
  #tellNew({ value }: Entry): void {
    const { id, conversationId } = value;
    if (value.deletedAt) {
      this.#telling.tell('message:deleted', value);
      return;
    }
    const order = (): number => this.#talks.get(conversationId)?.entries.get(id)?.order ?? Infinity;
    this.#telling.tell('message:new', value, order);
    if (value.senderId !== this.me && value.mentions.includes(this.me)) this.#telling.tell('mention:new', value, order);
  }

  /** A new message has its place: who wrote it has read what is above. */
  #place(talk: Talk, entry: Entry): void {
    talk.put(entry);
    if (!Number.isFinite(entry.order)) return;
    talk.reachTo(entry.order);
    const before = this.#markOf(talk, entry.value.senderId);
    if (before !== undefined && before < entry.order) this.#mark(talk, entry.value.senderId, entry.order, entry.value.createdAt);
    this.#changed();
  }

  #insert(talk: Talk, entry: Entry): void {
    talk.put(entry);
    this.#where.set(entry.value.id, talk);
    this.#changed();
  }

  /** Another state of a message that is held: tells what is different. */
  #replace(talk: Talk, entry: Entry, value: StoredMessage): void {
    const before = entry.value;
    entry.value = value;
    talk.put(entry);
    const last = talk.value?.lastMessage;
    if (talk.value && last?.id === value.id && offset(last.position) <= offset(value.position)) {
      talk.value = { ...talk.value, lastMessage: value };
    }
    this.#changed();
    if (value.deletedAt && !before.deletedAt) {
      this.#telling.tell('message:deleted', value);
      return;
    }
    if (value.editedAt !== before.editedAt || value.content !== before.content) this.#telling.tell('message:edited', value);
    for (const { name, reacted } of reactionDifferences(before, value)) {
      this.#telling.tell(name, { messageId: value.id, conversationId: value.conversationId, ...reacted });
    }
  }

  #markOf(talk: Talk, userId: string): number | undefined {
    const named = talk.value?.participants.find((one) => one.userId === userId)?.lastReadSeq;
    return named ?? (userId === this.me ? talk.myRead : undefined);
  }

  #markTime(talk: Talk, userId: string): string | null {
    return talk.value?.participants.find((one) => one.userId === userId)?.lastReadAt ?? null;
  }

  #mark(talk: Talk, userId: string, lastReadSeq: number, lastReadAt: string | null): void {
    if (userId === this.me) talk.myRead = lastReadSeq;
    if (!talk.value?.participants.some((one) => one.userId === userId)) return;
    const participants = talk.value.participants.map((one) => (one.userId === userId ? { userId, lastReadSeq, lastReadAt } : one));
    talk.value = { ...talk.value, participants };
    this.#changed();
  }

  #lessUnread(talk: Talk, { order, value }: Entry): void {
    if (!talk.value || value.senderId === this.me) return;
    if (talk.myRead === undefined || !Number.isFinite(order)) this.unsettled = true;
    else if (order > talk.myRead) this.#unread(talk, Math.max(talk.value.unreadCount - 1, 0));
  }

  #unread(talk: Talk, unreadCount: number | undefined): void {
    if (unreadCount === undefined) this.unsettled = true;
    else if (talk.value) talk.value = { ...talk.value, unreadCount };
    this.#changed();
  }

  /** The conversation's last change is this. */
  #moved(talk: Talk, position: Position | null | undefined): void {
    if (!talk.value) this.unsettled = true;
    else if (position && !talk.isNewer(position)) talk.value = { ...talk.value, position };
    this.#changed();
  }

  #tellRead(conversationId: string, userId: string, lastReadSeq: number): void {
    this.#telling.tell('messages:read', { conversationId, userId, lastReadSeq });
  }

  #changed(): void {
    this.#listed = undefined;
    this.#emitter.note();
  }
}

const compare = (a: string, b: string): number => (a < b ? -1 : Number(a > b));
const seqOf = ({ seq }: Message): Pick<Message, 'seq'> => (seq === undefined ? {} : { seq });
const entryOf = (value: Message): Entry => ({ value, order: value.seq ?? Infinity, born: offset(value.position) });
