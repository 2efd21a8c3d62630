// The parts of a conversation that is looked into: an event, a part of its state, and the views in Redis.

import { button, createElement } from '../dom.js';
import { NOTHING, json, time } from './format.js';
import { sourceText } from './section.js';
import { table, type Table } from './table.js';
import type { CachedView, ConversationState, LoggedEvent } from './types.js';

/** An event, with its envelope on demand. */
export function createEvent(event: LoggedEvent, showStateAt: (position: string) => void): HTMLElement {
  const { position, type, actor, loggedAt, eventId } = event;
  const envelope = createElement('details', {}, createElement('summary', {}, `Envelope of ${position}`));
  // Most are never looked at.
  envelope.addEventListener('toggle', () => {
    if (envelope.open && envelope.childElementCount === 1) {
      envelope.append(sourceText(json(event.event), `The envelope of ${position}`, 'event-envelope'));
    }
  });
  return createElement('li', { class: 'event', 'data-testid': 'event', 'data-position': position },
    createElement('div', { class: 'event-head' },
      createElement('strong', { class: 'code' }, position), createElement('span', {}, type),
      createElement('bdi', {}, actor), createElement('span', { class: 'hint' }, time(loggedAt)),
      button({ class: 'secondary', 'data-testid': 'state-here', 'aria-label': `State here, after ${position}` },
        () => showStateAt(position), 'State here')),
    createElement('p', { class: 'hint code' }, eventId),
    envelope);
}

/** A part of the state, such as a message, on demand. */
export function createItem({ kind, value }: ConversationState['items'][number]): HTMLElement {
  const named = value as { id?: unknown; userId?: unknown; messageId?: unknown } | null;
  const name = named?.id ?? named?.userId ?? named?.messageId;
  const title = typeof name === 'string' ? `${kind} ${name}` : kind;
  return createElement('details', { 'data-testid': 'state-item' },
    createElement('summary', {}, title), sourceText(json(value), title, 'state-item-value'));
}

const VIEW_STATES: Record<CachedView['status'], string> = {
  same: 'works', stale: 'gone', absent: 'unknown', changing: 'half_works',
};
const VIEW_TEXTS: Record<CachedView['status'], string> = {
  same: 'same as Postgres', stale: 'stale', absent: 'not cached', changing: 'changing',
};

/** What is cached where it differs from Postgres. */
function difference({ status, path, found, expected }: CachedView): string {
  if (status !== 'stale') return NOTHING;
  return `${path ?? ''} is ${JSON.stringify(found)}, must be ${JSON.stringify(expected)}`.trim();
}

export const viewsTable = (): Table<CachedView> => table<CachedView>({
  caption: 'Views in Redis, compared with Postgres', testId: 'views', isStacked: true, keyOf: ({ view }) => view,
  empty: 'None is known yet.',
  columns: [
    { name: 'View', text: ({ view }) => view },
    { name: 'In Redis', text: ({ status }) => VIEW_TEXTS[status] ?? status, state: ({ status }) => VIEW_STATES[status] },
    { name: 'Difference', text: difference },
  ],
});
