// Dead letters: a list, and one of them with its record, which an admin retries or discards.

import { $, isolate, setText } from '../dom.js';
import { announce } from '../toasts.js';
import { errorText, get, orToast, post } from './api.js';
import { confirm } from './confirmation.js';
import { NOTHING, count, number, time } from './format.js';
import { poller } from './polling.js';
import { drawFacts, sourceText, type Fact, type Section } from './section.js';
import { table } from './table.js';
import type { DeadLetter } from './types.js';

const LIST_INTERVAL_MS = 2_000;
const DETAIL_INTERVAL_MS = 1_000;
/** The longest reason that the server takes, in characters. */
const MAX_REASON = 500;

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

function facts(letter: DeadLetter): Fact[] {
  const { status, reason, parkedAt, changedAt, conversationId, note, record } = letter;
  return [
    { name: 'Status', text: statusText(letter), state: STATES[status], testId: 'dead-letter-status' },
    { name: 'Why it can’t be folded', text: isolate(reason), testId: 'dead-letter-reason' },
    { name: 'Found', text: time(parkedAt) },
    { name: 'Status changed', text: time(changedAt) },
    ...(note ? [{ name: 'Why it was discarded', text: isolate(note), testId: 'dead-letter-note' }] : []),
    ...(conversationId ? [{ name: 'Conversation', text: conversationId, href: `#conversation/${conversationId}` }] : []),
    ...(record ? [{ name: 'Key', text: isolate(record.key) }, { name: 'Type', text: record.eventType ?? NOTHING }] : []),
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

export function deadLetters(): Section {
  /** The dead letter that is open; empty for the list. */
  let position = '';
  let latest: DeadLetter | null = null;
  const isAll = (): boolean => $<HTMLInputElement>('section-dead-letters').querySelector<HTMLInputElement>('[value="all"]')?.checked ?? false;

  const listPolls = poller(LIST_INTERVAL_MS, async () => {
    try {
      list.draw(await get<DeadLetter[]>(`dead-letters${isAll() ? '?all=true' : ''}`));
      setText($('dead-letters-error'), '');
    } catch (error) {
      setText($('dead-letters-error'), errorText(error));
      throw error;
    }
  });

  const detailPolls = poller(DETAIL_INTERVAL_MS, async () => {
    const asked = position;
    try {
      show(await get<DeadLetter>(`dead-letters/${asked}`));
      setText($('dead-letter-error'), '');
    } catch (error) {
      if (asked === position) setText($('dead-letter-error'), errorText(error));
      throw error;
    }
  });

  function show(letter: DeadLetter): void {
    if (letter.position !== position) return;
    if (latest?.position === letter.position && latest.status !== letter.status) {
      announce(`The dead letter is ${statusText(letter)}`);
    }
    // An answer to an action has no record: it stays what it was.
    latest = { ...letter, record: letter.record ?? latest?.record };
    drawLetter(latest);
  }

  async function retry(): Promise<void> {
    const letter = await orToast(post<DeadLetter>(`dead-letters/${position}/retry`));
    if (!letter) return;
    show(letter);
    $('heading-dead-letter').focus(); // the button is gone
    detailPolls.now();
  }

  function discard(): void {
    confirm({
      title: `Discard the dead letter ${position}?`,
      explanation: [
        'It leaves the list of open ones. The record stays on the log: you can still retry it, and a rebuild folds it '
        + 'if this release can read it.',
      ],
      action: 'Discard it', isDangerous: true,
      field: { label: 'Why? The audit keeps your reason.', maxLength: MAX_REASON },
    }, async ({ text }) => {
      show(await post<DeadLetter>(`dead-letters/${position}/discard`, { reason: text }));
      $('heading-dead-letter').focus();
    });
  }

  $('dead-letters').append(list.element);
  for (const choice of $('section-dead-letters').querySelectorAll('[name="dead-letters"]')) {
    choice.addEventListener('change', () => listPolls.now());
  }
  $('retry-dead-letter').addEventListener('click', () => void retry());
  $('discard-dead-letter').addEventListener('click', discard);
  const close = (): void => {
    listPolls.stop();
    detailPolls.stop();
  };
  return {
    open(argument) {
      close();
      position = argument;
      latest = null;
      $('dead-letter-list').hidden = position !== '';
      $('dead-letter').hidden = position === '';
      if (!position) {
        listPolls.start();
        return;
      }
      setText($('heading-dead-letter'), `Dead letter ${position}`);
      setText($('dead-letter-error'), '');
      $('dead-letter-body').hidden = true;
      detailPolls.start();
    },
    close,
  };
}
