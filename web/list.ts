// The list of conversations: the most recently active first, more of them as one scrolls.

import type { Client, Conversation } from 'messages-client';
import { $, button, keyed, node, part, setAttribute, setText } from './dom.js';
import { arrows, stop, UP_DOWN } from './focus.js';
import { attempt } from './notices.js';
import { drawPresence, face, nameOf } from './people.js';
import { brief } from './times.js';

/** How far from its end the list is read on. */
const AHEAD = '300px';
const ITEM = '.conversation';

/** What stands under a conversation's name. */
function preview({ id, type, lastMessage: last }: Conversation, client: Client): string {
  const typists = client.typists(id);
  if (typists.length > 0) return type === 'DIRECT' ? 'typing…' : `${typists.join(', ')} typing…`;
  if (!last) return 'No messages yet';
  const text = last.deletedAt ? 'deleted a message' : last.content || 'sent a file';
  if (last.senderId === client.me) return last.deletedAt ? 'You deleted a message' : `You: ${text}`;
  if (last.deletedAt) return `${last.senderId} ${text}`;
  return type === 'DIRECT' ? text : `${last.senderId}: ${text}`;
}

function make(conversation: Conversation, client: Client, open: (id: string) => void): HTMLElement {
  const made = button(
    { class: 'conversation', 'data-testid': 'conversation', 'data-id': conversation.id, tabindex: '-1' },
    () => open(conversation.id),
    face(conversation, client.me),
    node('span', { class: 'name', dir: 'auto' }),
    node('time', { class: 'when' }),
    node('span', { class: 'preview', 'data-testid': 'preview', dir: 'auto' }),
    node('span', { class: 'count', 'data-testid': 'unread' }, node('span', {}), node('span', { class: 'aside' }, ' unread')),
  );
  return node('li', {}, made);
}

/** The list; gives what draws it with an open conversation, and marks that one. */
export function conversationList(client: Client, open: (id: string) => void): (current: string | null) => void {
  const list = $('conversations');
  arrows(list, ITEM, UP_DOWN);

  let reading = false;
  async function more(): Promise<void> {
    if (reading || !client.moreConversations) return;
    reading = true;
    await attempt(client.loadConversations());
    reading = false;
  }
  new IntersectionObserver((entries) => {
    if (entries.some((entry) => entry.isIntersecting)) void more();
  }, { root: $('list'), rootMargin: `0px 0px ${AHEAD} 0px` }).observe($('list-end'));

  return (current) => {
    const conversations = client.conversations();
    keyed(list, conversations, (one) => one.id, (one) => make(one, client, open), (item, conversation) => {
      const row = part(item, 'conversation');
      // What is open and looked at is read: it shows no count for the moment until the server knows.
      const seen = conversation.id === current && document.visibilityState === 'visible';
      const unread = seen ? 0 : conversation.unreadCount;
      setAttribute(row, 'aria-current', String(conversation.id === current));
      setText(part(row, 'name'), nameOf(conversation, client.me));
      setText(part(row, 'when'), brief(conversation.updatedAt));
      setText(part(row, 'preview'), preview(conversation, client));
      const count = part(row, 'count');
      count.hidden = unread === 0;
      if (count.firstElementChild) setText(count.firstElementChild, unread > 99 ? '99+' : String(unread));
      drawPresence(row, conversation, client);
    });
    stop(list, ITEM, list.querySelector<HTMLElement>(ITEM));
    const hint = $('list-hint');
    hint.hidden = conversations.length > 0 || client.state === 'connecting';
    setText(hint, 'No conversations yet. Start one with the + above.');
  };
}

/** How many messages wait, in all that is known. */
export function unreadInAll(client: Client): number {
  return client.conversations().reduce((sum, conversation) => sum + conversation.unreadCount, 0);
}
