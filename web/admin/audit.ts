// The audit: what admins did, live; and all of it as a file.

import { $, createElement, setText } from '../dom.js';
import { get, getBlob, orToast, pollErrorText } from './api.js';
import { NOTHING, time } from './format.js';
import { poller } from './polling.js';
import type { Section } from './section.js';
import { table } from './table.js';
import type { AuditEntry } from './types.js';

const INTERVAL_MS = 2_000;
const PAGE_SIZE = 50;

/** The outcome of an action that is in the audit with its success. */
const DONE = 'done';

const outcomeState = ({ outcome }: AuditEntry): string => {
  if (!outcome) return 'unknown';
  return outcome === DONE ? 'works' : 'gone';
};

const list = table<AuditEntry>({
  caption: 'What admins did', testId: 'audit', isStacked: true, keyOf: ({ number }) => String(number),
  empty: 'No admin has done anything yet.',
  columns: [
    { name: 'Time', text: ({ at }) => time(at) },
    { name: 'Admin', text: ({ actor }) => actor },
    { name: 'Action', text: ({ action }) => action, isCode: true },
    { name: 'Target', text: ({ target }) => target, isCode: true },
    { name: 'Reason', text: ({ reason }) => reason ?? NOTHING },
    { name: 'Outcome', text: ({ outcome }) => outcome ?? 'not known', state: outcomeState },
    { name: 'Request', text: ({ requestId }) => requestId, isCode: true },
  ],
});

/** Downloads the whole audit. A link alone couldn't send the token. */
async function download(): Promise<void> {
  const blob = await orToast(getBlob('audit.jsonl'));
  if (!blob) return;
  const url = URL.createObjectURL(blob);
  createElement('a', { href: url, download: `audit-${new Date().toISOString().slice(0, 10)}.jsonl` }).click();
  // The browser has taken the file by then.
  setTimeout(() => URL.revokeObjectURL(url), 60_000);
}

export function audit(): Section {
  const known = new Map<number, AuditEntry>();
  let hasOlder = false;
  let isLoaded = false;

  function draw(entries: readonly AuditEntry[]): void {
    for (const entry of entries) known.set(entry.number, entry);
    list.draw([...known.values()].sort((one, other) => other.number - one.number));
    $('older-audit').hidden = !hasOlder;
  }

  const polls = poller(INTERVAL_MS, async () => {
    try {
      const newest = await get<AuditEntry[]>(`audit?limit=${PAGE_SIZE}`);
      if (!isLoaded) hasOlder = newest.length === PAGE_SIZE;
      isLoaded = true;
      draw(newest);
      setText($('audit-error'), '');
    } catch (error) {
      setText($('audit-error'), pollErrorText(error));
      throw error;
    }
  });

  async function loadOlder(): Promise<void> {
    const older = await orToast(get<AuditEntry[]>(`audit?before=${Math.min(...known.keys())}&limit=${PAGE_SIZE}`));
    if (!older) return;
    hasOlder = older.length === PAGE_SIZE;
    draw(older);
  }

  $('audit').append(list.element);
  $('download-audit').addEventListener('click', () => void download());
  $('older-audit').addEventListener('click', () => void loadOlder());
  return { open: polls.start, close: polls.stop };
}
