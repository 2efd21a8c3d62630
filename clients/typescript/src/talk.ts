// One conversation in the store: its value, its messages, and how far both reach.

import type { Change } from './changes.js';
import { offset, type Conversation, type Message, type Meta, type Position } from './contract.js';
import type { MessagesError } from './errors.js';

/** A message in the store. */
export type StoredMessage = Message & {
  /** Where it isn't confirmed yet: it is being sent, or was refused. */
  pending?: 'sending' | 'failed';
  /** Why it was refused; while it is being sent, why the last try came to nothing and there is another. */
  error?: MessagesError;
};

/** A message with what orders it. */
export interface Entry {
  value: StoredMessage;
  /** Its `seq`, or what that will be if nothing unheard of came between; infinite where nobody can tell. */
  order: number;
  /** Orders those of the same `order`: the offset at which it was first seen, beyond all offsets while pending. */
  born: number;
}

/** Conversations that nobody opened keep so many of their new messages. */
const KEPT = 1_000;
/** So many more may gather before the oldest are let go. */
const SLACK = 200;

/** One conversation. */
export class Talk {
  value: Conversation | undefined;
  readonly entries = new Map<string, Entry>();
  /**
   * Up to which `seq` messages were there when the client began: those are history, and what is above is new.
   * Unknown for conversations that weren't in the list then.
   */
  baseline: number | undefined;
  /** From this `seq` on all messages are here. */
  reach = Infinity;
  /** The cursor of the next older page; null when there is none, undefined until the first was read. */
  cursor: string | null | undefined;
  loading: Promise<void> | undefined;
  /** Changes to messages that weren't held, while a page is being read. */
  missed: (Change & { meta: Meta })[] = [];
  /** How far this user has read; people beyond the first fifty aren't among `participants`. */
  myRead: number | undefined;
  /** The newest `seq`, as far as it is known. */
  newest: number | undefined;
  #listed: readonly StoredMessage[] | undefined;

  /** The messages from `reach` on, the oldest first, and at their end those that are being sent. */
  get messages(): readonly StoredMessage[] {
    this.#listed ??= [...this.entries.values()]
      .filter((entry) => entry.order >= this.reach || !entry.value.seq)
      .sort((a, b) => (a.order === b.order ? a.born - b.born : a.order - b.order))
      .map((entry) => entry.value);
    return this.#listed;
  }

  /** Something about the messages changed. */
  touch(): void {
    this.#listed = undefined;
  }

  put(entry: Entry): void {
    this.entries.set(entry.value.id, entry);
    if (Number.isFinite(entry.order)) this.newest = Math.max(this.newest ?? 0, entry.order);
    this.touch();
  }

  remove(id: string): void {
    this.entries.delete(id);
    this.touch();
  }

  /** The order of a message that has just been delivered, after all others. */
  next(): number {
    return this.newest === undefined ? Infinity : this.newest + 1;
  }

  /** All from here on is here. */
  reachTo(seq: number): void {
    this.reach = Math.min(this.reach, seq);
    this.touch();
  }

  /** What began with the client, or later, is all here. */
  since(baseline: number): void {
    this.baseline ??= baseline;
    this.reachTo(this.baseline + 1);
  }

  /** Whether all messages between a read mark and the newest are here, and how many of them are unread then. */
  unreadAfter(mark: number, me: string): number | undefined {
    const later = [...this.entries.values()].filter(({ order, value }) => order > mark && !value.pending);
    if (this.newest === undefined || later.length !== this.newest - mark) return undefined;
    return later.filter(({ value }) => value.senderId !== me && !value.deletedAt).length;
  }

  /** Lets the oldest go where nobody looks at them, and says which: they can be read again. */
  trim(): string[] {
    if (this.cursor !== undefined || this.baseline === undefined || this.entries.size <= KEPT + SLACK) return [];
    const sorted = [...this.entries.values()].filter(({ value }) => value.seq).sort((a, b) => a.order - b.order);
    const gone = sorted.slice(0, -KEPT);
    for (const entry of gone) {
      this.entries.delete(entry.value.id);
      this.baseline = Math.max(this.baseline, entry.order);
    }
    this.reach = this.baseline + 1;
    this.touch();
    return gone.map(({ value }) => value.id);
  }

  /** Whether what is known of the conversation is newer than a position. */
  isNewer(position: Position | null | undefined): boolean {
    return offset(this.value?.position) > offset(position);
  }
}
