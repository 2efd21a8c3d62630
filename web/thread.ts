// What the open conversation shows, in order: days, where the unread begins, and messages with what their neighbours
// and readers say of them. No elements here.

import type { Client, Conversation, StoredMessage } from 'messages-client';
import type { Edit, Edits } from './edits.js';
import type { Shown } from './message.js';
import { sentence } from './notices.js';
import { names, others } from './people.js';
import { dayKey, dayName } from './times.js';

/** Messages of one sender so close together are one group. */
const TOGETHER_MS = 5 * 60_000;

/** One thing in the list. */
export type Item =
  | { kind: 'day'; id: string; text: string }
  | { kind: 'unread'; id: string }
  | ({ kind: 'message'; id: string } & Shown);

/** The first message that is unread, of those that are here, and whether earlier ones are. */
export function firstUnread(
  messages: readonly StoredMessage[], unread: number, me: string,
): { id: string | null; missing: boolean } {
  const others = messages.filter((message) => message.senderId !== me && !message.deletedAt);
  const first = unread > 0 ? others.at(-Math.min(unread, others.length)) : undefined;
  return { id: first?.id ?? null, missing: unread > others.length };
}

/** Who has read up to which of this user's messages. */
function readers(conversation: Conversation, messages: readonly StoredMessage[], me: string): Map<string, string[]> {
  const found = new Map<string, string[]>();
  for (const { userId, lastReadSeq } of conversation.participants) {
    if (userId === me) continue;
    const at = messages.findLast((message) => message.senderId === me && message.seq != null && message.seq <= lastReadSeq);
    if (at) found.set(at.id, [...(found.get(at.id) ?? []), userId]);
  }
  return found;
}

/** What is to be said while a message or an edit of it isn't confirmed. */
function unconfirmed({ pending, error }: StoredMessage, edit: Edit | undefined): string {
  if (pending === 'failed') return `Not sent. ${error ? sentence(error) : ''}`;
  // The library tries again by itself.
  if (pending) return error?.status === 429 ? 'Waiting: that was a lot at once. It goes on by itself.' : 'Sending…';
  if (edit) return edit.state === 'failed' ? `Not saved. ${sentence(edit.error)}` : 'Saving…';
  return '';
}

function receipt(readBy: string[] | undefined, newest: boolean, direct: boolean): string {
  if (readBy) return direct ? 'Read' : `Read by ${names(readBy)}`;
  return newest ? 'Sent' : '';
}

/** Everything that the conversation shows. */
export function thread(client: Client, conversation: Conversation, unreadFrom: string | null, edits: Edits): Item[] {
  const messages = client.messages(conversation.id);
  const { me } = client;
  const readBy = readers(conversation, messages, me);
  const direct = conversation.type === 'DIRECT' && others(conversation, me).length === 1;
  const newestOwn = messages.findLast((message) => message.senderId === me)?.id;
  const items: Item[] = [];
  let day = '';
  let before: StoredMessage | undefined;
  messages.forEach((message, i) => {
    const today = dayKey(message.createdAt);
    if (today !== day) {
      items.push({ kind: 'day', id: `day ${today}`, text: dayName(message.createdAt) });
      before = undefined;
    }
    day = today;
    if (message.id === unreadFrom) {
      items.push({ kind: 'unread', id: 'unread' });
      before = undefined;
    }
    const after = messages[i + 1];
    const edit = edits.of(message.id);
    items.push({
      kind: 'message',
      id: message.id,
      message,
      first: !together(before, message),
      last: !after || after.id === unreadFrom || !together(message, after),
      receipt: message.senderId === me && !message.deletedAt
        ? unconfirmed(message, edit) || receipt(readBy.get(message.id), message.id === newestOwn, direct) : '',
      quoted: message.replyToId ? client.message(message.replyToId) : undefined,
      edit,
    });
    before = message;
  });
  return items;
}

function together(a: StoredMessage | undefined, b: StoredMessage): boolean {
  return a !== undefined && a.senderId === b.senderId && dayKey(a.createdAt) === dayKey(b.createdAt)
    && Date.parse(b.createdAt) - Date.parse(a.createdAt) < TOGETHER_MS;
}
