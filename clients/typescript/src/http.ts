// The HTTP API: sends requests, and retries those that may succeed later.

import type { Auth } from './auth.js';
import { MessagesError, closedError, unreachableError } from './errors.js';
import type { Problem } from './types.js';

/** A request to the HTTP API. */
export interface HttpRequest {
  method: 'GET' | 'POST' | 'PATCH' | 'DELETE';
  path: string;
  body?: unknown;
  /** The idempotency key of a command, which makes a retry safe. */
  key?: string;
  /** The response has to include the log up to here: a position or a token. */
  minPosition?: string | undefined;
  /** How long to retry, in milliseconds. */
  retryForMs: number;
  /** Called with the error of each attempt that is retried. */
  onRetry?: (error: MessagesError) => void;
}

/** A response with a 2xx status. */
export interface HttpResponse<Body> {
  body: Body;
  /** What the response includes: for a command its position on the log, for a query a token. */
  position: string;
  /** Whether the server repeats its first response to this key. */
  replayed: boolean;
}

/** The timeout of an attempt, in milliseconds: longer than the server takes to respond with 503. */
const ATTEMPT_TIMEOUT_MAX_MS = 15_000;
/**
 * Those of the first attempts: the open connections may be dead, and each attempt finds that out of one. Browsers have
 * up to six, so the seventh attempt has a new one.
 */
const ATTEMPT_TIMEOUTS_MS = [4_000, 4_000, 4_000, 4_000, 4_000, 4_000, 8_000];
/** The longest time between the starts of two attempts without `Retry-After`, in milliseconds. */
const RETRY_PAUSE_MAX_MS = 10_000;
/** The pauses without `Retry-After` differ by this much even after attempts that took long, in milliseconds. */
const RETRY_SPREAD_MS = 250;
/**
 * The shortest and the longest pause that the server can ask for, in milliseconds. One wrong `Retry-After` must neither
 * stop a client nor let it hurry. A browser even runs a timer of more than 24 days at once.
 */
const ASKED_PAUSE_MIN_MS = 250;
const ASKED_PAUSE_MAX_MS = 60_000;
/** The largest `retryAfter` of an error, in seconds: a day. */
const RETRY_AFTER_MAX = 86_400;
/** The statuses after which a retry with the same key may succeed. */
const RETRYABLE_STATUSES = new Set([408, 425, 429, 500, 502, 503, 504]);

/** The outcome of one attempt. */
type Attempt<Body> = { response: HttpResponse<Body> } | { error: MessagesError; retryable: boolean };

/** The HTTP API of one server. */
export class Http {
  readonly #url: string;
  readonly #auth: Auth;
  readonly #closed: AbortSignal;
  readonly #onRetry: (error: MessagesError) => void;
  /** Ends the pause of each request that waits for its next attempt. */
  readonly #wakeUps = new Set<() => void>();

  /** `closed` ends every request; `onRetry` is called with the error of each attempt that is retried. */
  constructor(url: string, auth: Auth, closed: AbortSignal, onRetry: (error: MessagesError) => void) {
    this.#url = url.replace(/\/+$/, '');
    this.#auth = auth;
    this.#closed = closed;
    this.#onRetry = onRetry;
    closed.addEventListener('abort', () => this.retryNow());
  }

  /** Retries every waiting request at once, because the network is back. */
  retryNow(): void {
    for (const wakeUp of this.#wakeUps) wakeUp();
  }

  /**
   * Sends a request until a retry would change nothing. Waits as long as `Retry-After` says, but at most a minute, and
   * otherwise longer after each attempt, with some randomness: many clients must not retry at the same moment.
   */
  async request<Body>(request: HttpRequest): Promise<HttpResponse<Body>> {
    const deadline = Date.now() + request.retryForMs;
    let tokenRenewed = false;
    let unknown = false;
    for (let retries = 0; !this.#closed.aborted; retries += 1) {
      const began = Date.now();
      const attempt = await this.#attempt<Body>(request, ATTEMPT_TIMEOUTS_MS[retries] ?? ATTEMPT_TIMEOUT_MAX_MS);
      if ('response' in attempt) return attempt.response;
      const { error, retryable } = attempt;
      unknown ||= error.unknown;
      if (this.#closed.aborted) break;
      if (error.status === 401 && this.#auth.renewable && !tokenRenewed) {
        tokenRenewed = true;
        this.#auth.invalidate();
        continue;
      }
      const pause = pauseAfter(error, retries, Date.now() - began);
      if (!retryable || Date.now() + pause > deadline) throw error;
      this.#onRetry(error);
      request.onRetry?.(error);
      await this.#sleep(pause);
    }
    throw closedError(unknown);
  }

  /** Waits for some milliseconds, or less where the network comes back or the client is closed. */
  #sleep(ms: number): Promise<void> {
    return new Promise((resolve) => {
      const wakeUp = (): void => {
        clearTimeout(timer);
        this.#wakeUps.delete(wakeUp);
        resolve();
      };
      const timer = setTimeout(wakeUp, ms);
      this.#wakeUps.add(wakeUp);
      if (this.#closed.aborted) wakeUp();
    });
  }

  async #attempt<Body>(request: HttpRequest, timeout: number): Promise<Attempt<Body>> {
    try {
      const headers: Record<string, string> = {};
      const token = await this.#auth.token();
      if (token !== undefined) headers['Authorization'] = `Bearer ${token}`;
      if (request.key) headers['Idempotency-Key'] = request.key;
      if (request.minPosition) headers['Messages-Position'] = request.minPosition;
      if (request.body !== undefined) headers['Content-Type'] = 'application/json';
      const response = await fetch(this.#url + request.path, {
        method: request.method,
        headers,
        body: request.body === undefined ? null : JSON.stringify(request.body),
        signal: AbortSignal.any([this.#closed, AbortSignal.timeout(timeout)]),
      });
      return await parse<Body>(response);
    } catch (cause) {
      return { error: cause instanceof MessagesError ? cause : unreachableError(cause), retryable: true };
    }
  }
}

async function parse<Body>(response: Response): Promise<Attempt<Body>> {
  const text = await response.text();
  const retryAfter = secondsOf(response.headers);
  let body: unknown;
  try {
    body = JSON.parse(text);
  } catch (cause) {
    const error = new MessagesError('not_json', `the response (${response.status}) isn't from Messages`, {
      status: response.status, cause, retryAfter,
    });
    return { error, retryable: true }; // a proxy answered, which may pass
  }
  if (response.ok) {
    const position = response.headers.get('Messages-Position') ?? '';
    const replayed = response.headers.get('Idempotent-Replayed') === 'true';
    return { response: { body: body as Body, position, replayed } };
  }
  const problem = body as Partial<Problem>;
  const details = problem.errors?.map(({ field, detail }) => `${field} ${detail}`).join('; ');
  const error = new MessagesError(problem.code ?? 'unknown', details || problem.detail || response.statusText, {
    status: response.status, problem, retryAfter,
  });
  return { error, retryable: RETRYABLE_STATUSES.has(response.status) };
}

/** What `Retry-After` says, a number of seconds or a date (RFC 9110), within bounds; undefined for anything else. */
function secondsOf(headers: Headers): number | undefined {
  const text = headers.get('Retry-After')?.trim() ?? '';
  let seconds = NaN;
  if (/^-?\d+(\.\d+)?$/.test(text)) seconds = Number(text);
  else if (/^[A-Z][a-z]/.test(text)) {
    // By the server's clock, where it tells the time: the client's may be wrong.
    const now = Date.parse(headers.get('Date') ?? '');
    seconds = (Date.parse(text) - (Number.isNaN(now) ? Date.now() : now)) / 1000;
  }
  return Number.isNaN(seconds) ? undefined : Math.min(Math.max(seconds, 0), RETRY_AFTER_MAX);
}

/**
 * The pause before the next attempt, in milliseconds: a little longer than `Retry-After`, to spread the clients.
 * Without it, the last attempt counts as a part of the pause: one without an answer took long enough.
 */
function pauseAfter({ retryAfter }: MessagesError, retries: number, attemptMs: number): number {
  if (retryAfter !== undefined) {
    const asked = Math.min(Math.max(retryAfter * 1000, ASKED_PAUSE_MIN_MS), ASKED_PAUSE_MAX_MS);
    return asked * (1 + Math.random() / 4);
  }
  const pause = Math.min(250 * 2 ** retries, RETRY_PAUSE_MAX_MS) * (0.5 + Math.random() / 2);
  return Math.max(pause - attemptMs, Math.random() * RETRY_SPREAD_MS);
}
