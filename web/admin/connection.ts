// Asks for the status each second, and says when the server doesn't answer. A request may reach any node, so the next
// one may succeed where this one failed.

import { $, setAttribute, setText } from '../dom.js';
import { announce } from '../toasts.js';
import { ApiError, get } from './api.js';
import { time } from './format.js';
import { poller, type Poller } from './polling.js';
import type { Check, Status } from './types.js';

/** How often the page asks, in milliseconds. */
const INTERVAL_MS = 1_000;
/** A node that doesn't answer for so long counts as gone, in milliseconds. */
const ANSWER_MS = 3_000;

/** What the page knows of the system. */
export interface Picture {
  /** The latest status. */
  status: Status | null;
  /** What fails, as far as the server says so, while it can't tell its status. */
  faults: Check[] | null;
}

/** Without a status, `/readyz` still says which dependency is the reason. */
async function readFaults(): Promise<Check[] | null> {
  interface Answer { degraded?: Fault[]; errors?: Fault[] }
  interface Fault { field: string; code: string; detail: string }
  try {
    const response = await fetch('/readyz', { cache: 'no-store', signal: AbortSignal.timeout(ANSWER_MS) });
    const answer = await response.json() as Answer;
    return [...answer.errors ?? [], ...answer.degraded ?? []].map(({ field, code, detail }) =>
      ({ dependency: field, status: code === 'half_works' ? 'half_works' : 'gone', since: null, detail }));
  } catch {
    return null;
  }
}

function showFailure(error: unknown, failedSince: string): void {
  const isAnswered = error instanceof ApiError && error.status !== 0 && error.status !== 502 && error.status !== 504;
  const sentence = isAnswered
    ? `The server can’t tell its status since ${time(failedSince)}: ${error.message}.`
    : `The server hasn’t answered since ${time(failedSince)}.`;
  const banner = $('banner');
  if (banner.hidden) announce(sentence);
  banner.hidden = false;
  setText(banner, `${sentence} This page asks again every second; what it shows is from then.`);
  setAttribute($('connection'), 'data-state', 'offline');
  setText($('connection'), 'no answer');
}

function showSuccess(): void {
  const banner = $('banner');
  if (!banner.hidden) announce('The server answers again.');
  banner.hidden = true;
  setAttribute($('connection'), 'data-state', 'live');
  setText($('connection'), 'live');
}

/** Calls `draw` with each new picture. */
export function connection(draw: (picture: Picture) => void): Poller {
  const picture: Picture = { status: null, faults: null };
  let failedSince: string | null = null;
  /** A single failure isn't shown: the retry follows at once, and another node may answer it. */
  let failures = 0;

  const polls = poller(INTERVAL_MS, async () => {
    try {
      picture.status = await get<Status>('status', ANSWER_MS);
      picture.faults = null;
      failedSince = null;
      failures = 0;
      showSuccess();
      draw(picture);
    } catch (error) {
      failures += 1;
      failedSince ??= new Date().toISOString();
      if (failures > 1) showFailure(error, failedSince);
      if (failures > 1 && error instanceof ApiError && error.status === 503) {
        picture.faults = await readFaults();
        draw(picture);
      }
      throw error;
    }
  });
  document.addEventListener('visibilitychange', () => {
    // A hidden tab doesn't ask. What it shows when it is visible again is older for a moment.
    if (document.visibilityState === 'hidden') setText($('connection'), 'paused');
  });
  return polls;
}
