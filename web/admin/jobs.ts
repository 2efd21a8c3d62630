// Jobs: starts them, shows how far they are and what came of them, and cancels them.

import { $, button, child, createElement, drawList, setText } from '../dom.js';
import { announce, showToast } from '../toasts.js';
import { get, orToast, post } from './api.js';
import { confirm } from './confirmation.js';
import { number } from './format.js';
import { JOB_TEXTS, historyText, isAtWork, jobName, outcomeText, statusState, statusText, stepText } from './job-texts.js';
import { poller } from './polling.js';
import { badge, setBadge, type Section } from './section.js';
import { table, type Table } from './table.js';
import type { Job, JobKind, JobOutcome } from './types.js';

const INTERVAL_MS = 1_000;
const PAGE_SIZE = 20;

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

function createJob(job: Job, onCancel: (job: Job) => void): HTMLElement {
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

function drawJob(element: HTMLElement, job: Job): void {
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

/** Tells screen readers of a job's steps and of its end, but not of each number in between. */
function announceChange(before: Job | undefined, job: Job): void {
  if (!before) return;
  if (isAtWork(before) && !isAtWork(job)) announce(`${jobName(job)} is ${statusText(job)}. ${outcomeText(job)}`);
  else if (isAtWork(job) && job.step && before.step?.name !== job.step.name) announce(`${jobName(job)}: ${job.step.name}`);
}

export function jobs(): Section {
  /** Every job that the page has seen, by its number. */
  const known = new Map<number, Job>();
  let hasOlder = false;
  let isLoaded = false;

  function draw(): void {
    const inOrder = [...known.values()].sort((one, other) => other.number - one.number);
    drawList($('jobs'), inOrder, (job) => String(job.number), (job) => createJob(job, cancel), drawJob);
    setText($('jobs-hint'), isLoaded && inOrder.length === 0 ? 'Nobody has started a job yet.' : '');
    $('older-jobs').hidden = !hasOlder;
    const isBusy = inOrder.some(isAtWork);
    for (const start of $('job-kinds').querySelectorAll('button')) start.setAttribute('aria-disabled', String(isBusy));
  }

  function take(job: Job): void {
    announceChange(known.get(job.number), job);
    known.set(job.number, job);
  }

  const polls = poller(INTERVAL_MS, async () => {
    const newest = await get<Job[]>(`jobs?limit=${PAGE_SIZE}`);
    if (!isLoaded) hasOlder = newest.length === PAGE_SIZE;
    isLoaded = true;
    newest.forEach(take);
    draw();
  });

  function cancel(job: Job): void {
    confirm({
      title: `Cancel ${jobName(job)}?`,
      explanation: ['The job ends at its next step and drops what it has made. Nothing that is in use changes.'],
      action: 'Cancel the job', isDangerous: true,
    }, async () => {
      take(await post<Job>(`jobs/${job.number}/cancel`));
      draw();
      announce(`${jobName(job)} is being cancelled`);
      $('heading-jobs').focus();
    });
  }

  function start(kind: JobKind): void {
    if ([...known.values()].some(isAtWork)) {
      showToast('Another job waits or runs. Wait until it ends, or cancel it.');
      return;
    }
    confirm(JOB_TEXTS[kind].confirmation, async ({ isChosen }) => {
      const job = await post<Job>('jobs', { kind, ...(isChosen ? { acceptDifferences: true } : {}) });
      take(job);
      draw();
      announce(`${jobName(job)} is ${statusText(job)}`);
    });
  }

  async function loadOlder(): Promise<void> {
    const oldest = Math.min(...known.keys());
    const older = await orToast(get<Job[]>(`jobs?before=${oldest}&limit=${PAGE_SIZE}`));
    if (!older) return;
    hasOlder = older.length === PAGE_SIZE;
    older.forEach(take);
    draw();
  }

  $('job-kinds').replaceChildren(...(Object.keys(JOB_TEXTS) as JobKind[]).map((kind) => {
    const { name, summary, button: text } = JOB_TEXTS[kind];
    return createElement('div', { class: 'panel job-kind' },
      createElement('h3', {}, name), createElement('p', { class: 'hint' }, summary),
      button({ class: 'secondary bordered', 'data-testid': `start-${kind}` }, () => start(kind), text));
  }));
  $('older-jobs').addEventListener('click', () => void loadOlder());
  return { open: polls.start, close: polls.stop };
}
