// The dialog that shows who takes part in a conversation, and who of them is there.

import type { Client, Conversation } from 'messages-client';
import { $, keyed, node, part, setAttribute, setText } from './dom.js';
import { attempt } from './notices.js';
import { avatar, seen, statusOf } from './people.js';

export interface Members {
  open(conversation: Conversation): void;
  /** Shows how it is now, where the dialog is open. */
  draw(): void;
}

const make = (userId: string, me: string): HTMLElement => node('li', { class: 'member', 'data-testid': 'member' },
  node('span', { class: 'face' }, avatar(userId), node('span', { class: 'dot' })),
  node('span', { class: 'member-name', dir: 'auto' }, userId === me ? `${userId} (you)` : userId),
  node('span', { class: 'member-seen hint' }));

export function membersDialog(client: Client): Members {
  const dialog = $<HTMLDialogElement>('who');
  const list = $('who-list');
  let people: string[] = [];
  let turn = 0;

  function draw(): void {
    if (!dialog.open) return;
    keyed(list, people, (userId) => userId, (userId) => make(userId, client.me), (item, userId) => {
      const itself = userId === client.me;
      setAttribute(part(item, 'dot'), 'data-state', itself && client.state === 'live' ? 'online' : statusOf(userId, client));
      setText(part(item, 'member-seen'), itself ? '' : seen(userId, client));
    });
  }

  /** A conversation itself only names some of many. */
  async function readAll({ id, participantCount }: Conversation): Promise<void> {
    if (people.length >= participantCount) return;
    const mine = (turn += 1);
    setText($('who-more'), 'Reading who else takes part…');
    const all = await attempt(client.participants(id), 'The list of people isn’t complete');
    if (mine !== turn) return;
    setText($('who-more'), '');
    people = all ?? people;
    draw();
  }

  dialog.addEventListener('close', () => { turn += 1; });
  return {
    draw,
    open(conversation) {
      people = conversation.participants.map((one) => one.userId);
      setText($('who-title'), `${conversation.participantCount} people`);
      setText($('who-more'), '');
      dialog.showModal();
      draw();
      void readAll(conversation);
    },
  };
}
