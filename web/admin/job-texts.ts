// What jobs do, and what came of them, in words.

import { isolate } from '../dom.js';
import { count, duration, number, secondsBetween, secondsSince, time } from './format.js';
import type { Confirmation } from './confirmation.js';
import type { Job, JobKind, JobOutcome } from './types.js';

export interface JobText {
  name: string;
  summary: string;
  /** The text of the button that asks for confirmation. */
  button: string;
  confirmation: Confirmation;
}

export const JOB_TEXTS: Record<JobKind, JobText> = {
  rebuild: {
    name: 'Rebuild',
    summary: 'Makes the read model again from the log, and uses it if it is the same.',
    button: 'Rebuild…',
    confirmation: {
      title: 'Rebuild the read model?',
      explanation: [
        'A process reads the whole log, and makes all rows again next to those in use, as the next generation. '
        + 'Everything works meanwhile. The rebuild pauses while projectors are more than a second behind.',
        'If the new rows equal those in use, projectors stand still for some milliseconds and go on with the new ones. '
        + 'If they differ, nothing changes, and the job lists the differences.',
        'Postgres needs as much space again as the read model has.',
      ],
      action: 'Start the rebuild',
      choice: { label: 'Use the new rows even if they differ. Users who can see a difference start anew.' },
    },
  },
  dryRun: {
    name: 'Dry run',
    summary: 'Makes the rows as a rebuild does, compares them, and drops them.',
    button: 'Dry run…',
    confirmation: {
      title: 'Start a dry run?',
      explanation: [
        'A process does what a rebuild does, up to the comparison with the rows in use. Then it drops the new rows.',
        'Nothing changes. Postgres needs as much space again as the read model has, until the dry run ends.',
      ],
      action: 'Start the dry run',
    },
  },
  verify: {
    name: 'Verify',
    summary: 'Compares the rows in Postgres and the views in Redis with the log.',
    button: 'Verify…',
    confirmation: {
      title: 'Verify the read model?',
      explanation: [
        'A process folds the whole log, and compares every row in Postgres with the result. Then it compares up to '
        + '10,000 cached views with the rows.',
        'It changes nothing. Until it has read all rows, Postgres can’t vacuum newer dead ones.',
      ],
      action: 'Start to verify',
    },
  },
  goBack: {
    name: 'Go back',
    summary: 'Uses the generation before this one again, within ten minutes of a rebuild.',
    button: 'Go back…',
    confirmation: {
      title: 'Go back to the generation before?',
      explanation: [
        'The rows that the last rebuild replaced are kept for ten minutes. A process folds into them what has come '
        + 'since, and projectors and queries use them again.',
        'If they are gone already, the job fails and nothing changes.',
      ],
      action: 'Go back',
      isDangerous: true,
    },
  },
};

const STATUS_TEXTS: Record<Job['status'], string> = {
  waiting: 'waiting', running: 'running', done: 'done', failed: 'failed', cancelled: 'cancelled',
};

/** The colours of the dots. */
const STATUS_STATES: Record<Job['status'], string> = {
  waiting: 'unknown', running: 'half_works', done: 'works', failed: 'gone', cancelled: 'unknown',
};

export const isAtWork = ({ status }: Job): boolean => status === 'waiting' || status === 'running';

export const jobName = ({ kind, number: of }: Job): string => `${JOB_TEXTS[kind]?.name ?? kind} ${of}`;

export const statusText = (job: Job): string =>
  (isAtWork(job) && job.isCancelRequested ? 'cancelling' : STATUS_TEXTS[job.status] ?? job.status);

export function statusState(job: Job): string {
  const differs = job.status === 'done' && (job.outcome?.differingConversations ?? 0) > 0;
  return differs ? 'half_works' : STATUS_STATES[job.status] ?? 'unknown';
}

/** Who asked for a job, when, and how long it took. */
export function historyText(job: Job): string {
  const parts = [`${isolate(job.requestedBy)} asked for it at ${time(job.requestedAt)}`];
  if (job.startedAt && job.endedAt) parts.push(`it took ${duration(secondsBetween(job.startedAt, job.endedAt))}`);
  else if (job.startedAt && isAtWork(job)) parts.push(`it has run for ${duration(Math.floor(secondsSince(job.startedAt)))}`);
  if (job.runner && isAtWork(job)) parts.push(`on ${isolate(job.runner)}`);
  if (job.attempts > 1) parts.push(`attempt ${job.attempts}, since the process before was gone`);
  if (job.kind === 'rebuild' && job.acceptDifferences) parts.push('differences are accepted');
  return `${parts.join(' · ')}.`;
}

/** How far a job is. */
export function stepText({ step, status }: Job): string {
  if (status === 'waiting') return 'Waits for a process that takes it.';
  if (!step) return 'Begins.';
  const { name, unit, done, total } = step;
  const capitalized = `${name.charAt(0).toUpperCase()}${name.slice(1)}`;
  if (!total || (total === 1 && done === 0)) return `${capitalized}.`;
  return `${capitalized}: ${number(done)} of ${number(total)} ${unit} (${Math.floor((100 * done) / total)} %).`;
}

/** What a job that read the log found out. */
function verdict(kind: JobKind, outcome: JobOutcome): string {
  const { generation, isInUse, differingConversations, staleViews } = outcome;
  const inUse = generation == null ? 'The rows are in use.' : `Generation ${generation} is in use.`;
  if (isInUse && differingConversations > 0) return `${inUse} Its rows differ in ${count(differingConversations, 'conversation')}.`;
  if (isInUse) return inUse;
  if (differingConversations > 0) {
    const differ = `The rows differ in ${count(differingConversations, 'conversation')}. Nothing was changed.`;
    return kind === 'rebuild' ? `${differ} To use the new ones, rebuild again and accept the differences.` : differ;
  }
  if (kind === 'verify' && staleViews) return `The rows equal the log, but ${count(staleViews, 'cached view')} differ from them.`;
  if (kind === 'verify') return 'The rows and the cached views equal the log.';
  if (kind === 'dryRun') return 'The new rows equal those in use. They were dropped again.';
  return 'Nothing was changed.';
}

/** What came of a job, in sentences. */
export function outcomeText(job: Job): string {
  const { outcome, status, error, kind } = job;
  if (status === 'failed') return `It failed: ${isolate(error ?? 'the reason isn’t known')}. Nothing was changed.`;
  if (status === 'cancelled') return 'It was cancelled. Nothing was changed.';
  if (!outcome) return '';
  const sentences = [verdict(kind, outcome)];
  const rows = outcome.rows == null ? '' : ` and compared ${count(outcome.rows, 'row')}`;
  sentences.push(`It read ${count(outcome.records, 'record')}${rows}.`);
  if (outcome.stoodStillMs != null) sentences.push(`Projectors stood still for ${number(outcome.stoodStillMs)} ms.`);
  if (outcome.staleViews) sentences.push(`${count(outcome.staleViews, 'cached view')} differed.`);
  return sentences.join(' ');
}
