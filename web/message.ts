// One message: made once, and brought up to date when it or what surrounds it changes.

import type { StoredMessage } from 'messages-client';
import { button, node, part, setText } from './dom.js';
import type { Edit } from './edits.js';
import { avatar, names } from './people.js';
import { clock, full } from './times.js';

/** A message with what its place says of it. */
export interface Shown {
  message: StoredMessage;
  /** The first of several that somebody wrote together. */
  first: boolean;
  /** The last of them. */
  last: boolean;
  /** What stands under it: who has read it, or how it fares. */
  receipt: string;
  /** The message that it answers, where that is here. */
  quoted: StoredMessage | undefined;
  /** The text that it is to have, while that isn't so yet. */
  edit: Edit | undefined;
}

/** What can be done within a message. */
export interface Acts {
  me: string;
  react(message: StoredMessage, emoji: string): void;
  jump(messageId: string): void;
  retry(messageId: string): void;
  discard(messageId: string): void;
}

/** What each element shows: the same again needs no work. */
const drawn = new WeakMap<HTMLElement, Shown>();

const same = (a: Shown | undefined, b: Shown): boolean =>
  a !== undefined && a.message === b.message && a.first === b.first && a.last === b.last && a.receipt === b.receipt
  && a.quoted === b.quoted && a.edit === b.edit;

/** The text with its mentions marked; the longest name first, never inside a word. */
function marked(content: string, mentions: readonly string[], me: string): (Node | string)[] {
  if (mentions.length === 0) return [content];
  const names = [...mentions].sort((a, b) => b.length - a.length).map((name) => name.replace(/[.*+?^${}()|[\]\\/]/g, '\\$&'));
  const found = new RegExp(`(?<![\\p{L}\\p{N}_])(@(?:${names.join('|')}))(?![\\p{L}\\p{N}_])`, 'u');
  // Every second part is a match.
  return content.split(found).map((text, i) =>
    (i % 2 ? node('mark', { class: text === `@${me}` ? 'mention me' : 'mention', 'data-testid': 'mention' }, text) : text));
}

/** An address in a text, without the punctuation that ends a sentence. */
const ADDRESS = /(https?:\/\/[^\s<>"]*[^\s<>"'.,;:!?)\]}…])/iu;

const link = (url: string, text: string): HTMLElement =>
  node('a', { href: url, target: '_blank', rel: 'noopener noreferrer' }, text);

/** The text with its addresses as links and its mentions marked. */
function rendered(content: string, mentions: readonly string[], me: string): (Node | string)[] {
  return content.split(ADDRESS).flatMap((text, i) => (i % 2 && URL.canParse(text) ? [link(text, text)] : marked(text, mentions, me)));
}

export function makeMessage({ message }: Shown, me: string): HTMLElement {
  const mine = message.senderId === me;
  return node('li', {
    class: mine ? 'message mine' : 'message', 'data-testid': 'message', 'data-id': message.id, tabindex: '-1',
  },
  avatar(message.senderId),
  node('div', { class: 'body' },
    node('p', { class: 'meta' },
      node('strong', { class: mine ? 'author aside' : 'author' }, mine ? 'You' : message.senderId),
      node('time', { datetime: message.createdAt, title: full(message.createdAt) }, clock(message.createdAt))),
    node('div', { class: 'bubble' },
      node('div', { class: 'quote-place' }),
      node('div', { class: 'content', dir: 'auto' }),
      node('div', { class: 'attachments' }),
      node('span', { class: 'edited', 'data-testid': 'edited' })),
    node('div', { class: 'reactions' }),
    node('p', { class: 'receipt', 'data-testid': 'receipt' }, node('span', { class: 'receipt-text' }), node('span', { class: 'receipt-acts' }))));
}

export function fillMessage(item: HTMLElement, shown: Shown, acts: Acts): void {
  const before = drawn.get(item);
  if (same(before, shown)) return;
  drawn.set(item, shown);
  const { message, first, last, receipt, edit } = shown;
  const failed = message.pending === 'failed' || edit?.state === 'failed';
  const gone = message.deletedAt !== null;
  item.classList.toggle('first', first);
  item.classList.toggle('last', last);
  item.classList.toggle('gone', gone);
  item.classList.toggle('to-me', message.mentions.includes(acts.me) && message.senderId !== acts.me);
  item.dataset['pending'] = failed ? 'failed' : message.pending ?? (edit ? 'sending' : '');
  setText(part(item, 'receipt-text'), receipt);
  if (before?.quoted !== shown.quoted || !before) part(item, 'quote-place').replaceChildren(...quote(shown, acts));
  if (before?.message === message && before.edit === edit) return;
  part(item, 'content').replaceChildren(
    ...(gone ? ['This message was deleted.'] : rendered(edit?.content ?? message.content ?? '', message.mentions, acts.me)));
  setText(part(item, 'edited'), message.editedAt && !gone ? 'edited' : '');
  part(item, 'attachments').replaceChildren(...(gone ? [] : message.attachments)
    .filter(({ url }) => url.startsWith('https://'))
    .map(({ url, name }) => link(url, name || url)));
  fillReactions(part(item, 'reactions'), message, acts);
  part(item, 'receipt-acts').replaceChildren(...(failed ? [
    button({ class: 'quiet', 'data-testid': 'retry' }, () => acts.retry(message.id), 'Try again'),
    button({ class: 'quiet', 'data-testid': 'discard' }, () => acts.discard(message.id), 'Discard'),
  ] : []));
}

/** The message that this one answers, in a line; a click goes there. */
function quote({ message: { replyToId }, quoted }: Shown, acts: Acts): HTMLElement[] {
  if (!replyToId) return [];
  const author = quoted ? (quoted.senderId === acts.me ? 'You' : quoted.senderId) : '';
  const text = quoted ? (quoted.deletedAt ? 'This message was deleted.' : quoted.content || 'a file') : 'An earlier message';
  return [button({ class: 'quote', 'data-testid': 'quote', 'data-of': replyToId, title: 'Go to this message' },
    () => acts.jump(replyToId), node('strong', {}, author), node('span', { dir: 'auto' }, text))];
}

/** Keeps the focus where one toggles a reaction that stays. */
function fillReactions(place: HTMLElement, message: StoredMessage, acts: Acts): void {
  const focused = place.contains(document.activeElement) ? (document.activeElement as HTMLElement).dataset['emoji'] : undefined;
  place.replaceChildren(...message.reactions.map(({ emoji, count, userIds }) => {
    const who = names(userIds, count);
    return button({
      class: 'reaction', 'data-testid': 'reaction', 'data-emoji': emoji, title: who,
      'aria-pressed': String(userIds.includes(acts.me)), 'aria-label': `${emoji} ${count}: ${who}`,
    }, () => acts.react(message, emoji), emoji, node('span', {}, String(count)));
  }));
  if (focused) place.querySelector<HTMLElement>(`[data-emoji="${CSS.escape(focused)}"]`)?.focus();
}
