// The list of conversations, the most recently active first; loads more while the user scrolls.

import type { Client, Conversation } from 'messages-client';
import { $, button, child, createElement, drawList, isolate, setAttribute, setText } from './dom.js';
import { reportFailure } from './errors.js';
import { conversationAvatar, conversationName, drawPresence, joinNames } from './people.js';
import { ensureTabStop, rovingFocus, UP_DOWN } from './roving-focus.js';
import { shortDate } from './times.js';

/** The next page is loaded this far before the end of the list. */
const LOAD_AHEAD = '300px';
const ITEM = '.conversation';

/** The line under a conversation's name. */
function preview({ id, type, lastMessage }: Conversation, client: Client): string {
  const typists = client.typists(id);
  if (typists.length > 0) return type === 'DIRECT' ? 'typing…' : `${joinNames(typists)} typing…`;
  if (!lastMessage) return 'No messages yet';
  const text = lastMessage.deletedAt ? 'deleted a message' : lastMessage.content || 'sent a file';
  if (lastMessage.senderId === client.me) {
    return lastMessage.deletedAt ? 'You deleted a message' : `You: ${isolate(text)}`;
  }
  if (lastMessage.deletedAt) return `${isolate(lastMessage.senderId)} ${text}`;
  return type === 'DIRECT' ? text : `${isolate(lastMessage.senderId)}: ${isolate(text)}`;
}

function createItem(conversation: Conversation, client: Client, onOpen: (id: string) => void): HTMLElement {
  const unreadCount = createElement('span', { class: 'unread-count', 'data-testid': 'unread' },
    createElement('span', {}), createElement('span', { class: 'visually-hidden' }, ' unread'));
  return createElement('li', {}, button(
    { class: 'conversation', 'data-testid': 'conversation', 'data-id': conversation.id, tabindex: '-1' },
    () => onOpen(conversation.id),
    conversationAvatar(conversation, client.me),
    createElement('span', { class: 'name', dir: 'auto' }),
    createElement('time', { class: 'time' }),
    createElement('span', { class: 'preview', 'data-testid': 'preview', dir: 'auto' }),
    unreadCount,
  ));
}

/** Prepares the list; returns the function that draws it and marks the open conversation. */
export function conversationList(client: Client, onOpen: (id: string) => void): (openId: string | null) => void {
  const list = $('conversations');
  rovingFocus(list, ITEM, UP_DOWN);

  let loading = false;
  async function loadMore(): Promise<void> {
    if (loading || !client.moreConversations) return;
    loading = true;
    await reportFailure(client.loadConversations());
    loading = false;
  }
  new IntersectionObserver((entries) => {
    if (entries.some((entry) => entry.isIntersecting)) void loadMore();
  }, { root: $('conversation-list'), rootMargin: `0px 0px ${LOAD_AHEAD} 0px` }).observe($('conversation-list-end'));

  return (openId) => {
    const conversations = client.conversations();
    drawList(list, conversations, ({ id }) => id, (item) => createItem(item, client, onOpen), (item, conversation) => {
      const row = child(item, 'conversation');
      // The user reads the open conversation: it shows no count until the server has confirmed the read mark.
      const isVisible = conversation.id === openId && document.visibilityState === 'visible';
      const unread = isVisible ? 0 : conversation.unreadCount;
      setAttribute(row, 'aria-current', String(conversation.id === openId));
      setText(child(row, 'name'), conversationName(conversation, client.me));
      setText(child(row, 'time'), shortDate(conversation.updatedAt));
      setText(child(row, 'preview'), preview(conversation, client));
      const unreadCount = child(row, 'unread-count');
      unreadCount.hidden = unread === 0;
      if (unreadCount.firstElementChild) setText(unreadCount.firstElementChild, unread > 99 ? '99+' : String(unread));
      drawPresence(row, conversation, client);
    });
    ensureTabStop(list, ITEM, list.querySelector<HTMLElement>(ITEM));
    const hint = $('conversation-list-hint');
    hint.hidden = conversations.length > 0 || client.state === 'connecting';
    setText(hint, 'No conversations yet. Press + to start one.');
  };
}

/** The number of unread messages in all loaded conversations. */
export function totalUnread(client: Client): number {
  return client.conversations().reduce((sum, { unreadCount }) => sum + unreadCount, 0);
}
