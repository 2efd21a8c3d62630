// What the log says of a conversation: its events, page by page, and its state after any of them.

import { $, createElement, setText } from '../dom.js';
import { errorText, get, getPage, orToast } from './api.js';
import { createEvent, createItem } from './conversation-parts.js';
import { number } from './format.js';
import type { ConversationState, LoggedEvent } from './types.js';

const PAGE_SIZE = 100;
/** Each request reads only a part of the log. The page asks so often by itself before it lets the admin decide. */
const MAX_EMPTY_PAGES = 20;

/** The path of a conversation's route, as long as the admin looks into that conversation. */
export interface OpenConversation {
  path: (rest?: string) => string;
  isOpen: () => boolean;
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

/** Shows the state after the event at a position, or what Postgres includes. */
export async function showState({ path, isOpen }: OpenConversation, at: string): Promise<void> {
  setText($('state-error'), '');
  try {
    const state = await get<ConversationState>(path(`/state${at ? `?at=${encodeURIComponent(at)}` : ''}`));
    if (isOpen()) drawState(state);
  } catch (error) {
    if (isOpen()) setText($('state-error'), errorText(error));
  }
}

/** Shows the state after an event, and takes the focus there. */
async function showStateAfter(open: OpenConversation, position: string): Promise<void> {
  $<HTMLInputElement>('state-at').value = position;
  await showState(open, position);
  $('state-verdict').scrollIntoView({ block: 'center' });
  $('state-at').focus({ preventScroll: true });
}

/**
 * Shows the next events, and returns where the events after them begin. A part of the log without an event of this
 * conversation has an empty page.
 */
export async function showEvents(open: OpenConversation, after: string | null): Promise<string | null> {
  setText($('events-hint'), 'Reading the log…');
  let next = after;
  for (let pages = 0; pages < MAX_EMPTY_PAGES; pages += 1) {
    const query = `?limit=${PAGE_SIZE}${next ? `&after=${encodeURIComponent(next)}` : ''}`;
    const page = await orToast(getPage<LoggedEvent[]>(open.path(`/events${query}`)));
    if (!page || !open.isOpen()) break;
    next = page.page?.next ?? null;
    $('events').append(...page.data.map((event) => createEvent(event, (position) => void showStateAfter(open, position))));
    if (page.data.length > 0 || !next) break;
  }
  if (!open.isOpen()) return null;
  const shown = number($('events').childElementCount);
  setText($('events-hint'), next ? `${shown} events so far. The log goes on.` : `${shown} events: all of them.`);
  $('more-events').hidden = next === null;
  return next;
}
