// What can be done with a message: one set of buttons, which goes to the message that is pointed at or has the focus.

import type { StoredMessage } from 'messages-client';
import { button, icon, node, part } from './dom.js';
import { arrows, LEFT_RIGHT, stop } from './focus.js';

/** The reactions that are a click away. Others show once somebody gave them. */
const EMOJI: readonly (readonly [emoji: string, name: string])[] = [
  ['👍', 'thumbs up'], ['❤️', 'heart'], ['😂', 'laughing'], ['🎉', 'party'], ['😮', 'surprised'], ['😢', 'sad'],
];

/** What is kept free beside the buttons. */
const GAP_PX = 12;

/** What the buttons do. */
export interface Deeds {
  me: string;
  /** A message if something can be done with it: what isn't confirmed or is gone can't be answered. */
  message(id: string): StoredMessage | undefined;
  react(message: StoredMessage, emoji: string): void;
  reply(message: StoredMessage): void;
  edit(message: StoredMessage): void;
  erase(message: StoredMessage): void;
}

/** Puts the buttons to work on the messages of a list; gives what shows them at one. */
export function tools(list: HTMLElement, deeds: Deeds): (item: HTMLElement | null) => void {
  let at: HTMLElement | null = null;
  const message = (): StoredMessage | undefined => deeds.message(at?.dataset['id'] ?? '');
  const act = (deed: (message: StoredMessage) => void) => () => {
    const on = message();
    if (on) deed(on);
  };
  const own = [
    button({ class: 'tool', 'data-testid': 'edit', 'aria-label': 'Edit', title: 'Edit', tabindex: '-1' }, act(deeds.edit), icon('edit')),
    button({ class: 'tool', 'data-testid': 'delete', 'aria-label': 'Delete', title: 'Delete', tabindex: '-1' }, act(deeds.erase), icon('erase')),
  ];
  const bar = node('div', { class: 'tools', role: 'toolbar', 'aria-label': 'Do something with this message', 'data-testid': 'tools' },
    ...EMOJI.map(([emoji, name]) => button(
      { class: 'tool emoji', 'data-testid': 'react', 'data-emoji': emoji, 'aria-label': `React: ${name}`, title: name, tabindex: '-1' },
      act((on) => deeds.react(on, emoji)), emoji)),
    button({ class: 'tool', 'data-testid': 'reply', 'aria-label': 'Answer', title: 'Answer', tabindex: '-1' }, act(deeds.reply), icon('reply')),
    ...own,
  );
  arrows(bar, '.tool', LEFT_RIGHT);
  stop(bar, '.tool', bar.querySelector<HTMLElement>('.tool'));

  /** Beside the text where there is room, else above it: never on it. */
  function put(item: HTMLElement): void {
    const bubble = part(item, 'bubble');
    bubble.append(bar);
    bar.classList.remove('beside');
    const [row, text] = [item.getBoundingClientRect(), bubble.getBoundingClientRect()];
    const room = Math.max(text.left - row.left, row.right - text.right);
    bar.classList.toggle('beside', room > bar.offsetWidth + GAP_PX);
  }

  function show(item: HTMLElement | null): void {
    const on = item ? deeds.message(item.dataset['id'] ?? '') : undefined;
    at = on ? item : null;
    for (const one of own) one.hidden = on?.senderId !== deeds.me;
    if (!on) bar.remove();
    else if (item && !item.contains(bar)) put(item);
  }

  /** The keyboard's place is not taken away by a mouse that lies there. */
  const held = (): boolean => bar.contains(document.activeElement) && document.activeElement?.matches(':focus-visible') === true;
  const focused = (): HTMLElement | null => document.activeElement?.closest<HTMLElement>('.message') ?? null;
  const itemOf = (event: Event): HTMLElement | null => (event.target as HTMLElement).closest<HTMLElement>('.message');
  list.addEventListener('pointerover', (event) => {
    const item = itemOf(event);
    if (event.pointerType === 'mouse' && item && !held()) show(item);
  });
  list.addEventListener('pointerleave', () => { if (!held()) show(focused()); });
  list.addEventListener('click', (event) => { if (itemOf(event)) show(itemOf(event)); });
  list.addEventListener('focusin', (event) => { if (itemOf(event)) show(itemOf(event)); });
  list.addEventListener('focusout', (event) => {
    if (!list.contains(event.relatedTarget as Node | null) && !list.matches(':hover')) show(null);
  });
  return show;
}
