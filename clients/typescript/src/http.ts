// Asking the HTTP API, and asking again where that is right.

import type { Auth } from './auth.js';
import type { Problem } from './contract.js';
import { MessagesError, closed } from './errors.js';

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
type Tried<Body> = { answer: Answer<Body> } | { error: MessagesError; again: boolean; after: number | undefined };

/** The HTTP API of one server. */
export class Http {
  readonly #url: string;
  readonly #auth: Auth;
  readonly #closed: AbortSignal;
  readonly #sleepers = new Set<() => void>();

  constructor(url: string, auth: Auth, ended: AbortSignal) {
    this.#url = url.replace(/\/+$/, '');
    this.#auth = auth;
    this.#closed = ended;
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
    let renewed = false;
    for (let tries = 0; ; tries += 1) {
      const tried = await this.#try<Body>(ask);
      if ('answer' in tried) return tried.answer;
      if (this.#closed.aborted) throw closed();
      if (tried.error.status === 401 && this.#auth.renewable && !renewed) {
        renewed = true;
        this.#auth.refused();
        continue;
      }
      const pause = tried.after ?? Math.min(250 * 2 ** tries, LONGEST_PAUSE_MS) * (0.5 + Math.random() / 2);
      if (!tried.again || Date.now() + pause > deadline) throw tried.error;
      await this.sleep(pause);
    }
  }

  /** A pause, in milliseconds, that ends early when the network comes back or the client is closed. */
  sleep(ms: number): Promise<void> {
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
      const error = cause instanceof MessagesError ? cause
        : new MessagesError('no_answer', 'the server can’t be reached', { cause });
      return { error, again: true, after: undefined };
    }
  }
}

async function read<Body>(response: Response): Promise<Tried<Body>> {
  const text = await response.text();
  let body: unknown;
  try {
    body = JSON.parse(text);
  } catch (cause) {
    const error = new MessagesError('not_json', `the answer (${response.status}) isn't one of Messages`, {
      status: response.status, cause,
    });
    return { error, again: true, after: retryAfter(response) }; // of whatever stands in between, for now
  }
  if (response.ok) {
    const position = response.headers.get('Messages-Position') ?? '';
    const replayed = response.headers.get('Idempotent-Replayed') === 'true';
    return { answer: { body: body as Body, position, replayed } };
  }
  const problem = body as Partial<Problem>;
  const details = problem.errors?.map(({ field, detail }) => `${field} ${detail}`).join('; ');
  const error = new MessagesError(problem.code ?? 'unknown', details || problem.detail || response.statusText, {
    status: response.status, problem,
  });
  return { error, again: AGAIN.has(response.status), after: retryAfter(response) };
}

/** How long the server asks to wait, in milliseconds; a little more, so that not everyone comes back at once. */
function retryAfter(response: Response): number | undefined {
  const seconds = Number(response.headers.get('Retry-After') ?? NaN);
  return Number.isFinite(seconds) ? seconds * 1000 * (1 + Math.random() / 4) : undefined;
}
