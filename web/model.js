// What this page knows, and how reads and live deliveries change it. No DOM, no network.

export const state = {
  me: null,
  conversations: new Map(),
  listCursor: null,
  current: null, // the open conversation's id
  messages: new Map(), // those of the open conversation
  cursor: null,
  reads: new Map(), // live read marks in the open conversation: user to message id
  presence: new Map(),
  typing: new Map(), // "conversation user" to the timer that ends it
  editing: null,
  delivered: new Map(), // offset of the last delivery, by conversation
};

/** A position is "partition:offset"; one conversation lives in one partition, so offsets compare. */
export const offset = (position) => (position ? Number(position.split(':')[1]) : -1);

export const people = (conversation) =>
  conversation.participants?.map((one) => one.userId) ?? conversation.participantIds ?? [];

export const others = (conversation) => people(conversation).filter((id) => id !== state.me);

export const nameOf = (conversation) => conversation.title || others(conversation).join(', ') || 'Conversation';

/** The open conversation's messages, oldest first; those without a `seq` came live, after the others. */
export const sorted = () => [...state.messages.values()]
  .sort((a, b) => (a.seq ?? Infinity) - (b.seq ?? Infinity) || a.born - b.born);

/** Conversations from a read; what came live meanwhile and is newer stays. */
export function mergeConversations(list) {
  for (const read of list) {
    const known = state.conversations.get(read.id);
    if (!known || offset(read.position) >= offset(known.position)) state.conversations.set(read.id, read);
  }
}

/** The newest page replaces what was here, but for what arrived live after that answer was made. */
export function replaceMessages(list) {
  const fresh = new Map(list.map((message) => [message.id, message]));
  const reach = Math.max(-1, ...list.map((message) => offset(message.position)));
  for (const known of state.messages.values()) {
    const read = fresh.get(known.id);
    const newer = offset(known.position) > (read ? offset(read.position) : reach);
    if (newer) fresh.set(known.id, { ...known, seq: read?.seq });
  }
  state.messages = fresh;
}

export function addOlder(list) {
  for (const message of list) if (!state.messages.has(message.id)) state.messages.set(message.id, message);
}

export function replaceMessage(read) {
  const known = state.messages.get(read.id);
  if (known && offset(read.position) >= offset(known.position)) state.messages.set(read.id, read);
}

/** "new": apply it; "gap": apply it, and read what was missed; "known": it was here before. */
export function receive(payload, meta) {
  if (!meta?.position) return 'new';
  const id = payload.conversationId ?? payload.id;
  const known = state.delivered.get(id);
  const now = offset(meta.position);
  if (known !== undefined && now <= known) return 'known';
  state.delivered.set(id, now);
  return known !== undefined && offset(meta.previous) > known ? 'gap' : 'new';
}

/** A message from the socket, or from the answer to my own command: twice is once. */
export function arrive(message, position) {
  const conversation = state.conversations.get(message.conversationId);
  if (conversation && offset(position) > offset(conversation.position)) {
    const counts = message.senderId !== state.me && conversation.lastMessage?.id !== message.id;
    conversation.unreadCount = (conversation.unreadCount ?? 0) + (counts ? 1 : 0);
    Object.assign(conversation, { lastMessage: message, updatedAt: message.createdAt, position });
  }
  if (message.conversationId !== state.current || state.messages.has(message.id)) return;
  state.messages.set(message.id, { ...message, position, born: offset(position) });
  state.reads.set(message.senderId, message.id); // sending implies having read
}

/** Applies a change to a message here, unless what is here is newer. Deletion is final. */
function change(messageId, conversationId, position, apply) {
  const message = state.messages.get(messageId);
  if (message && !message.deletedAt && offset(position) > offset(message.position)) {
    state.messages.set(messageId, { ...message, ...apply(message), position });
  }
  const last = state.conversations.get(conversationId)?.lastMessage;
  if (last?.id === messageId && !last.deletedAt) Object.assign(last, apply(last));
}

export const edited = ({ id, conversationId, content, mentions, editedAt }, position) =>
  change(id, conversationId, position, () => ({ content, mentions, editedAt }));

export const deleted = ({ messageId, conversationId, deletedAt }, position) =>
  change(messageId, conversationId, position, () =>
    ({ content: null, attachments: [], mentions: [], reactions: [], deletedAt }));

/** False when only some of a reaction's people are known here: the message has to be read. */
export function reacted({ messageId, conversationId, userId, emoji, label }, added, position) {
  const all = state.messages.get(messageId)?.reactions?.find((one) => one.emoji === emoji);
  if (all && all.count > all.userIds.length) return false;
  change(messageId, conversationId, position, ({ reactions = [] }) => {
    const group = reactions.find((one) => one.emoji === emoji);
    const userIds = (group?.userIds ?? []).filter((id) => id !== userId);
    if (added) userIds.push(userId);
    const next = { emoji, label: label ?? group?.label, count: userIds.length, userIds };
    const list = group ? reactions.map((one) => (one === group ? next : one)) : [...reactions, next];
    return { reactions: list.filter((one) => one.count > 0) };
  });
  return true;
}

/** A read mark of somebody; false when the list has to be read to know what it means. */
export function marked({ conversationId, userId, messageId }) {
  const conversation = state.conversations.get(conversationId);
  if (userId === state.me) { // perhaps in another window of mine
    const all = !messageId || conversation?.lastMessage?.id === messageId;
    if (conversation && all) conversation.unreadCount = 0;
    return Boolean(conversation && all);
  }
  if (conversationId === state.current) state.reads.set(userId, messageId ?? sorted().at(-1)?.id);
  return true;
}

/** Who has read my messages in `list`: the newest that each has read, message id to user ids. */
export function readers(conversation, list) {
  const index = new Map(list.map((message, i) => [message.id, i]));
  const found = new Map();
  for (const userId of conversation ? others(conversation) : []) {
    const mark = conversation.participants?.find((one) => one.userId === userId)?.lastReadSeq ?? 0;
    const read = list.findLastIndex((message) => message.seq <= mark);
    const upTo = Math.max(read, index.get(state.reads.get(userId)) ?? -1);
    const at = list.findLast((message, i) => i <= upTo && message.senderId === state.me);
    if (at) found.set(at.id, [...(found.get(at.id) ?? []), userId]);
  }
  return found;
}

/** Somebody types; it ends by itself, should the end get lost. */
export function typist({ userId, conversationId }, on, ended) {
  const key = `${conversationId} ${userId}`;
  clearTimeout(state.typing.get(key));
  state.typing.delete(key);
  if (!on || userId === state.me) return;
  state.typing.set(key, setTimeout(() => {
    state.typing.delete(key);
    ended();
  }, 6000));
}

export const typists = () => [...state.typing.keys()]
  .map((key) => key.split(' '))
  .filter(([conversationId]) => conversationId === state.current)
  .map(([, userId]) => userId);
