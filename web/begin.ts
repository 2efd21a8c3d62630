// The dialog that begins a conversation: with one person directly, with several or a title as a group.

import type { Client } from 'messages-client';
import { $, button, setText } from './dom.js';
import { sentence } from './notices.js';
import { avatar, others } from './people.js';

/** How many known people are offered. */
const OFFERED = 8;

/** The people in what was written. */
const written = (text: string): string[] => [...new Set(text.split(/[\s,;]+/).map((id) => id.replace(/^@/, '')).filter(Boolean))];

/** The dialog; gives what opens it. */
export function beginDialog(client: Client, open: (id: string) => void): () => void {
  const dialog = $<HTMLDialogElement>('begin');
  const people = $<HTMLInputElement>('begin-people');
  const title = $<HTMLInputElement>('begin-name');

  const drawKnown = (): void => {
    const chosen = written(people.value);
    const known = new Set(client.conversations().flatMap((conversation) => others(conversation, client.me)));
    $('begin-known').replaceChildren(...[...known].slice(0, OFFERED).map((userId) => button(
      { class: 'chip', 'aria-pressed': String(chosen.includes(userId)), 'data-user': userId },
      () => {
        const now = written(people.value);
        people.value = (now.includes(userId) ? now.filter((one) => one !== userId) : [...now, userId]).join(', ');
        drawKnown();
        $('begin-known').querySelector<HTMLElement>(`[data-user="${CSS.escape(userId)}"]`)?.focus();
      },
      avatar(userId), userId,
    )));
  };

  async function begin(): Promise<void> {
    setText($('begin-problem'), '');
    try {
      const named = title.value.trim();
      const made = await client.startConversation({ participantIds: written(people.value), ...(named ? { title: named } : {}) });
      dialog.close();
      open(made.id);
    } catch (error) {
      setText($('begin-problem'), sentence(error));
    }
  }

  people.addEventListener('input', drawKnown);
  $('begin-cancel').addEventListener('click', () => dialog.close());
  $('begin-form').addEventListener('submit', (event) => {
    event.preventDefault();
    void begin();
  });
  return () => {
    $<HTMLFormElement>('begin-form').reset();
    setText($('begin-problem'), '');
    drawKnown();
    dialog.showModal();
  };
}
