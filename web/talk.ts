// The open conversation: its messages, what is done with them, and how far one has read.

import type { Client, Conversation, StoredMessage } from 'messages-client';
import { composer } from './composer.js';
import { $, icon, keyed, node, setText } from './dom.js';
import { Edits } from './edits.js';
import { arrows, stop, UP_DOWN } from './focus.js';
import { fillMessage, makeMessage, type Acts } from './message.js';
import { membersDialog } from './members.js';
import { attempt } from './notices.js';
import { drawPresence, face, nameOf, names, whoIsThere } from './people.js';
import { scroller } from './scroll.js';
import { firstUnread, thread, type Item } from './thread.js';
import { tools, type Deeds } from './tools.js';

/** How far from the beginning of what is here older messages are asked for. */
const AHEAD_PX = 600;
const MESSAGE = '.message';
/** How many pages are read at most to find where the unread begins. */
const PAGES = 10;
/** How long a message that one jumped to stands out. */
const FLASH_MS = 1_600;

export interface Talk {
  /** How many edits would be lost now. */
  readonly unsaved: number;
  open(conversationId: string | null): void;
  draw(): void;
}

export function talk(client: Client): Talk {
  const list = $('messages');
  const { me } = client;
  let current: string | null = null;
  /** Where the unread began when the conversation was opened: undefined until that is known. */
  let unreadFrom: string | null | undefined;
  /** How many pages were asked for since. */
  let pages = 0;
  /** Whether it was shown yet: it may be open before it is known. */
  let entered = false;
  /** The newest message that was in sight. */
  let seen: string | undefined;
  /** The newest of one's own when it was last drawn. */
  let newest: string | undefined;
  let marked: string | undefined;
  /** A page that failed is asked for again when something is different, and not at once. */
  let stuck = false;

  const place = scroller(() => {
    stuck = false;
    reached();
  });

  const react = (message: StoredMessage, emoji: string): void => {
    const mine = message.reactions.some((group) => group.emoji === emoji && group.userIds.includes(me));
    const done = mine ? client.unreact(message.id, emoji) : client.react(message.id, emoji);
    void attempt(done, mine ? 'Your reaction wasn’t taken back' : 'Your reaction wasn’t saved');
  };
  const edits: Edits = new Edits(client, () => draw(), (edit) => writing.giveBack(edit));
  /** Nothing more is done with a message before an edit of it is settled. */
  const settled = (message: StoredMessage): boolean => !message.pending && !message.deletedAt && !edits.of(message.id);
  const writing = composer(client, {
    sent: () => place.toEnd(),
    lastOwn: () => client.messages(current ?? '').findLast((message) => message.senderId === me && settled(message)),
    save: (message, content) => void edits.save(message, content),
  });
  const usable = (id: string): StoredMessage | undefined => {
    const message = client.message(id);
    return message && settled(message) ? message : undefined;
  };
  const deeds: Deeds = { me, message: usable, react, reply: writing.reply, edit: writing.edit, erase };
  const acts: Acts = {
    me,
    react,
    jump,
    retry: (id) => {
      const edit = edits.of(id);
      if (edit) edits.retry(edit);
      else void client.retry(id);
    },
    discard: (id) => {
      const edit = edits.of(id);
      if (edit) edits.discard(edit);
      else client.discard(id);
      writing.focus();
    },
  };
  tools(list, deeds);
  const members = membersDialog(client);
  $('members').addEventListener('click', () => {
    const conversation = client.conversation(current ?? '');
    if (conversation) members.open(conversation);
  });
  arrows(list, MESSAGE, UP_DOWN);
  list.addEventListener('keydown', (event) => { if (event.key === 'Escape') writing.focus(); });

  $('newest').append(icon('down'), node('span', {}));
  $('newest').addEventListener('click', () => {
    place.toEnd(true);
    writing.focus();
  });

  /** Goes to a message that is here, and shows which one it is. */
  function jump(id: string): void {
    const item = list.querySelector<HTMLElement>(`${MESSAGE}[data-id="${CSS.escape(id)}"]`);
    if (!item) return;
    place.to(item, 'center');
    item.focus({ preventScroll: true });
    item.classList.add('flash');
    setTimeout(() => item.classList.remove('flash'), FLASH_MS);
  }

  function erase(message: StoredMessage): void {
    const dialog = $<HTMLDialogElement>('erase');
    setText($('erase-text'), message.content || 'A file');
    dialog.returnValue = '';
    dialog.onclose = () => {
      if (dialog.returnValue === 'yes') void attempt(client.delete(message.id), 'The message wasn’t deleted');
      writing.focus();
    };
    dialog.showModal();
  }

  async function older(): Promise<void> {
    if (!current || stuck || !client.conversation(current)) return;
    const { loaded, complete, loading } = client.history(current);
    const enough = loaded && unreadFrom !== undefined && place.fromStart > AHEAD_PX;
    if (loading || complete || enough) return;
    pages += 1;
    try {
      await client.loadMessages(current);
    } catch {
      stuck = true;
    }
  }

  /** Once it is here, or too far away: where the unread begins. */
  function findUnread(conversation: Conversation, messages: readonly StoredMessage[]): boolean {
    const { loaded, complete } = client.history(conversation.id);
    if (unreadFrom !== undefined || !loaded) return false;
    const { id, missing } = firstUnread(messages, conversation.unreadCount, me);
    if (missing && !complete && pages < PAGES) return false;
    unreadFrom = id;
    return true;
  }

  /** After every move and every change: more to read, what was read, and the way down. */
  function reached(): void {
    if (!current) return;
    void older();
    const messages = client.messages(current);
    const last = messages.at(-1)?.id;
    if (place.atEnd && unreadFrom !== undefined && document.visibilityState === 'visible') {
      seen = last;
      markRead(last);
    }
    const at = seen === undefined ? -1 : messages.findIndex((message) => message.id === seen);
    const missed = at < 0 ? client.conversation(current)?.unreadCount ?? 0
      : messages.slice(at + 1).filter((message) => message.senderId !== me).length;
    const button = $('newest');
    button.hidden = place.atEnd;
    setText(button.lastElementChild ?? button, missed > 0 ? `${missed} new` : '');
    button.setAttribute('aria-label', missed > 0 ? `To the newest message: ${missed} new` : 'To the newest message');
  }

  function markRead(last: string | undefined): void {
    if (!current || !last || last === marked || client.state !== 'live' || !client.history(current).loaded) return;
    marked = last;
    if ((client.conversation(current)?.unreadCount ?? 0) > 0) void attempt(Promise.resolve(client.markRead(current)));
  }

  function drawHead(): void {
    const conversation = current ? client.conversation(current) : undefined;
    if (!conversation) return;
    setText($('title'), nameOf(conversation, me));
    const shown = $('face');
    if (shown.dataset['of'] !== conversation.id) shown.replaceChildren(face(conversation, me));
    shown.dataset['of'] = conversation.id;
    drawPresence(shown, conversation, client);
    setText($('members'), whoIsThere(conversation, client));
    const typists = client.typists(conversation.id);
    setText($('typing'), typists.length > 0 ? `${names(typists)} ${typists.length > 1 ? 'are' : 'is'} typing…` : '');
    const { complete, loaded } = client.history(conversation.id);
    setText($('older'), complete ? 'This is where it begins.' : loaded ? 'Reading earlier messages…' : 'Reading messages…');
  }

  function make(item: Item): HTMLElement {
    if (item.kind === 'message') return makeMessage(item, me);
    const text = item.kind === 'day' ? item.text : 'New';
    return node('li', { class: item.kind, 'data-testid': item.kind }, node('span', {}, text));
  }

  function drawMessages(): void {
    const conversation = current ? client.conversation(current) : undefined;
    if (!conversation) return;
    const messages = client.messages(conversation.id);
    const first = findUnread(conversation, messages);
    place.keeping(() => {
      keyed(list, thread(client, conversation, unreadFrom ?? null, edits), (item) => item.id, make, (element, item) => {
        if (item.kind === 'message') fillMessage(element, item, acts);
      });
    });
    const items = list.querySelectorAll<HTMLElement>(MESSAGE);
    stop(list, MESSAGE, items[items.length - 1]);
    const own = messages.findLast((message) => message.senderId === me)?.id;
    if (own !== newest && messages.at(-1)?.id === own && newest !== undefined) place.toEnd();
    newest = own ?? '';
    const begin = first ? list.querySelector('.unread') : null;
    if (begin) place.to(begin, 'start');
  }

  function draw(): void {
    const there = current !== null && client.conversation(current) !== undefined;
    $('open').hidden = !there;
    $('empty').hidden = there;
    if (!there) return;
    if (!entered) enter();
    drawHead();
    members.draw();
    drawMessages();
    reached();
  }

  function enter(): void {
    entered = true;
    // A phone's keyboard would cover what one came to read.
    if (matchMedia('(pointer: coarse)').matches) $('title').focus();
    else writing.focus();
  }

  client.on('state', () => {
    stuck = false;
    marked = undefined;
  });
  document.addEventListener('visibilitychange', () => draw());

  return {
    draw,
    get unsaved() { return edits.unsaved; },
    open(conversationId) {
      current = conversationId;
      unreadFrom = undefined;
      seen = newest = marked = undefined;
      stuck = entered = false;
      pages = 0;
      list.querySelector('.message[tabindex="0"]')?.setAttribute('tabindex', '-1');
      writing.open(conversationId);
      place.toEnd();
      draw();
    },
  };
}
