// One message: its element is created once, and updated when the message or its neighbours change.

import { isSameEmoji, type StoredMessage } from 'messages-client';
import { button, child, createElement, setText } from './dom.js';
import type { Edit } from './edits.js';
import { avatar, joinNames, WORD_CHARACTER } from './people.js';
import { fullDateTime, timeOfDay } from './times.js';

/** A message, and what its place in the timeline adds. */
export interface MessageItem {
  message: StoredMessage;
  /** The first message of a group: several messages of one sender. */
  groupStart: boolean;
  /** The last message of a group. */
  groupEnd: boolean;
  /** The text below the message: who has read it, or its progress. */
  receipt: string;
  /** The message that this one replies to, if it is loaded. */
  quoted: StoredMessage | undefined;
  /** The edit of this message that isn't confirmed. */
  edit: Edit | undefined;
}

/** The actions inside a message. */
export interface MessageCallbacks {
  me: string;
  react(message: StoredMessage, emoji: string): void;
  jumpTo(messageId: string): void;
  retry(messageId: string): void;
  discard(messageId: string): void;
}

/** What each element shows: an equal item needs no update. */
const drawnItems = new WeakMap<HTMLElement, MessageItem>();

const isEqual = (a: MessageItem | undefined, b: MessageItem): boolean =>
  a !== undefined && a.message === b.message && a.groupStart === b.groupStart && a.groupEnd === b.groupEnd
  && a.receipt === b.receipt && a.quoted === b.quoted && a.edit === b.edit;

/** Marks the mentions in a text: the longest name first, never inside a word. */
function markMentions(content: string, mentions: readonly string[], me: string): (Node | string)[] {
  if (mentions.length === 0) return [content];
  const longestFirst = [...mentions].sort((a, b) => b.length - a.length);
  const names = longestFirst.map((name) => name.replace(/[.*+?^${}()|[\]\\/]/g, '\\$&'));
  const mention = new RegExp(`(?<!${WORD_CHARACTER})(@(?:${names.join('|')}))(?!${WORD_CHARACTER})`, 'u');
  // Every second part is a match.
  return content.split(mention).map((text, i) => {
    const className = text === `@${me}` ? 'mention me' : 'mention';
    return i % 2 ? createElement('mark', { class: className, 'data-testid': 'mention' }, text) : text;
  });
}

/** A URL in a text, without the punctuation that ends the sentence, and without characters that could reverse it. */
const URL_PATTERN = /(https?:\/\/[^\s<>"\p{Bidi_Control}]*[^\s<>"\p{Bidi_Control}'.,;:!?)\]}…])/iu;

const link = (url: string, text: string): HTMLElement =>
  createElement('a', { href: url, target: '_blank', rel: 'noopener noreferrer', dir: 'auto' }, text);

/** The nodes of a text: its URLs as links, and its mentions marked. */
function renderContent(content: string, mentions: readonly string[], me: string): (Node | string)[] {
  return content.split(URL_PATTERN).flatMap(
    (text, i) => (i % 2 && URL.canParse(text) ? [link(text, text)] : markMentions(text, mentions, me)),
  );
}

export function createMessage({ message }: MessageItem, me: string): HTMLElement {
  const own = message.senderId === me;
  const sentAt = { datetime: message.createdAt, title: fullDateTime(message.createdAt) };
  const attributes = { 'data-testid': 'message', 'data-id': message.id, tabindex: '-1' };
  return createElement('li', { class: own ? 'message own' : 'message', ...attributes },
    avatar(message.senderId),
    createElement('div', { class: 'body' },
      createElement('p', { class: 'meta' },
        createElement('strong', { class: own ? 'author visually-hidden' : 'author', dir: 'auto' },
          own ? 'You' : message.senderId),
        createElement('time', sentAt, timeOfDay(message.createdAt))),
      createElement('div', { class: 'bubble' },
        createElement('div', { class: 'quote-slot' }),
        createElement('div', { class: 'content', dir: 'auto' }),
        createElement('div', { class: 'attachments' }),
        createElement('span', { class: 'edited', 'data-testid': 'edited' })),
      createElement('div', { class: 'reactions' }),
      createElement('p', { class: 'receipt', 'data-testid': 'receipt' },
        createElement('span', { class: 'receipt-text' }),
        createElement('span', { class: 'receipt-actions' }))));
}

export function updateMessage(element: HTMLElement, item: MessageItem, callbacks: MessageCallbacks): void {
  const before = drawnItems.get(element);
  if (isEqual(before, item)) return;
  drawnItems.set(element, item);
  const { message, groupStart, groupEnd, receipt, edit } = item;
  const failed = message.pending === 'failed' || edit?.state === 'failed';
  const deleted = message.deletedAt !== null;
  const mentionsMe = message.mentions.includes(callbacks.me) && message.senderId !== callbacks.me;
  element.classList.toggle('group-start', groupStart);
  element.classList.toggle('group-end', groupEnd);
  element.classList.toggle('deleted', deleted);
  element.classList.toggle('mentions-me', mentionsMe);
  element.dataset['pending'] = failed ? 'failed' : message.pending ?? (edit ? 'sending' : '');
  setText(child(element, 'receipt-text'), receipt);
  if (!before || before.quoted !== item.quoted) {
    child(element, 'quote-slot').replaceChildren(...quote(item, callbacks));
  }
  if (before?.message === message && before.edit === edit) return;
  const content = edit?.content ?? message.content ?? '';
  child(element, 'content').replaceChildren(
    ...(deleted ? ['This message was deleted.'] : renderContent(content, message.mentions, callbacks.me)));
  setText(child(element, 'edited'), message.editedAt && !deleted ? 'edited' : '');
  child(element, 'attachments').replaceChildren(...(deleted ? [] : message.attachments)
    .filter(({ url }) => url.startsWith('https://'))
    .map(({ url, name }) => link(url, name || url)));
  updateReactions(child(element, 'reactions'), message, callbacks);
  child(element, 'receipt-actions').replaceChildren(...(failed ? [
    button({ class: 'secondary', 'data-testid': 'retry' }, () => callbacks.retry(message.id), 'Try again'),
    button({ class: 'secondary', 'data-testid': 'discard' }, () => callbacks.discard(message.id), 'Discard'),
  ] : []));
}

/** One line of the message that this one replies to; a click jumps to it. */
function quote({ message: { replyToId }, quoted }: MessageItem, callbacks: MessageCallbacks): HTMLElement[] {
  if (!replyToId) return [];
  const author = quoted?.senderId === callbacks.me ? 'You' : quoted?.senderId ?? '';
  const quotedText = quoted?.deletedAt ? 'This message was deleted.' : quoted?.content || 'a file';
  const text = quoted ? quotedText : 'An earlier message';
  const attributes = { class: 'quote', 'data-testid': 'quote', 'data-of': replyToId, title: 'Go to this message' };
  return [button(attributes, () => callbacks.jumpTo(replyToId),
    createElement('strong', { dir: 'auto' }, author), createElement('span', { dir: 'auto' }, text))];
}

/** Replaces the buttons of the reactions, and keeps the focus on the one that had it. */
function updateReactions(container: HTMLElement, message: StoredMessage, callbacks: MessageCallbacks): void {
  const active = document.activeElement;
  const focusedEmoji = container.contains(active) ? (active as HTMLElement).dataset['emoji'] : undefined;
  container.replaceChildren(...message.reactions.map(({ emoji, count, userIds }) => {
    const people = joinNames(userIds, count);
    return button({
      class: 'reaction', 'data-testid': 'reaction', 'data-emoji': emoji, title: people,
      'aria-pressed': String(userIds.includes(callbacks.me)), 'aria-label': `${emoji} ${count}: ${people}`,
    }, () => callbacks.react(message, emoji), emoji, createElement('span', {}, String(count)));
  }));
  if (focusedEmoji === undefined) return;
  const buttons = [...container.querySelectorAll('button')];
  buttons.find(({ dataset }) => isSameEmoji(dataset['emoji'] ?? '', focusedEmoji))?.focus();
}
