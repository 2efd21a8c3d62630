// The actions of a message: one toolbar, which moves to the message under the pointer or with the focus.

import type { StoredMessage } from 'messages-client';
import { button, child, createElement, icon } from './dom.js';
import { ensureTabStop, LEFT_RIGHT, rovingFocus } from './roving-focus.js';

/** The reactions in the toolbar; a message shows all others that it has. */
const EMOJI: readonly (readonly [emoji: string, name: string])[] = [
  ['👍', 'thumbs up'], ['❤️', 'heart'], ['😂', 'laughing'], ['🎉', 'party'], ['😮', 'surprised'], ['😢', 'sad'],
];

/** The space between the message and the toolbar next to it. */
const GAP_PX = 12;

export interface ActionCallbacks {
  me: string;
  /** Returns a message if it accepts actions: it must be confirmed and not deleted. */
  message(id: string): StoredMessage | undefined;
  react(message: StoredMessage, emoji: string): void;
  reply(message: StoredMessage): void;
  edit(message: StoredMessage): void;
  delete(message: StoredMessage): void;
}

/** Adds the toolbar to the messages of a list. */
export function messageActions(list: HTMLElement, callbacks: ActionCallbacks): void {
  let current: HTMLElement | null = null;
  const onMessage = (action: (message: StoredMessage) => void) => () => {
    const message = callbacks.message(current?.dataset['id'] ?? '');
    if (message) action(message);
  };
  const actionButton = (
    testId: string, label: string, iconName: 'edit' | 'delete' | 'reply', action: (message: StoredMessage) => void,
  ): HTMLButtonElement => button(
    { class: 'message-action', 'data-testid': testId, 'aria-label': label, title: label, tabindex: '-1' },
    onMessage(action), icon(iconName),
  );
  const ownMessageButtons = [
    actionButton('edit', 'Edit', 'edit', callbacks.edit),
    actionButton('delete', 'Delete', 'delete', callbacks.delete),
  ];
  const reactionButtons = EMOJI.map(([emoji, name]) => button({
    class: 'message-action emoji', 'data-testid': 'react', 'data-emoji': emoji, 'aria-label': `React: ${name}`,
    title: name, tabindex: '-1',
  }, onMessage((message) => callbacks.react(message, emoji)), emoji));
  const toolbar = createElement(
    'div',
    { class: 'message-actions', role: 'toolbar', 'aria-label': 'Message actions', 'data-testid': 'message-actions' },
    ...reactionButtons,
    actionButton('reply', 'Reply', 'reply', callbacks.reply),
    ...ownMessageButtons,
  );
  rovingFocus(toolbar, '.message-action', LEFT_RIGHT);
  ensureTabStop(toolbar, '.message-action', toolbar.querySelector<HTMLElement>('.message-action'));

  /** Places the toolbar next to the bubble if it fits, otherwise above it, and never on the text. */
  function place(item: HTMLElement): void {
    const bubble = child(item, 'bubble');
    bubble.append(toolbar);
    toolbar.classList.remove('next-to-text');
    const itemBox = item.getBoundingClientRect();
    const bubbleBox = bubble.getBoundingClientRect();
    const room = Math.max(bubbleBox.left - itemBox.left, itemBox.right - bubbleBox.right);
    toolbar.classList.toggle('next-to-text', room > toolbar.offsetWidth + GAP_PX);
  }

  function show(item: HTMLElement | null): void {
    const message = item ? callbacks.message(item.dataset['id'] ?? '') : undefined;
    current = message ? item : null;
    for (const action of ownMessageButtons) action.hidden = message?.senderId !== callbacks.me;
    if (!message) toolbar.remove();
    else if (item && !item.contains(toolbar)) place(item);
  }

  /** Whether the keyboard is in the toolbar: a resting mouse must not move it away. */
  const hasKeyboardFocus = (): boolean =>
    toolbar.contains(document.activeElement) && document.activeElement?.matches(':focus-visible') === true;
  const focusedItem = (): HTMLElement | null => document.activeElement?.closest<HTMLElement>('.message') ?? null;
  const itemOf = (event: Event): HTMLElement | null => (event.target as HTMLElement).closest<HTMLElement>('.message');
  list.addEventListener('pointerover', (event) => {
    const item = itemOf(event);
    if (event.pointerType === 'mouse' && item && !hasKeyboardFocus()) show(item);
  });
  list.addEventListener('pointerleave', () => { if (!hasKeyboardFocus()) show(focusedItem()); });
  list.addEventListener('click', (event) => { if (itemOf(event)) show(itemOf(event)); });
  list.addEventListener('focusin', (event) => { if (itemOf(event)) show(itemOf(event)); });
  list.addEventListener('focusout', (event) => {
    if (!list.contains(event.relatedTarget as Node | null) && !list.matches(':hover')) show(null);
  });
}
