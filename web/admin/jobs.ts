// Jobs: starts them, shows how far they are and what came of them, and cancels them.

import { $, button, createElement, drawList, setText } from '../dom.js';
import { announce, showToast } from '../toasts.js';
import { get, orToast, pollErrorText, post } from './api.js';
import { confirm } from './confirmation.js';
import { JOB_TEXTS, isAtWork, jobName, outcomeText, statusText } from './job-texts.js';
import { createJob, drawJob } from './job-view.js';
import { poller } from './polling.js';
import type { Section } from './section.js';
import type { Job, JobKind } from './types.js';

const INTERVAL_MS = 1_000;
const PAGE_SIZE = 20;

/** Tells screen readers of a job's steps and of its end, but not of each number in between. */
function announceChange(before: Job | undefined, job: Job): void {
  if (!before) return;
  if (isAtWork(before) && !isAtWork(job)) announce(`${jobName(job)} is ${statusText(job)}. ${outcomeText(job)}`);
  else if (isAtWork(job) && job.step && before.step?.name !== job.step.name) announce(`${jobName(job)}: ${job.step.name}`);
}

/** A kind of job, with the button that starts one. */
function createKind(kind: JobKind, onStart: () => void): HTMLElement {
  const { name, summary, button: text } = JOB_TEXTS[kind];
  return createElement('div', { class: 'panel job-kind' },
    createElement('h3', {}, name), createElement('p', { class: 'hint' }, summary),
    button({ class: 'secondary bordered', 'data-testid': `start-${kind}` }, onStart, text));
}

/** Asks for confirmation, and gives the job that is being cancelled to `onCancelled`. */
function confirmCancel(job: Job, onCancelled: (job: Job) => void): void {
  confirm({
    title: `Cancel ${jobName(job)}?`,
    explanation: ['The job ends at its next step and drops what it has made. Nothing that is in use changes.'],
    action: 'Cancel the job', isDangerous: true, focusAfter: $('heading-jobs'),
  }, async () => {
    onCancelled(await post<Job>(`jobs/${job.number}/cancel`));
    announce(`${jobName(job)} is being cancelled`);
  });
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
    try {
      const newest = await get<Job[]>(`jobs?limit=${PAGE_SIZE}`);
      if (!isLoaded) hasOlder = newest.length === PAGE_SIZE;
      isLoaded = true;
      newest.forEach(take);
      draw();
      setText($('jobs-error'), '');
    } catch (error) {
      setText($('jobs-error'), pollErrorText(error));
      throw error;
    }
  });

  const cancel = (job: Job): void => confirmCancel(job, (cancelled) => {
    take(cancelled);
    draw();
  });

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

  $('job-kinds').replaceChildren(...(Object.keys(JOB_TEXTS) as JobKind[]).map((kind) => createKind(kind, () => start(kind))));
  $('older-jobs').addEventListener('click', () => void loadOlder());
  return { open: polls.start, close: polls.stop };
}
