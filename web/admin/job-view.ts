// A job in the list: its status, how far it is, and what came of it.

import { button, child, createElement, setText } from '../dom.js';
import { number } from './format.js';
import { historyText, isAtWork, jobName, outcomeText, statusState, statusText, stepText } from './job-texts.js';
import { badge, setBadge } from './section.js';
import { table, type Table } from './table.js';
import type { Job, JobOutcome } from './types.js';

type TableDifferences = JobOutcome['tables'][number];

/** The tables of differences, by the element of their job. */
const differenceTables = new WeakMap<HTMLElement, Table<TableDifferences>>();

function createDifferences(): Table<TableDifferences> {
  return table({
    caption: 'Rows that differ, by table', testId: 'job-differences', keyOf: ({ table: name }) => name,
    columns: [
      { name: 'Table', text: ({ table: name }) => name, isCode: true },
      { name: 'Missing', text: ({ missing }) => number(missing), isNumber: true },
      { name: 'Added', text: ({ added }) => number(added), isNumber: true },
      { name: 'Changed', text: ({ changed }) => number(changed), isNumber: true },
    ],
  });
}

export function createJob(job: Job, onCancel: (job: Job) => void): HTMLElement {
  const differences = createDifferences();
  const progress = createElement('progress', { 'data-testid': 'job-progress', 'aria-label': `Progress of ${jobName(job)}` });
  const element = createElement('li', { class: 'job', 'data-testid': 'job', 'data-number': String(job.number) },
    createElement('div', { class: 'job-head' },
      createElement('h4', {}, jobName(job)), badge(statusText(job), statusState(job), 'job-status')),
    createElement('p', { class: 'hint job-history' }),
    createElement('div', { class: 'job-step' },
      createElement('p', { class: 'job-step-text', 'data-testid': 'job-step' }), progress,
      button({ class: 'secondary bordered job-cancel', 'data-testid': 'cancel-job', 'aria-label': `Cancel ${jobName(job)}` },
        () => onCancel(job), 'Cancel')),
    createElement('p', { class: 'job-outcome', 'data-testid': 'job-outcome' }),
    createElement('details', { class: 'job-details' },
      createElement('summary', {}, 'Differences'),
      differences.element,
      createElement('h5', {}, 'The first ones'),
      createElement('ul', { class: 'differences', 'data-testid': 'first-differences' })));
  differenceTables.set(element, differences);
  return element;
}

function drawProgress(element: HTMLElement, job: Job): void {
  child(element, 'job-step').hidden = !isAtWork(job);
  setText(child(element, 'job-step-text'), stepText(job));
  const progress = element.querySelector('progress');
  const { done, total } = job.step ?? { done: 0, total: null };
  // A step without a number of its own shows that it goes on, not how far it is.
  if (progress && total && total > 1) {
    progress.max = total;
    progress.value = Math.min(done, total);
  } else {
    progress?.removeAttribute('value');
  }
  child(element, 'job-cancel').hidden = job.isCancelRequested;
}

export function drawJob(element: HTMLElement, job: Job): void {
  setBadge(child(element, 'badge'), statusText(job), statusState(job));
  setText(child(element, 'job-history'), historyText(job));
  drawProgress(element, job);
  setText(child(element, 'job-outcome'), isAtWork(job) ? '' : outcomeText(job));
  const { tables = [], first = [] } = job.outcome ?? {};
  const differing = tables.filter(({ missing, added, changed }) => missing + added + changed > 0);
  child(element, 'job-details').hidden = differing.length === 0 && first.length === 0;
  differenceTables.get(element)?.draw(differing);
  const list = child(element, 'differences');
  if (list.childElementCount !== first.length) {
    list.replaceChildren(...first.map((text) => createElement('li', { dir: 'auto' }, text)));
  }
}
