// How the page shows people and conversations: names, avatars and presence.

import type { Client, Conversation } from 'messages-client';
import { createElement, icon, isolate, setAttribute, setText } from './dom.js';
import { lastSeenTime } from './times.js';

/** How many avatar colours style.css defines. */
const HUES = 12;
/** How many people are named at most. */
const NAMED_MAX = 5;
/** The scripts without spaces between words that names stand in most. */
const UNSPACED = ['Han', 'Hiragana', 'Katakana', 'Bopomofo', 'Hangul', 'Thai', 'Lao', 'Khmer', 'Myanmar', 'Tibetan'];
/** The pattern of a character of a word, in which no mention begins or ends. In an unspaced script it can. */
export const WORD_CHARACTER = `(?![${UNSPACED.map((script) => `\\p{Script=${script}}`).join('')}])[\\p{L}\\p{M}\\p{N}_]`;

/** The colour of a user, derived from the id: it is the same everywhere. */
function hue(userId: string): string {
  let hash = 2_166_136_261; // FNV-1a
  for (const character of userId) hash = Math.imul(hash ^ (character.codePointAt(0) ?? 0), 16_777_619);
  return String(((hash ^ (hash >>> 15)) >>> 0) % HUES);
}

/** The one or two letters of an avatar. */
export function initials(name: string): string {
  const words = name.split(/[^\p{L}\p{N}]+/u).filter(Boolean);
  const firstLetters = words.slice(0, 2).map((word) => [...word][0]);
  const letters = words.length > 1 ? firstLetters : [...(words[0] ?? name)].slice(0, 2);
  return letters.join('').toUpperCase();
}

/** The participants other than this user, among those that the conversation names. */
export function otherParticipants(conversation: Conversation, me: string): string[] {
  return conversation.participants.map(({ userId }) => userId).filter((userId) => userId !== me);
}

/** Joins the first names of `count` people, and says how many more there are. */
export function joinNames(userIds: readonly string[], count = userIds.length): string {
  const named = userIds.slice(0, count > NAMED_MAX ? NAMED_MAX - 1 : NAMED_MAX).map(isolate);
  return count > named.length ? `${named.join(', ')} and ${count - named.length} more` : named.join(', ');
}

/** The name of a conversation for this user. */
export function conversationName(conversation: Conversation, me: string): string {
  const { title, participantCount } = conversation;
  return title || joinNames(otherParticipants(conversation, me), participantCount - 1) || 'Just you';
}

/** The round avatar of a user. */
export function avatar(userId: string): HTMLElement {
  return createElement('span', { class: 'avatar', 'data-hue': hue(userId), 'aria-hidden': 'true' }, initials(userId));
}

/** The avatar of a conversation: the other person's with a presence dot, or a group's. */
export function conversationAvatar(conversation: Conversation, me: string): HTMLElement {
  const [other] = otherParticipants(conversation, me);
  if (conversation.type !== 'DIRECT' || !other) {
    const groupHue = hue(conversation.title ?? conversation.id);
    const attributes = { class: 'avatar', 'data-hue': groupHue, 'aria-hidden': 'true' };
    return createElement('span', { class: 'avatar-frame' }, createElement('span', attributes, icon('group')));
  }
  const dot = createElement('span', { class: 'presence-dot', 'data-testid': 'presence' },
    createElement('span', { class: 'visually-hidden' }));
  return createElement('span', { class: 'avatar-frame' }, avatar(other), dot);
}

/** `online`, `offline`, or `unknown` without a connection. */
export function presenceStatus(userId: string, client: Client): string {
  return client.state === 'live' ? client.presence(userId)?.status ?? 'offline' : 'unknown';
}

/** A user's presence in words, with the time when they were last seen. */
export function presenceText(userId: string, client: Client): string {
  const status = presenceStatus(userId, client);
  const lastSeenAt = client.presence(userId)?.lastSeenAt;
  if (status === 'unknown') return 'online status unknown';
  return status === 'offline' && lastSeenAt ? `last seen ${lastSeenTime(lastSeenAt)}` : status;
}

/** Updates the presence dot of a conversation's avatar. */
export function drawPresence(container: Element, conversation: Conversation, client: Client): void {
  const dot = container.querySelector('.presence-dot');
  const [other] = otherParticipants(conversation, client.me);
  if (!dot || !other) return;
  const status = presenceStatus(other, client);
  setAttribute(dot, 'data-state', status);
  if (dot.firstElementChild) setText(dot.firstElementChild, status);
}

/** One line about the participants of a conversation, and how many of them are online. */
export function participantsSummary(conversation: Conversation, client: Client): string {
  const others = otherParticipants(conversation, client.me);
  if (conversation.type === 'DIRECT') return others[0] === undefined ? 'just you' : presenceText(others[0], client);
  const online = others.filter((userId) => presenceStatus(userId, client) === 'online');
  const people = others.length < NAMED_MAX ? `You, ${joinNames(others)}` : `${conversation.participantCount} people`;
  if (client.state !== 'live') return people;
  return `${people} · ${online.length > 0 ? `${online.length} online` : 'nobody else online'}`;
}
