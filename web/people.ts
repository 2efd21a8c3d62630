// People as the page shows them: what a conversation is called, faces with initials, and who is there.

import type { Client, Conversation } from 'messages-client';
import { icon, node, setAttribute, setText } from './dom.js';
import { since } from './times.js';

/** How many colours style.css has for faces. */
const HUES = 12;
/** How many people are named at most. */
const NAMED = 5;

/** The colour of a user: the same everywhere, from nothing but the id. */
function hue(userId: string): string {
  let hash = 2_166_136_261; // FNV-1a
  for (const character of userId) hash = Math.imul(hash ^ (character.codePointAt(0) ?? 0), 16_777_619);
  return String(((hash ^ (hash >>> 15)) >>> 0) % HUES);
}

/** One or two letters that stand for a name. */
export function initials(name: string): string {
  const words = name.split(/[^\p{L}\p{N}]+/u).filter(Boolean);
  const letters = words.length > 1 ? words.slice(0, 2).map((word) => [...word][0]) : [...(words[0] ?? name)].slice(0, 2);
  return letters.join('').toUpperCase();
}

/** The others in a conversation, of those that the server names. */
export function others(conversation: Conversation, me: string): string[] {
  return conversation.participants.map((one) => one.userId).filter((userId) => userId !== me);
}

/** Some names, of which not all have room. */
export function names(userIds: readonly string[], count = userIds.length): string {
  const shown = userIds.slice(0, count > NAMED ? NAMED - 1 : NAMED);
  return count > shown.length ? `${shown.join(', ')} and ${count - shown.length} more` : shown.join(', ');
}

/** What a conversation is called for this user. */
export function nameOf(conversation: Conversation, me: string): string {
  return conversation.title || names(others(conversation, me), conversation.participantCount - 1) || 'Just you';
}

/** A round face of a user. */
export function avatar(userId: string): HTMLElement {
  return node('span', { class: 'avatar', 'data-hue': hue(userId), 'aria-hidden': 'true' }, initials(userId));
}

/** The face of a conversation: the other one's, with a dot that says whether they are there; or a group's. */
export function face(conversation: Conversation, me: string): HTMLElement {
  const [other] = others(conversation, me);
  if (conversation.type !== 'DIRECT' || !other) {
    const of = hue(conversation.title ?? conversation.id);
    return node('span', { class: 'face' }, node('span', { class: 'avatar', 'data-hue': of, 'aria-hidden': 'true' }, icon('group')));
  }
  return node('span', { class: 'face' }, avatar(other), node('span', { class: 'dot', 'data-testid': 'presence' },
    node('span', { class: 'aside' })));
}

/** Whether somebody is there; nobody tells without a connection. */
export function statusOf(userId: string, client: Client): string {
  return client.state === 'live' ? client.presence(userId)?.status ?? 'offline' : 'unknown';
}

/** Whether somebody is there, or when they were, in words. */
export function seen(userId: string, client: Client): string {
  const status = statusOf(userId, client);
  const last = client.presence(userId)?.lastSeenAt;
  if (status === 'unknown') return 'online status unknown';
  return status === 'offline' && last ? `last seen ${since(last)}` : status;
}

/** Brings a face's dot up to date. */
export function drawPresence(of: Element, conversation: Conversation, client: Client): void {
  const dot = of.querySelector('.dot');
  const [other] = others(conversation, client.me);
  if (!dot || !other) return;
  const status = statusOf(other, client);
  setAttribute(dot, 'data-state', status);
  if (dot.firstElementChild) setText(dot.firstElementChild, status);
}

/** Who is in a conversation and who of them is there, in a line. */
export function whoIsThere(conversation: Conversation, client: Client): string {
  const people = others(conversation, client.me);
  if (conversation.type === 'DIRECT') return people[0] === undefined ? 'just you' : seen(people[0], client);
  const online = people.filter((userId) => statusOf(userId, client) === 'online');
  const who = people.length < NAMED ? `You, ${people.join(', ')}` : `${conversation.participantCount} people`;
  if (client.state !== 'live') return who;
  return `${who} · ${online.length > 0 ? `${online.length} online` : 'nobody else online'}`;
}
