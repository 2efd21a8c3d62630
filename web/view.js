// Draws what the model knows. Text from others only ever becomes text nodes; no markup is written here.

import { nameOf, others, people, readers, sorted, state, typists } from './model.js';

const EMOJI = ['👍', '❤️', '😂', '🎉', '😮'];
const DIRECT = 'DIRECT';

export const $ = (id) => document.getElementById(id);

function node(tag, attributes = {}, ...children) {
  const made = document.createElement(tag);
  for (const [name, value] of Object.entries(attributes)) made.setAttribute(name, value);
  made.append(...children);
  return made;
}

function button(text, attributes, act) {
  const made = node('button', { type: 'button', ...attributes }, text);
  made.addEventListener('click', act);
  return made;
}

export function say(text, kind = 'note') {
  $('status').dataset.kind = kind;
  $('status').textContent = text;
}

/** Keeps the elements of items that are still there, so that focus stays and screen readers hear only what is new. */
function keyed(container, items, make, fill) {
  const old = new Map([...container.children].map((child) => [child.dataset.id, child]));
  const stay = new Set(items.map((item) => item.id));
  for (const [id, child] of old) if (!stay.has(id)) child.remove();
  items.forEach((item, i) => {
    const made = old.get(item.id) ?? make(item);
    fill(made, item);
    if (container.children[i] !== made) container.insertBefore(made, container.children[i] ?? null);
  });
}

const text = (parent, selector, value) => {
  const found = parent.querySelector(selector);
  if (found.textContent !== value) found.textContent = value;
};

function when(time) {
  if (!time) return '';
  const date = new Date(time);
  const today = date.toDateString() === new Date().toDateString();
  return today
    ? date.toLocaleTimeString([], { hour: '2-digit', minute: '2-digit' })
    : date.toLocaleDateString([], { day: 'numeric', month: 'short' });
}

function preview({ lastMessage: last }) {
  if (!last) return 'No messages yet';
  if (last.deletedAt) return 'Message deleted';
  return `${last.senderId === state.me ? 'You' : last.senderId}: ${last.content || 'attachment'}`;
}

const presenceOf = (conversation) => {
  const [other] = others(conversation);
  return (conversation.type === DIRECT && state.presence.get(other)) || 'offline';
};

function drawList(act) {
  const list = [...state.conversations.values()]
    .sort((a, b) => (b.updatedAt ?? '').localeCompare(a.updatedAt ?? '') || a.id.localeCompare(b.id));
  keyed($('conversations'), list, (conversation) => {
    const name = node('span', { class: 'name' });
    if (conversation.type === DIRECT) name.append(node('i', { class: 'dot', 'data-testid': 'presence', role: 'img' }));
    name.append(node('span', { class: 'label' }));
    const open = button('', { 'data-testid': 'conversation', 'data-id': conversation.id }, () => act.select(conversation.id));
    open.append(name, node('span', { class: 'when' }), node('span', { class: 'last' }),
      node('span', { class: 'unread', 'data-testid': 'unread' }));
    return node('li', { 'data-id': conversation.id }, open);
  }, (item, conversation) => {
    const here = conversation.id === state.current;
    const unread = here && document.visibilityState === 'visible' ? 0 : conversation.unreadCount;
    item.firstChild.setAttribute('aria-current', String(here));
    text(item, '.label', nameOf(conversation));
    text(item, '.when', when(conversation.updatedAt));
    text(item, '.last', preview(conversation));
    text(item, '.unread', unread ? String(unread) : '');
    item.querySelector('.unread').setAttribute('aria-label', unread ? `${unread} unread` : '');
    drawDot(item.querySelector('.dot'), presenceOf(conversation));
  });
  $('more').hidden = !state.listCursor;
}

function drawDot(dot, status) {
  if (!dot) return;
  dot.dataset.state = status;
  dot.setAttribute('aria-label', status);
}

/** The text with its mentions marked; the longest name first, never inside a word. */
function marked(content, mentions) {
  if (!mentions?.length) return [content];
  const names = [...mentions].sort((a, b) => b.length - a.length)
    .map((name) => name.replace(/[.*+?^${}()|[\]\\/]/g, '\\$&'));
  const found = new RegExp(`(?<![\\p{L}\\p{N}_])(@(?:${names.join('|')}))(?![\\p{L}\\p{N}_])`, 'u');
  return content.split(found).map((part, i) => (i % 2 ? node('mark', {}, part) : part)); // odd parts are matches
}

function makeMessage(message, act) {
  const now = () => state.messages.get(message.id); // an element outlives versions of its message
  const mine = message.senderId === state.me;
  const tools = node('div', { class: 'tools', role: 'group', 'aria-label': 'Act on this message' });
  for (const emoji of EMOJI) {
    tools.append(button(emoji, { class: 'quiet', 'data-testid': 'react', 'data-emoji': emoji, 'aria-label': `React with ${emoji}` },
      () => act.toggle(now(), emoji)));
  }
  if (mine) {
    tools.append(
      button('Edit', { class: 'quiet', 'data-testid': 'edit' }, () => act.edit(now())),
      button('Delete', { class: 'quiet', 'data-testid': 'delete' }, () => act.erase(now())),
    );
  }
  const meta = node('div', { class: 'meta' }, node('span', { class: 'author' }, message.senderId),
    node('time', { datetime: message.createdAt, title: new Date(message.createdAt).toLocaleString() }, when(message.createdAt)),
    node('span', { class: 'edited' }));
  return node('li', { class: mine ? 'message mine' : 'message', 'data-testid': 'message', 'data-id': message.id },
    meta, node('div', { class: 'content' }), node('div', { class: 'attachments' }),
    node('div', { class: 'reactions' }), node('p', { class: 'seen hint' }), tools);
}

function fillMessage(item, message, readBy, act) {
  text(item, '.seen', message.senderId === state.me && readBy?.length ? `Read by ${readBy.join(', ')}` : '');
  const stamp = JSON.stringify([message.content, message.mentions, message.attachments, message.reactions,
    message.editedAt, message.deletedAt]);
  if (item.dataset.stamp === stamp) return;
  item.dataset.stamp = stamp;
  item.classList.toggle('gone', Boolean(message.deletedAt));
  text(item, '.edited', message.editedAt && !message.deletedAt ? 'edited' : '');
  item.querySelector('.content').replaceChildren(
    ...(message.deletedAt ? ['This message was deleted.'] : marked(message.content ?? '', message.mentions)));
  item.querySelector('.attachments').replaceChildren(...(message.attachments ?? [])
    .filter(({ url }) => url.startsWith('https://'))
    .map(({ url, name }) => node('a', { href: url, target: '_blank', rel: 'noopener noreferrer' }, name || url)));
  item.querySelector('.reactions').replaceChildren(...(message.reactions ?? []).map(({ emoji, count, userIds }) =>
    button(`${emoji} ${count}`, {
      'data-testid': 'reaction', 'data-emoji': emoji, 'aria-pressed': String(userIds.includes(state.me)),
      title: userIds.join(', '), 'aria-label': `${emoji}, ${count}: ${userIds.join(', ')}`,
    }, () => act.toggle(state.messages.get(message.id), emoji))));
}

/** `stay` keeps the reader's place from the end, for older messages that come in above. */
function drawMessages(act, stay = false) {
  const scroll = $('scroll');
  const fromEnd = scroll.scrollHeight - scroll.scrollTop;
  const atEnd = fromEnd - scroll.clientHeight < 80;
  const list = sorted();
  const newest = list.at(-1)?.id;
  const sent = newest !== scroll.dataset.newest && list.at(-1)?.senderId === state.me;
  const switched = scroll.dataset.of !== state.current;
  const read = readers(state.conversations.get(state.current), list);
  keyed($('messages'), list, (message) => makeMessage(message, act),
    (item, message) => fillMessage(item, message, read.get(message.id), act));
  $('older').hidden = !state.cursor;
  Object.assign(scroll.dataset, { newest: newest ?? '', of: state.current });
  if (stay) scroll.scrollTop = scroll.scrollHeight - fromEnd;
  else if (atEnd || sent || switched) scroll.scrollTop = scroll.scrollHeight;
}

/** What takes room from the messages, such as a longer draft, doesn't cover the newest. */
let height = 0;
new ResizeObserver(() => {
  const scroll = $('scroll');
  if (height > scroll.clientHeight) scroll.scrollTop += height - scroll.clientHeight;
  height = scroll.clientHeight;
}).observe($('scroll'));

function drawHeading() {
  const conversation = state.conversations.get(state.current);
  if (!conversation) return;
  text(document, '#title', nameOf(conversation));
  const names = people(conversation);
  const online = others(conversation).filter((id) => state.presence.get(id) === 'online');
  const count = conversation.participantCount ?? names.length;
  const who = count > 2 ? `${count} people: ${names.join(', ')} · ` : '';
  text(document, '#members', who + (online.length ? `online: ${online.join(', ')}` : 'nobody else is online'));
}

function drawTyping() {
  const names = typists();
  const verb = names.length > 1 ? 'are' : 'is';
  text(document, '#typing', names.length ? `${names.join(', ')} ${verb} typing…` : '');
}

let drawing = false;

/** Draws once, soon, however often it is asked to. */
export function draw(act) {
  if (drawing) return;
  drawing = true;
  queueMicrotask(() => {
    drawing = false;
    drawNow(act);
  });
}

export function drawNow(act, stay = false) {
  $('chat').dataset.open = String(Boolean(state.current));
  $('open').hidden = !state.current;
  $('empty').hidden = Boolean(state.current);
  $('editing').hidden = !state.editing;
  drawList(act);
  if (!state.current) return;
  drawHeading();
  drawMessages(act, stay);
  drawTyping();
}
