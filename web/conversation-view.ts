// The open conversation: its timeline, the actions on its messages, and the user's read mark.

import { isSameEmoji, type Client, type Conversation, type StoredMessage } from 'messages-client';
import { composer } from './composer.js';
import { $, createElement, drawList, icon, setText } from './dom.js';
import { Edits } from './edits.js';
import { reportFailure } from './errors.js';
import { messageActions } from './message-actions.js';
import { createMessage, updateMessage, type MessageCallbacks } from './message.js';
import { participantsDialog } from './participants-dialog.js';
import { conversationAvatar, conversationName, drawPresence, joinNames, participantsSummary } from './people.js';
import { ensureTabStop, rovingFocus, UP_DOWN } from './roving-focus.js';
import { scroller } from './scroll.js';
import { firstUnread, timeline, type TimelineItem } from './timeline.js';

/** Older messages are loaded this close to the first loaded one. */
const LOAD_AHEAD_PX = 600;
const MESSAGE = '.message';
/** How many pages are loaded at most to find the first unread message. */
const UNREAD_PAGES_MAX = 10;
/** How long the target of a jump is highlighted, in milliseconds. */
const HIGHLIGHT_MS = 1_600;

export interface ConversationView {
  /** How many edits aren't saved. */
  readonly unsavedEdits: number;
  open(conversationId: string | null): void;
  draw(): void;
}

export function conversationView(client: Client): ConversationView {
  const list = $('messages');
  const { me } = client;
  let current: string | null = null;
  /** The first unread message when the conversation was opened: null if none is, undefined until that is known. */
  let unreadFrom: string | null | undefined;
  /** How many pages were loaded since the conversation was opened. */
  let loadedPages = 0;
  /** Whether the conversation has been shown: it may be open before it is loaded. */
  let shown = false;
  /** The newest message that was visible. */
  let lastVisibleId: string | undefined;
  /** This user's newest message at the last draw. */
  let newestOwnId: string | undefined;
  /** The last message of the last read mark. */
  let markedId: string | undefined;
  /** Loading failed: it is tried again after the user scrolls or the connection changes. */
  let loadFailed = false;

  const scroll = scroller(() => {
    loadFailed = false;
    positionChanged();
  });

  const react = (message: StoredMessage, emoji: string): void => {
    const isOwn = message.reactions.some((group) => isSameEmoji(group.emoji, emoji) && group.userIds.includes(me));
    const command = isOwn ? client.unreact(message.id, emoji) : client.react(message.id, emoji);
    void reportFailure(command, isOwn ? 'Your reaction wasn’t removed' : 'Your reaction wasn’t saved');
  };
  const edits: Edits = new Edits(client, () => draw(), (edit) => messageComposer.restore(edit));
  /** A message accepts actions once it and its edits are confirmed. */
  const acceptsActions = (message: StoredMessage): boolean =>
    !message.pending && !message.deletedAt && !edits.of(message.id);
  const messageComposer = composer(client, {
    onSent: () => scroll.toEnd(),
    // While the newest one is on its way, an older one isn't meant.
    lastEditable: () => {
      const newest = client.messages(current ?? '').findLast(({ senderId, deletedAt }) => senderId === me && !deletedAt);
      return newest && acceptsActions(newest) ? newest : undefined;
    },
    save: (message, content) => void edits.save(message, content),
  });
  const messageForAction = (id: string): StoredMessage | undefined => {
    const message = client.message(id);
    return message && acceptsActions(message) ? message : undefined;
  };
  const messageCallbacks: MessageCallbacks = {
    me,
    react,
    jumpTo,
    retry: (id) => {
      const edit = edits.of(id);
      if (edit) edits.retry(edit);
      else void client.retry(id);
    },
    discard: (id) => {
      const edit = edits.of(id);
      if (edit) edits.discard(edit);
      else client.discard(id);
      messageComposer.focus();
    },
  };
  const { reply, edit } = messageComposer;
  messageActions(list, { me, message: messageForAction, react, reply, edit, delete: confirmDelete });
  const participants = participantsDialog(client);
  $('participants').addEventListener('click', () => {
    const conversation = client.conversation(current ?? '');
    if (conversation) participants.open(conversation);
  });
  rovingFocus(list, MESSAGE, UP_DOWN);
  list.addEventListener('keydown', (event) => { if (event.key === 'Escape') messageComposer.focus(); });

  $('jump-to-newest').append(icon('down'), createElement('span', {}));
  $('jump-to-newest').addEventListener('click', () => {
    scroll.toEnd(true);
    messageComposer.focus();
  });

  /** Scrolls to a loaded message and highlights it. */
  function jumpTo(id: string): void {
    const item = list.querySelector<HTMLElement>(`${MESSAGE}[data-id="${CSS.escape(id)}"]`);
    if (!item) return;
    scroll.to(item, 'center');
    item.focus({ preventScroll: true });
    item.classList.add('highlight');
    setTimeout(() => item.classList.remove('highlight'), HIGHLIGHT_MS);
  }

  function confirmDelete(message: StoredMessage): void {
    const dialog = $<HTMLDialogElement>('delete-dialog');
    setText($('delete-excerpt'), message.content || 'A file');
    dialog.returnValue = '';
    dialog.onclose = () => {
      if (dialog.returnValue === 'yes') void reportFailure(client.delete(message.id), 'The message wasn’t deleted');
      messageComposer.focus();
    };
    dialog.showModal();
  }

  async function loadOlder(): Promise<void> {
    if (!current || loadFailed || !client.conversation(current)) return;
    const { loaded, complete, loading } = client.history(current);
    const enough = loaded && unreadFrom !== undefined && scroll.fromStart > LOAD_AHEAD_PX;
    if (loading || complete || enough) return;
    loadedPages += 1;
    try {
      await client.loadMessages(current);
    } catch {
      loadFailed = true;
    }
  }

  /** Sets `unreadFrom` once the first unread message is loaded or too far away; returns whether it did. */
  function findFirstUnread(conversation: Conversation, messages: readonly StoredMessage[]): boolean {
    const { loaded, complete } = client.history(conversation.id);
    if (unreadFrom !== undefined || !loaded) return false;
    const { id, missing } = firstUnread(messages, conversation.unreadCount, me);
    if (missing && !complete && loadedPages < UNREAD_PAGES_MAX) return false;
    unreadFrom = id;
    return true;
  }

  /** After each scroll and each change: loads older messages, marks as read, and updates the jump button. */
  function positionChanged(): void {
    if (!current) return;
    void loadOlder();
    const messages = client.messages(current);
    const lastId = messages.at(-1)?.id;
    if (scroll.atEnd && unreadFrom !== undefined && document.visibilityState === 'visible') {
      lastVisibleId = lastId;
      markRead(lastId);
    }
    const lastVisible = lastVisibleId === undefined ? -1 : messages.findIndex(({ id }) => id === lastVisibleId);
    const unseen = lastVisible < 0 ? client.conversation(current)?.unreadCount ?? 0
      : messages.slice(lastVisible + 1).filter(({ senderId }) => senderId !== me).length;
    const button = $('jump-to-newest');
    button.hidden = scroll.atEnd;
    setText(button.lastElementChild ?? button, unseen > 0 ? `${unseen} new` : '');
    const label = unseen > 0 ? `Jump to the newest message: ${unseen} new` : 'Jump to the newest message';
    button.setAttribute('aria-label', label);
  }

  function markRead(lastId: string | undefined): void {
    if (!current || !lastId || lastId === markedId) return;
    if (client.state !== 'live' || !client.history(current).loaded) return;
    markedId = lastId;
    const unreadCount = client.conversation(current)?.unreadCount ?? 0;
    if (unreadCount > 0) void reportFailure(Promise.resolve(client.markRead(current)));
  }

  function drawHeader(conversation: Conversation): void {
    setText($('title'), conversationName(conversation, me));
    const avatarElement = $('conversation-avatar');
    if (avatarElement.dataset['of'] !== conversation.id) {
      avatarElement.replaceChildren(conversationAvatar(conversation, me));
      avatarElement.dataset['of'] = conversation.id;
    }
    drawPresence(avatarElement, conversation, client);
    setText($('participants'), participantsSummary(conversation, client));
    const typists = client.typists(conversation.id);
    const verb = typists.length > 1 ? 'are' : 'is';
    setText($('typing'), typists.length > 0 ? `${joinNames(typists)} ${verb} typing…` : '');
    const { complete, loaded } = client.history(conversation.id);
    const loadingText = loaded ? 'Loading earlier messages…' : 'Loading messages…';
    setText($('history-status'), complete ? 'This is the beginning of the conversation.' : loadingText);
  }

  function createItem(item: TimelineItem): HTMLElement {
    if (item.kind === 'message') return createMessage(item, me);
    const text = item.kind === 'day-divider' ? item.text : 'New';
    return createElement('li', { class: item.kind, 'data-testid': item.kind }, createElement('span', {}, text));
  }

  function drawTimeline(conversation: Conversation): void {
    const messages = client.messages(conversation.id);
    const foundUnread = findFirstUnread(conversation, messages);
    scroll.keepPosition(() => {
      const items = timeline(client, conversation, unreadFrom ?? null, edits);
      drawList(list, items, ({ id }) => id, createItem, (element, item) => {
        if (item.kind === 'message') updateMessage(element, item, messageCallbacks);
      });
    });
    const elements = list.querySelectorAll<HTMLElement>(MESSAGE);
    ensureTabStop(list, MESSAGE, elements[elements.length - 1]);
    const ownId = messages.findLast((message) => message.senderId === me)?.id;
    if (ownId !== newestOwnId && messages.at(-1)?.id === ownId && newestOwnId !== undefined) scroll.toEnd();
    newestOwnId = ownId ?? '';
    const unreadDivider = foundUnread ? list.querySelector('.unread-divider') : null;
    if (unreadDivider) scroll.to(unreadDivider, 'start');
  }

  function draw(): void {
    const conversation = current === null ? undefined : client.conversation(current);
    $('open-conversation').hidden = !conversation;
    $('empty-state').hidden = conversation !== undefined;
    if (!conversation) return;
    if (!shown) focusOnce();
    drawHeader(conversation);
    participants.draw();
    drawTimeline(conversation);
    positionChanged();
  }

  function focusOnce(): void {
    shown = true;
    // Focusing the text field would open a phone's keyboard, which covers the messages.
    if (matchMedia('(pointer: coarse)').matches) $('title').focus();
    else messageComposer.focus();
  }

  client.on('state', () => {
    loadFailed = false;
    markedId = undefined;
  });
  document.addEventListener('visibilitychange', () => draw());

  return {
    draw,
    get unsavedEdits() { return edits.unsavedCount; },
    open(conversationId) {
      current = conversationId;
      unreadFrom = undefined;
      lastVisibleId = newestOwnId = markedId = undefined;
      loadFailed = shown = false;
      loadedPages = 0;
      list.querySelector('.message[tabindex="0"]')?.setAttribute('tabindex', '-1');
      messageComposer.open(conversationId);
      scroll.toEnd();
      draw();
    },
  };
}
