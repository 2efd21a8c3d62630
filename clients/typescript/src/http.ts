// Asking the HTTP API, and asking again where that is right.

import type { Auth } from './auth.js';
import type { Problem } from './contract.js';
import { MessagesError, closed, unreachable } from './errors.js';

/** What to ask. */
export interface Ask {
  method: 'GET' | 'POST' | 'PATCH' | 'DELETE';
  path: string;
  body?: unknown;
  /** The idempotency key of a command: with it a retry is safe. */
  key?: string;
  /** What the answer has to include at least: a position or a token. */
  atLeast?: string | undefined;
  /** For how long to try, in milliseconds. */
  patience: number;
  /** Is told why it has to be tried again. */
  failing?: (error: MessagesError) => void;
}

/** An answer with 2xx. */
export interface Answer<Body> {
  body: Body;
  /** What the answer includes: a position of the log for a command, a token for a query. */
  position: string;
  /** Whether this is the first answer to this key, given again. */
  replayed: boolean;
}

/** One try, in milliseconds: longer than the server takes to say that it can't. */
const TRY_MS = 15_000;
/** The longest pause between two tries where the server names none, in milliseconds. */
const LONGEST_PAUSE_MS = 10_000;
/** What is worth another try with the same key. */
const AGAIN = new Set([408, 425, 429, 500, 502, 503, 504]);

/** What one try came to. */
type Tried<Body> = { answer: Answer<Body> } | { error: MessagesError; again: boolean };

/** The HTTP API of one server. */
export class Http {
  readonly #url: string;
  readonly #auth: Auth;
  readonly #closed: AbortSignal;
  readonly #failing: (error: MessagesError) => void;
  readonly #sleepers = new Set<() => void>();

  /** `failing` is told why anything has to be tried again. */
  constructor(url: string, auth: Auth, ended: AbortSignal, failing: (error: MessagesError) => void) {
    this.#url = url.replace(/\/+$/, '');
    this.#auth = auth;
    this.#closed = ended;
    this.#failing = failing;
    ended.addEventListener('abort', () => this.wake());
  }

  /** The network is back: what waits for its next try tries now. */
  wake(): void {
    for (const sleeper of this.#sleepers) sleeper();
  }

  /**
   * Asks until there is an answer that another try wouldn't change. Waits as long as `Retry-After` says, else longer
   * each time, and never exactly as long as others.
   */
  async ask<Body>(ask: Ask): Promise<Answer<Body>> {
    const deadline = Date.now() + ask.patience;
    let [renewed, unknown] = [false, false];
    for (let tries = 0; !this.#closed.aborted; tries += 1) {
      const tried = await this.#try<Body>(ask);
      if ('answer' in tried) return tried.answer;
      const { error, again } = tried;
      unknown ||= error.unknown;
      if (this.#closed.aborted) break;
      if (error.status === 401 && this.#auth.renewable && !renewed) {
        renewed = true;
        this.#auth.refused();
        continue;
      }
      const pause = pauseAfter(error, tries);
      if (!again || Date.now() + pause > deadline) throw error;
      this.#failing(error);
      ask.failing?.(error);
      await this.#sleep(pause);
    }
    throw closed(unknown);
  }

  /** A pause, in milliseconds, that ends early when the network comes back or the client is closed. */
  #sleep(ms: number): Promise<void> {
    return new Promise((done) => {
      const end = (): void => {
        clearTimeout(timer);
        this.#sleepers.delete(end);
        done();
      };
      const timer = setTimeout(end, ms);
      this.#sleepers.add(end);
      if (this.#closed.aborted) end();
    });
  }

  async #try<Body>(ask: Ask): Promise<Tried<Body>> {
    try {
      const headers: Record<string, string> = { Authorization: `Bearer ${await this.#auth.token()}` };
      if (ask.key) headers['Idempotency-Key'] = ask.key;
      if (ask.atLeast) headers['Messages-Position'] = ask.atLeast;
      if (ask.body !== undefined) headers['Content-Type'] = 'application/json';
      const response = await fetch(this.#url + ask.path, {
        method: ask.method,
        headers,
        body: ask.body === undefined ? null : JSON.stringify(ask.body),
        signal: AbortSignal.any([this.#closed, AbortSignal.timeout(TRY_MS)]),
      });
      return await read<Body>(response);
    } catch (cause) {
      return { error: cause instanceof MessagesError ? cause : unreachable(cause), again: true };
    }
  }
}

async function read<Body>(response: Response): Promise<Tried<Body>> {
  const text = await response.text();
  const retryAfter = secondsOf(response.headers.get('Retry-After'));
  let body: unknown;
  try {
    body = JSON.parse(text);
  } catch (cause) {
    const error = new MessagesError('not_json', `the answer (${response.status}) isn't one of Messages`, {
      status: response.status, cause, retryAfter,
    });
    return { error, again: true }; // of whatever stands in between, for now
  }
  if (response.ok) {
    const position = response.headers.get('Messages-Position') ?? '';
    const replayed = response.headers.get('Idempotent-Replayed') === 'true';
    return { answer: { body: body as Body, position, replayed } };
  }
  const problem = body as Partial<Problem>;
  const details = problem.errors?.map(({ field, detail }) => `${field} ${detail}`).join('; ');
  const error = new MessagesError(problem.code ?? 'unknown', details || problem.detail || response.statusText, {
    status: response.status, problem, retryAfter,
  });
  return { error, again: AGAIN.has(response.status) };
}

function secondsOf(retryAfter: string | null): number | undefined {
  const seconds = Number(retryAfter ?? NaN);
  return Number.isFinite(seconds) ? seconds : undefined;
}

/** How long to wait, in milliseconds: a little more than the server asks for, so that not everyone comes back at once. */
function pauseAfter({ retryAfter }: MessagesError, tries: number): number {
  if (retryAfter !== undefined) return retryAfter * 1000 * (1 + Math.random() / 4);
  return Math.min(250 * 2 ** tries, LONGEST_PAUSE_MS) * (0.5 + Math.random() / 2);
}
