// A fold of the topic of its own, written after docs/events.md: it shares no code with the server.

import { createHash } from 'node:crypto';

const NAMESPACE = Buffer.from('8f1d6c5e3b0a4e5c9d275a4c7e21b6f0', 'hex');
/** How many participants a conversation shows, and how many users a reaction. */
const PARTICIPANTS_SHOWN = 50;
const USERS_SHOWN = 20;
/** Events that change no state. */
const WITHOUT_EFFECT = new Set(['TYPING_START', 'TYPING_STOP', 'MENTION_NOTIFICATION']);

/** An emoji without variation selectors: equal for two emoji that are the same. */
export const plainEmoji = (emoji) => emoji.replace(/[\uFE0E\uFE0F]/g, '');

/** The UUID of version 5 that the server derives from these texts. */
export function derivedId(...texts) {
  const bytes = createHash('sha1').update(NAMESPACE).update(JSON.stringify(texts)).digest().subarray(0, 16);
  bytes[6] = (bytes[6] % 16) + 0x50;
  bytes[8] = (bytes[8] % 64) + 0x80;
  return bytes.toString('hex').replace(/^(.{8})(.{4})(.{4})(.{4})/, '$1-$2-$3-$4-');
}

/** The event of a record; undefined if the record is none. */
export function eventOf(record) {
  try {
    const event = JSON.parse(record.value);
    return event?.eventId && event.type && event.data ? event : undefined;
  } catch {
    return undefined;
  }
}

/** The state that the records of a topic fold to. They come in the order of their partitions. */
export class Fold {
  conversations = new Map();
  /** By conversation and message. */
  messages = new Map();
  /** The events that counted: by conversation and event, its record's position. */
  applied = new Map();
  #keys = new Set();

  constructor(records) {
    for (const record of records) {
      const event = eventOf(record);
      if (event && !WITHOUT_EFFECT.has(event.type)) this.#add(event, `${record.partition}:${record.offset}`);
    }
  }

  message(conversationId, messageId) {
    return this.messages.get(`${conversationId} ${messageId}`);
  }

  /** The conversations of a user, the most recently active first. */
  conversationsOf(user) {
    const own = [...this.conversations.values()].filter(({ members }) => members.has(user));
    return own.sort((a, b) => compare(b.updatedAt, a.updatedAt) || compare(b.id, a.id));
  }

  #add(event, position) {
    const { conversationId, eventId, actorId, idempotencyKey, type, data } = event;
    const id = `${conversationId} ${eventId}`;
    const key = idempotencyKey && JSON.stringify([conversationId, actorId, idempotencyKey]);
    if (this.applied.has(id) || this.#keys.has(key)) return;
    this.applied.set(id, { position, actorId: key ? actorId : null, idempotencyKey: idempotencyKey ?? null });
    if (key) this.#keys.add(key);
    const conversation = this.conversations.get(conversationId);
    if (type === 'CONVERSATION_CREATED') {
      if (!conversation) this.#create(event, position);
      return;
    }
    const member = conversation?.members.get(actorId);
    if (!member) return;
    const context = { conversation, member, event, position, message: this.message(conversationId, data.messageId) };
    const changed = {
      MESSAGE_SENT: () => this.#send(context),
      MESSAGES_READ: () => read(context),
      MESSAGE_EDITED: () => edit(context),
      MESSAGE_DELETED: () => remove(context),
      REACTION_ADDED: () => react(context),
      REACTION_REMOVED: () => unreact(context),
    }[type]?.();
    if (changed) conversation.position = position;
  }

  #create({ conversationId: id, occurredAt, data }, position) {
    const members = new Map();
    for (const userId of data.participantIds) {
      if (members.has(userId)) continue;
      members.set(userId, { userId, ordinal: members.size, lastReadSeq: 0, lastReadAt: null, position });
    }
    if (members.size === 0) return;
    this.conversations.set(id, {
      id, type: data.type, title: data.title ?? null, members, messages: [],
      createdAt: occurredAt, updatedAt: occurredAt, position,
    });
  }

  #send({ conversation, member, event, position, message }) {
    if (message) return false;
    const { messageId, content, messageType, attachments, mentions, replyToId } = event.data;
    const sent = {
      id: messageId, conversationId: conversation.id, seq: conversation.messages.length + 1, position,
      senderId: event.actorId, content, messageType: messageType ?? 'TEXT', attachments: attachments ?? [],
      mentions: mentions ?? [], replyToId: replyToId ?? null, reactions: [],
      createdAt: event.occurredAt, editedAt: null, deletedAt: null,
    };
    conversation.messages.push(sent);
    this.messages.set(`${conversation.id} ${messageId}`, sent);
    if (event.occurredAt > conversation.updatedAt) conversation.updatedAt = event.occurredAt;
    advance(member, sent.seq, event.occurredAt, position);
    return true;
  }
}

const compare = (a, b) => (a < b ? -1 : Number(a > b));

function advance(member, seq, at, position) {
  if (seq <= member.lastReadSeq) return false;
  Object.assign(member, { lastReadSeq: seq, lastReadAt: at, position });
  return true;
}

function read({ conversation, member, event, position, message }) {
  const seq = event.data.messageId ? message?.seq : conversation.messages.length;
  return seq !== undefined && advance(member, seq, event.occurredAt, position);
}

function edit({ event, position, message }) {
  if (!message || message.deletedAt || message.senderId !== event.actorId) return false;
  const { content, mentions } = event.data;
  Object.assign(message, { content, mentions: mentions ?? [], editedAt: event.occurredAt, position });
  return true;
}

function remove({ event, position, message }) {
  if (!message || message.deletedAt || message.senderId !== event.actorId) return false;
  const nothing = { content: null, attachments: [], mentions: [], reactions: [] };
  Object.assign(message, nothing, { deletedAt: event.occurredAt, position });
  return true;
}

function react({ event, position, message }) {
  if (!message || message.deletedAt) return false;
  const { emoji, label } = event.data;
  let group = message.reactions.find((one) => plainEmoji(one.emoji) === plainEmoji(emoji));
  if (!group) {
    group = { emoji, label: null, users: [] };
    message.reactions.push(group);
  }
  const newUser = !group.users.includes(event.actorId);
  const newLabel = (label ?? null) !== null && label !== group.label;
  if (newUser) group.users.push(event.actorId);
  if (newLabel) group.label = label;
  if (newUser || newLabel) message.position = position;
  return newUser || newLabel;
}

function unreact({ event, position, message }) {
  if (!message || message.deletedAt) return false;
  const group = message.reactions.find((one) => plainEmoji(one.emoji) === plainEmoji(event.data.emoji));
  if (!group?.users.includes(event.actorId)) return false;
  group.users = group.users.filter((user) => user !== event.actorId);
  message.position = position;
  return true;
}

/** A message as queries show it. */
export function messageView(message) {
  const given = message.reactions.filter(({ users }) => users.length > 0);
  const reactions = given.map(({ emoji, label, users }) => (
    { emoji, label, count: users.length, userIds: users.slice(0, USERS_SHOWN) }));
  return { ...message, reactions };
}

/** A conversation as queries show it to a user. */
export function conversationView(conversation, user) {
  const { id, type, title, members, messages, createdAt, updatedAt, position } = conversation;
  const { lastReadSeq } = members.get(user);
  const unread = messages.slice(lastReadSeq).filter(({ senderId, deletedAt }) => senderId !== user && !deletedAt);
  const last = messages.at(-1);
  return {
    id, type, title, participantCount: members.size,
    participants: [...members.values()].slice(0, PARTICIPANTS_SHOWN).map(({ userId, lastReadSeq: seq, lastReadAt }) => (
      { userId, lastReadSeq: seq, lastReadAt })),
    lastMessage: last ? messageView(last) : null, unreadCount: unread.length, createdAt, updatedAt, position,
  };
}
