// A conversation looked into: its events, its state at any of them, and whether Postgres and Redis agree with the log.

import { $, createElement, setText } from '../dom.js';
import { announce } from '../toasts.js';
import { ApiError, errorText, get, getPage, orToast, post } from './api.js';
import { confirm } from './confirmation.js';
import { createEvent, createItem, viewsTable } from './conversation-parts.js';
import { NOTHING, number, time } from './format.js';
import { poller } from './polling.js';
import { drawFacts, type Section } from './section.js';
import type { CachedView, Conversation, ConversationState, LoggedEvent } from './types.js';

const INTERVAL_MS = 2_000;
const PAGE_SIZE = 100;
/** Each request reads only a part of the log. The page asks so often by itself before it lets the admin decide. */
const MAX_EMPTY_PAGES = 20;

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

function drawState({ at, items, agrees, differences }: ConversationState): void {
  const where = at ? `The state after ${at}` : 'The state now';
  const verdict = agrees == null ? '' : ` It ${agrees ? 'equals' : 'differs from'} the rows in Postgres.`;
  const badgeState = agrees == null ? '' : agrees ? 'works' : 'gone';
  $('state-verdict').dataset['state'] = badgeState;
  setText($('state-verdict'), `${where}.${verdict}`);
  $('state-differences').replaceChildren(...differences.map((text) => createElement('li', { dir: 'auto' }, text)));
  $('state-items').replaceChildren(...items.map(createItem));
}

export function conversation(): Section {
  let id = '';
  /** Where the next page of events begins; null if there is none. */
  let next: string | null = null;
  const path = (rest = ''): string => `conversations/${encodeURIComponent(id)}${rest}`;

  const polls = poller(INTERVAL_MS, async () => {
    const asked = id;
    const found = await get<Conversation>(path());
    const cached = await get<CachedView[]>(path('/views'));
    if (asked !== id) return;
    drawConversation(found);
    views.draw(cached);
  });

  async function showState(at: string): Promise<void> {
    const asked = id;
    setText($('state-error'), '');
    try {
      const state = await get<ConversationState>(path(`/state${at ? `?at=${at}` : ''}`));
      if (asked === id) drawState(state);
    } catch (error) {
      if (asked === id) setText($('state-error'), errorText(error));
    }
  }

  /** Loads the next events. A part of the log without an event of this conversation has an empty page. */
  async function loadEvents(after: string | null): Promise<void> {
    const asked = id;
    setText($('events-hint'), 'Reading the log…');
    let from = after;
    for (let pages = 0; pages < MAX_EMPTY_PAGES; pages += 1) {
      const query = `?limit=${PAGE_SIZE}${from ? `&after=${from}` : ''}`;
      const page = await orToast(getPage<LoggedEvent[]>(path(`/events${query}`)));
      if (asked !== id) return;
      if (!page) break;
      from = page.page?.next ?? null;
      next = from;
      $('events').append(...page.data.map((event) => createEvent(event, showStateAt)));
      if (page.data.length > 0 || !from) break;
    }
    const shown = $('events').childElementCount;
    setText($('events-hint'), next ? `${number(shown)} events so far. The log goes on.` : `${number(shown)} events: all of them.`);
    $('more-events').hidden = next === null;
  }

  function showStateAt(position: string): void {
    $<HTMLInputElement>('state-at').value = position;
    void showState(position).then(() => {
      $('state-verdict').scrollIntoView({ block: 'center' });
      $('state-at').focus({ preventScroll: true });
    });
  }

  async function lookInto(): Promise<void> {
    const asked = id;
    try {
      const found = await get<Conversation>(path());
      if (asked !== id) return;
      drawConversation(found);
      views.draw([]);
      $('events').replaceChildren();
      $('state-items').replaceChildren();
      $('state-differences').replaceChildren();
      $<HTMLInputElement>('state-at').value = '';
      $('conversation-body').hidden = false;
      polls.start();
      await Promise.all([showState(''), loadEvents(null)]);
    } catch (error) {
      if (asked !== id) return;
      const isUnknown = error instanceof ApiError && (error.status === 404 || error.status === 400);
      const hint = 'No conversation has this id. Dead letters and the log name ids of conversations.';
      setText($('conversation-error'), isUnknown && error.code !== 'no_such_route' ? hint : errorText(error));
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
    void showState($<HTMLInputElement>('state-at').value.trim());
  });
  $('more-events').addEventListener('click', () => void loadEvents(next));
  $('rebuild-conversation').addEventListener('click', () => confirm({
    title: 'Make the rows of this conversation again?',
    explanation: [
      'The projector of its partition reads the conversation’s events from the beginning of the topic, replaces its '
      + 'rows, and drops what Redis has cached of it. The other conversations of the partition wait meanwhile.',
      'Users who can see a difference start anew. If there is none, nobody notices.',
    ],
    action: 'Make them again',
  }, async () => {
    await post(path('/rebuild'));
    announce('The projector will make the rows again');
    polls.now();
  }));
  return {
    open(argument) {
      polls.stop();
      id = argument;
      $<HTMLInputElement>('conversation-id').value = id;
      setText($('conversation-error'), '');
      $('conversation-body').hidden = true;
      if (id) void lookInto();
    },
    close: polls.stop,
  };
}
