// Dead letters: a list, and one of them with its record, which an admin retries or discards.

import { $, isolate, setText } from '../dom.js';
import { announce } from '../toasts.js';
import { get, orToast, pollErrorText, post } from './api.js';
import { confirm, type Confirmation } from './confirmation.js';
import { NOTHING, count, number, time } from './format.js';
import { poller, type Poller } from './polling.js';
import { drawFacts, sourceText, type Fact, type Section } from './section.js';
import { table } from './table.js';
import type { DeadLetter } from './types.js';

const LIST_INTERVAL_MS = 2_000;
const DETAIL_INTERVAL_MS = 1_000;
/** How many dead letters the list shows. The server lists no more at once. */
const LIST_MAX = 500;
/** The longest reason that the server takes, in characters. */
const MAX_REASON = 500;
const UUID = /^[0-9a-f]{8}(-[0-9a-f]{4}){3}-[0-9a-f]{12}$/;

const STATES: Record<DeadLetter['status'], string> = {
  parked: 'gone', retrying: 'half_works', folded: 'works', discarded: 'unknown',
};
const STATUS_TEXTS: Record<DeadLetter['status'], string> = {
  parked: 'open', retrying: 'being retried', folded: 'folded', discarded: 'discarded',
};
const statusText = ({ status }: DeadLetter): string => STATUS_TEXTS[status] ?? status;

const list = table<DeadLetter>({
  caption: 'Dead letters', testId: 'dead-letters', isStacked: true, keyOf: ({ position }) => position,
  empty: 'There are none.',
  columns: [
    { name: 'Position', text: ({ position }) => position, href: ({ position }) => `#dead-letters/${position}` },
    { name: 'Status', text: statusText, state: ({ status }) => STATES[status] },
    { name: 'Since', text: ({ changedAt }) => time(changedAt) },
    { name: 'Reason', text: ({ reason, note }) => (note ? `${reason} · discarded: ${note}` : reason) },
  ],
});

/** The key of a record of ours is the id of its conversation, which can be looked into. */
function recordFacts(key: string, type: string): Fact[] {
  const keyFact: Fact = { name: 'Key', text: isolate(key) };
  return [UUID.test(key) ? { ...keyFact, href: `#conversation/${key}` } : keyFact, { name: 'Type', text: isolate(type) }];
}

function facts(letter: DeadLetter): Fact[] {
  const { status, reason, parkedAt, changedAt, conversationId, note, record } = letter;
  return [
    { name: 'Status', text: statusText(letter), state: STATES[status], testId: 'dead-letter-status' },
    { name: 'Why it can’t be folded', text: isolate(reason), testId: 'dead-letter-reason' },
    { name: 'Found', text: time(parkedAt) },
    { name: 'Status changed', text: time(changedAt) },
    ...(note ? [{ name: 'Why it was discarded', text: isolate(note), testId: 'dead-letter-note' }] : []),
    ...(conversationId ? [{ name: 'Conversation', text: conversationId, href: `#conversation/${conversationId}` }] : []),
    ...(record ? recordFacts(record.key, record.eventType ?? NOTHING) : []),
  ];
}

/** Draws a dead letter. The record is drawn once: it never changes, and somebody may be reading it. */
function drawLetter(letter: DeadLetter): void {
  $('dead-letter-body').hidden = false;
  drawFacts($('dead-letter-facts'), facts(letter));
  const isOpen = letter.status === 'parked';
  $('retry-dead-letter').hidden = !isOpen && letter.status !== 'discarded';
  $('discard-dead-letter').hidden = !isOpen;
  const place = $('dead-letter-record');
  if (place.dataset['position'] === letter.position) return;
  place.dataset['position'] = letter.position;
  const { record } = letter;
  const shown = record ? new TextEncoder().encode(record.value).length : 0;
  const isCut = record && record.bytes > shown + 3 ? ` The first ${number(shown)} are shown.` : '';
  setText($('dead-letter-hint'), record ? `${count(record.bytes, 'byte')}.${isCut}` : 'The log no longer has the record.');
  place.replaceChildren(...(record ? [sourceText(record.value, 'The record’s value', 'dead-letter-record')] : []));
}

/** The list of dead letters. */
function deadLetterList(): Poller {
  const all = $<HTMLInputElement>('all-dead-letters');
  const polls = poller(LIST_INTERVAL_MS, async () => {
    try {
      const letters = await get<DeadLetter[]>(`dead-letters?limit=${LIST_MAX}${all.checked ? '&all=true' : ''}`);
      list.draw(letters);
      setText($('dead-letters-error'), '');
      setText($('dead-letters-hint'), letters.length < LIST_MAX ? '' : `The first ${LIST_MAX} are shown.`);
    } catch (error) {
      setText($('dead-letters-error'), pollErrorText(error));
      throw error;
    }
  });
  $('dead-letters').append(list.element);
  $('dead-letter-choices').addEventListener('change', () => polls.now());
  return polls;
}

/** One dead letter, with what an admin can do about it. */
function deadLetterDetail(): Section {
  let position = '';
  let latest: DeadLetter | null = null;
  const path = (rest = ''): string => `dead-letters/${encodeURIComponent(position)}${rest}`;

  function show(letter: DeadLetter): void {
    if (letter.position !== position) return;
    if (latest && latest.status !== letter.status) announce(`The dead letter is ${statusText(letter)}`);
    // An answer to an action has no record: it stays what it was.
    latest = { ...letter, record: letter.record ?? latest?.record };
    drawLetter(latest);
  }

  const polls = poller(DETAIL_INTERVAL_MS, async () => {
    const asked = position;
    try {
      show(await get<DeadLetter>(path()));
      setText($('dead-letter-error'), '');
    } catch (error) {
      if (asked === position) setText($('dead-letter-error'), pollErrorText(error));
      throw error;
    }
  });

  async function retry(): Promise<void> {
    const letter = await orToast(post<DeadLetter>(path('/retry')));
    if (!letter) return;
    show(letter);
    $('heading-dead-letter').focus(); // the button is gone
    polls.now();
  }

  $('retry-dead-letter').addEventListener('click', () => void retry());
  $('discard-dead-letter').addEventListener('click', () => confirm(discardConfirmation(position), async ({ text }) => {
    show(await post<DeadLetter>(path('/discard'), { reason: text }));
  }));
  return {
    open(argument) {
      position = argument;
      latest = null;
      setText($('heading-dead-letter'), `Dead letter ${position}`);
      setText($('dead-letter-error'), '');
      $('dead-letter-body').hidden = true;
      polls.start();
    },
    close: polls.stop,
  };
}

const discardConfirmation = (position: string): Confirmation => ({
  title: `Discard the dead letter ${position}?`,
  explanation: [
    'It leaves the list of open ones. The record stays on the log: you can still retry it, and a rebuild folds it if '
    + 'this release can read it.',
  ],
  action: 'Discard it', isDangerous: true, focusAfter: $('heading-dead-letter'),
  field: { label: 'Why? The audit keeps your reason.', maxLength: MAX_REASON },
});

export function deadLetters(): Section {
  const all = deadLetterList();
  const one = deadLetterDetail();
  const close = (): void => {
    all.stop();
    one.close();
  };
  return {
    open(position) {
      close();
      $('dead-letter-list').hidden = position !== '';
      $('dead-letter').hidden = position === '';
      if (position) one.open(position);
      else all.start();
    },
    close,
  };
}
