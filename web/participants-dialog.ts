// The dialog that lists the participants of a conversation and their presence.

import type { Client, Conversation } from 'messages-client';
import { $, child, createElement, drawList, setAttribute, setText } from './dom.js';
import { reportFailure } from './errors.js';
import { avatar, presenceStatus, presenceText } from './people.js';

export interface ParticipantsDialog {
  open(conversation: Conversation): void;
  /** Updates the presence if the dialog is open. */
  draw(): void;
}

const createItem = (userId: string, me: string): HTMLElement =>
  createElement('li', { class: 'participant', 'data-testid': 'participant' },
    createElement('span', { class: 'avatar-frame' }, avatar(userId), createElement('span', { class: 'presence-dot' })),
    createElement('span', { class: 'participant-name', dir: 'auto' }, userId === me ? `${userId} (you)` : userId),
    createElement('span', { class: 'participant-presence hint' }));

export function participantsDialog(client: Client): ParticipantsDialog {
  const dialog = $<HTMLDialogElement>('participants-dialog');
  const list = $('participants-list');
  let userIds: string[] = [];
  /** Counts how often the dialog was opened or closed: an older request must not fill a newer list. */
  let sessionCount = 0;

  function draw(): void {
    if (!dialog.open) return;
    drawList(list, userIds, (userId) => userId, (userId) => createItem(userId, client.me), (item, userId) => {
      const isMe = userId === client.me;
      const status = isMe && client.state === 'live' ? 'online' : presenceStatus(userId, client);
      setAttribute(child(item, 'presence-dot'), 'data-state', status);
      setText(child(item, 'participant-presence'), isMe ? '' : presenceText(userId, client));
    });
  }

  /** Loads all participants of a conversation that names only some. */
  async function loadAll({ id, participantCount }: Conversation): Promise<void> {
    if (userIds.length >= participantCount) return;
    const session = (sessionCount += 1);
    setText($('participants-status'), 'Loading the other participants…');
    const all = await reportFailure(client.participants(id), 'The list of participants isn’t complete');
    if (session !== sessionCount) return;
    setText($('participants-status'), '');
    userIds = all ?? userIds;
    draw();
  }

  dialog.addEventListener('close', () => { sessionCount += 1; });
  return {
    draw,
    open(conversation) {
      userIds = conversation.participants.map(({ userId }) => userId);
      setText($('participants-title'), `${conversation.participantCount} people`);
      setText($('participants-status'), '');
      dialog.showModal();
      draw();
      void loadAll(conversation);
    },
  };
}
