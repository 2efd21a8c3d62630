// Compares what HTTP answered after the run, and what the clients then had, with the fold.

import { conversationView, messageView, plainEmoji } from './fold.mjs';
import { difference } from './difference.mjs';

/** How many new messages the client library keeps of a conversation whose history nobody loads. */
const KEPT_MESSAGES = 1000;

/** Yields the differences of the answers. Each has the whole list that its pages make up. */
export function* answerDifferences(run, fold) {
  for (const { user, about, id, status, cache, data } of run.rows('answers')) {
    const what = `${user} reads ${about}${id ? ` ${id}` : ''} (${cache})`;
    if (status !== 200) {
      yield `${what}: ${status}`;
      continue;
    }
    const wrong = difference(data, expectedAnswer(fold, user, about, id));
    if (wrong) yield `${what}: ${wrong}`;
  }
}

function expectedAnswer(fold, user, about, id) {
  switch (about) {
    case 'conversations': return fold.conversationsOf(user).map((one) => conversationView(one, user));
    case 'conversation': return conversationView(fold.conversations.get(id), user);
    case 'messages': return fold.conversations.get(id).messages.map(messageView).reverse();
    case 'firstPage': return fold.conversations.get(id).messages.slice(-20).map(messageView).reverse();
    case 'firstConversations': return fold.conversationsOf(user).slice(0, 20).map((one) => conversationView(one, user));
    default: throw new Error(`no such answer: ${about}`);
  }
}

/** Yields the differences of the clients. */
export function* clientDifferences(run, fold) {
  for (const client of run.rows('clients')) {
    const found = client.kind === 'library' ? libraryDifferences(client, fold) : socketDifferences(client, fold);
    for (const wrong of found) yield `${client.user}'s ${client.kind} client: ${wrong}`;
  }
}

/** A client that follows the documented rule has every message of its user, without what frames don't say. */
function* socketDifferences({ user, conversations, messages }, fold) {
  const own = fold.conversationsOf(user);
  const wrong = difference(conversations, own.map(({ id }) => id).sort());
  if (wrong) yield `conversations: ${wrong}`;
  const held = new Map(messages.map((message) => [message.id, message]));
  for (const message of own.flatMap((conversation) => conversation.messages)) {
    const has = held.get(message.id);
    held.delete(message.id);
    const missing = has ? difference(has, bare(message)) : 'is missing';
    if (missing) yield `message ${message.id} of ${message.conversationId}: ${missing}`;
  }
  for (const id of held.keys()) yield `it has a message ${id} that isn't on the log`;
}

/** A message as a client knows it by frames, too: they don't tell in which form an emoji was given first. */
export function bare({ id, senderId, content, mentions, editedAt, deletedAt, reactions }) {
  const given = reactions.filter(({ users }) => users.length > 0);
  const groups = given.map(({ emoji, users }) => [plainEmoji(emoji), [...users].sort()])
    .sort((a, b) => (a[0] < b[0] ? -1 : 1));
  return { id, senderId, content, mentions, editedAt, deletedAt, reactions: groups };
}

/** The library has what queries show: each conversation, and at least its newest messages. */
function* libraryDifferences({ user, conversations, messages }, fold) {
  const wrong = difference(conversations, fold.conversationsOf(user).map((one) => conversationView(one, user)));
  if (wrong) yield `conversations: ${wrong}`;
  for (const conversation of fold.conversationsOf(user)) {
    const all = conversation.messages.map(messageView);
    const held = messages[conversation.id] ?? [];
    if (held.length < Math.min(all.length, KEPT_MESSAGES)) {
      yield `it has ${held.length} of ${all.length} messages of ${conversation.id}`;
    } else if (held.length > 0) {
      const other = difference(held, all.slice(-held.length));
      if (other) yield `messages of ${conversation.id}: ${other}`;
    }
  }
}
