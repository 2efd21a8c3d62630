// A conversation looked into: its events, its state at any of them, and whether Postgres and Redis agree with the log.

import { $, setText } from '../dom.js';
import { announce } from '../toasts.js';
import { ApiError, errorText, get, post } from './api.js';
import { confirm, type Confirmation } from './confirmation.js';
import { showEvents, showState, type OpenConversation } from './conversation-log.js';
import { viewsTable } from './conversation-parts.js';
import { NOTHING, number, time } from './format.js';
import { poller } from './polling.js';
import { drawFacts, type Section } from './section.js';
import type { CachedView, Conversation } from './types.js';

const INTERVAL_MS = 2_000;

const views = viewsTable();

function drawConversation(conversation: Conversation): void {
  const { partition, created, position, participants, rebuild } = conversation;
  const reason = rebuild?.reason ? `: ${rebuild.reason}` : '';
  drawFacts($('conversation-facts'), [
    { name: 'Partition', text: String(partition) },
    { name: 'Created at position', text: created ?? NOTHING },
    { name: 'Last folded position', text: position ?? NOTHING, testId: 'conversation-position' },
    { name: 'Participants', text: number(participants) },
    {
      name: 'Rows made again', testId: 'conversation-rebuild',
      text: rebuild ? `${rebuild.status}${reason}, requested at ${time(rebuild.requestedAt)}` : 'never asked for',
    },
  ]);
}

/** Says why a conversation can't be looked into. */
function showFailure(error: unknown): void {
  const isUnknown = error instanceof ApiError && [400, 404].includes(error.status) && error.code !== 'no_such_route';
  const hint = 'No conversation has this id. Dead letters and the log name ids of conversations.';
  setText($('conversation-error'), isUnknown ? hint : errorText(error));
}

const REBUILD: Confirmation = {
  title: 'Make the rows of this conversation again?',
  explanation: [
    'The projector of its partition reads the conversation’s events from the beginning of the topic, replaces its rows, '
    + 'and drops what Redis has cached of it. The other conversations of the partition wait meanwhile.',
    'Users who can see a difference start anew. If there is none, nobody notices.',
  ],
  action: 'Make them again',
};

/** Empties what belongs to the conversation before. */
function clear(): void {
  views.draw([]);
  for (const list of ['events', 'state-items', 'state-differences']) $(list).replaceChildren();
  for (const text of ['state-verdict', 'state-error', 'events-hint']) setText($(text), '');
  $<HTMLInputElement>('state-at').value = '';
  $('more-events').hidden = true;
}

export function conversation(): Section {
  let id = '';
  /** Counts how often an admin began to look: what an earlier look asked for must not be shown. */
  let looks = 0;
  /** Where the next page of events begins; null if there is none. */
  let next: string | null = null;
  const openOne = (): OpenConversation => {
    const [asked, look] = [id, looks];
    return { path: (rest = '') => `conversations/${encodeURIComponent(asked)}${rest}`, isOpen: () => look === looks };
  };

  const polls = poller(INTERVAL_MS, async () => {
    const { path, isOpen } = openOne();
    const found = await get<Conversation>(path());
    const cached = await get<CachedView[]>(path('/views'));
    if (!isOpen()) return;
    drawConversation(found);
    views.draw(cached);
  });

  async function loadEvents(after: string | null): Promise<void> {
    next = await showEvents(openOne(), after);
  }

  async function lookInto(): Promise<void> {
    looks += 1;
    const one = openOne();
    try {
      const found = await get<Conversation>(one.path());
      if (!one.isOpen()) return;
      clear();
      drawConversation(found);
      $('conversation-body').hidden = false;
      polls.start();
      await Promise.all([showState(one, ''), loadEvents(null)]);
    } catch (error) {
      if (one.isOpen()) showFailure(error);
    }
  }

  $('views').append(views.element);
  $('conversation-form').addEventListener('submit', (event) => {
    event.preventDefault();
    const address = `#conversation/${$<HTMLInputElement>('conversation-id').value.trim()}`;
    if (location.hash === address) void lookInto();
    else location.hash = address;
  });
  $('state-form').addEventListener('submit', (event) => {
    event.preventDefault();
    void showState(openOne(), $<HTMLInputElement>('state-at').value.trim());
  });
  $('more-events').addEventListener('click', () => void loadEvents(next));
  $('rebuild-conversation').addEventListener('click', () => confirm(REBUILD, async () => {
    await post(openOne().path('/rebuild'));
    announce('The projector will make the rows again');
    polls.now();
  }));
  return {
    open(argument) {
      polls.stop();
      looks += 1;
      id = argument;
      $<HTMLInputElement>('conversation-id').value = id;
      setText($('conversation-error'), '');
      $('conversation-body').hidden = true;
      if (id) void lookInto();
    },
    close: polls.stop,
  };
}
