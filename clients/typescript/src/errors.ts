// What can go wrong, in one type.

import type { FieldError, Problem } from './contract.js';

/** What else is known of it. */
interface More {
  status?: number;
  problem?: Partial<Problem>;
  cause?: unknown;
  retryAfter?: number | undefined;
  unknown?: boolean;
}

/** Why something was not done. `code` is stable and for programs, `message` is for people. */
export class MessagesError extends Error {
  override readonly name = 'MessagesError';
  /**
   * The server's code (`empty`, `rate_limited`, `not_found`, …), or one of the library's own: `no_answer` (nobody
   * answered for as long as was waited), `closed` (the client was closed), `token` (the token source failed),
   * `not_json` (the answer isn't one of Messages), `too_many_pending` (the outbox is full), `not_failed` (there is
   * nothing to retry).
   */
  readonly code: string;
  /** The HTTP status; 0 where there was no answer. */
  readonly status: number;
  /** What is wrong with which field. */
  readonly errors: readonly FieldError[];
  /** Under which id the server's log has it. */
  readonly requestId: string | undefined;
  /** After how many seconds the server wants to be asked again (429 and 503). */
  readonly retryAfter: number | undefined;
  /** Whether the command may have been done although this says that it failed: the same key would tell. */
  readonly unknown: boolean;

  constructor(code: string, message: string, more: More = {}) {
    super(message, { cause: more.cause });
    this.code = code;
    this.status = more.status ?? 0;
    this.errors = more.problem?.errors ?? [];
    this.requestId = more.problem?.requestId;
    this.retryAfter = more.retryAfter;
    this.unknown = more.unknown ?? (code === 'append_unknown' || code === 'no_answer');
  }
}

/** The error of a client that was closed; `unknown` where that cut off a command that was on its way. */
export const closed = (unknown = false): MessagesError =>
  new MessagesError('closed', unknown ? 'the client was closed before there was an answer' : 'the client is closed', { unknown });

/** The error of a try that came to nothing. */
export const unreachable = (cause: unknown): MessagesError =>
  new MessagesError('no_answer', 'the server can’t be reached', { cause });
