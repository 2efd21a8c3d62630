// The items of the open conversation in order: day dividers, the unread divider, and messages with what their
// neighbours and readers add. This module must not use elements.

import type { Client, Conversation, StoredMessage } from 'messages-client';
import type { Edit, Edits } from './edits.js';
import { errorSentence } from './errors.js';
import type { MessageItem } from './message.js';
import { joinNames, otherParticipants } from './people.js';
import { dayKey, dayName } from './times.js';

/** Messages of one sender within this time, in milliseconds, are one group. */
const GROUP_MS = 5 * 60_000;

export type TimelineItem =
  | { kind: 'day-divider'; id: string; text: string }
  | { kind: 'unread-divider'; id: string }
  | ({ kind: 'message'; id: string } & MessageItem);

/** The first unread message that is loaded, and whether earlier unread messages aren't loaded. */
export function firstUnread(
  messages: readonly StoredMessage[], unreadCount: number, me: string,
): { id: string | null; missing: boolean } {
  const incoming = messages.filter((message) => message.senderId !== me && !message.deletedAt);
  const first = unreadCount > 0 ? incoming.at(-Math.min(unreadCount, incoming.length)) : undefined;
  return { id: first?.id ?? null, missing: unreadCount > incoming.length };
}

/** By message id: the people who have read up to this message of this user. */
function readers(conversation: Conversation, messages: readonly StoredMessage[], me: string): Map<string, string[]> {
  const readersById = new Map<string, string[]>();
  for (const { userId, lastReadSeq } of conversation.participants) {
    if (userId === me) continue;
    const lastRead = messages.findLast(({ senderId, seq }) => senderId === me && seq != null && seq <= lastReadSeq);
    if (lastRead) readersById.set(lastRead.id, [...(readersById.get(lastRead.id) ?? []), userId]);
  }
  return readersById;
}

/** The text below a message while it, or an edit of it, isn't confirmed. */
function unconfirmedText({ pending, error }: StoredMessage, edit: Edit | undefined): string {
  if (pending === 'failed') return `Not sent. ${error ? errorSentence(error) : ''}`;
  if (pending) return error?.status === 429 ? 'You’re sending too fast. Retrying automatically.' : 'Sending…';
  if (edit) return edit.state === 'failed' ? `Not saved. ${errorSentence(edit.error)}` : 'Saving…';
  return '';
}

function receiptText(readBy: string[] | undefined, isNewest: boolean, isDirect: boolean): string {
  if (readBy) return isDirect ? 'Read' : `Read by ${joinNames(readBy)}`;
  return isNewest ? 'Sent' : '';
}

/** All items of a conversation. The unread divider stands before the message `unreadFrom`. */
export function timeline(
  client: Client, conversation: Conversation, unreadFrom: string | null, edits: Edits,
): TimelineItem[] {
  const messages = client.messages(conversation.id);
  const { me } = client;
  const readersById = readers(conversation, messages, me);
  const isDirect = conversation.type === 'DIRECT' && otherParticipants(conversation, me).length === 1;
  const newestOwnId = messages.findLast((message) => message.senderId === me)?.id;
  const items: TimelineItem[] = [];
  let lastDay = '';
  let previous: StoredMessage | undefined;
  messages.forEach((message, i) => {
    const day = dayKey(message.createdAt);
    if (day !== lastDay) {
      items.push({ kind: 'day-divider', id: `day ${day}`, text: dayName(message.createdAt) });
      previous = undefined;
    }
    lastDay = day;
    if (message.id === unreadFrom) {
      items.push({ kind: 'unread-divider', id: 'unread' });
      previous = undefined;
    }
    const next = messages[i + 1];
    const edit = edits.of(message.id);
    const isOwn = message.senderId === me && !message.deletedAt;
    const receipt = (): string => unconfirmedText(message, edit)
      || receiptText(readersById.get(message.id), message.id === newestOwnId, isDirect);
    items.push({
      kind: 'message',
      id: message.id,
      message,
      groupStart: !inOneGroup(previous, message),
      groupEnd: !next || next.id === unreadFrom || !inOneGroup(message, next),
      receipt: isOwn ? receipt() : '',
      quoted: message.replyToId ? client.message(message.replyToId) : undefined,
      edit,
    });
    previous = message;
  });
  return items;
}

function inOneGroup(a: StoredMessage | undefined, b: StoredMessage): boolean {
  return a !== undefined && a.senderId === b.senderId && dayKey(a.createdAt) === dayKey(b.createdAt)
    && Date.parse(b.createdAt) - Date.parse(a.createdAt) < GROUP_MS;
}
