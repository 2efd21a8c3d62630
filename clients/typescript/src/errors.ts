// Every failure of the library, in one type.

import type { FieldError, Problem } from './types.js';

/** Optional details of an error. */
interface ErrorDetails {
  status?: number;
  problem?: Partial<Problem>;
  cause?: unknown;
  retryAfter?: number | undefined;
  unknown?: boolean;
}

/** Why a command or a read failed. `code` is stable and for programs, `message` is for people. */
export class MessagesError extends Error {
  override readonly name = 'MessagesError';
  /**
   * The server's code (`empty`, `rate_limited`, `not_found`, …), or one of the library's own: `no_answer` (no server
   * answered in time), `closed` (the client was closed), `token` (the token source failed), `not_json` (something other
   * than Messages answered), `too_many_pending` (the outbox is full), `not_failed` (the message has not failed, so
   * it can't be retried).
   */
  readonly code: string;
  /** The HTTP status; 0 without a response, and where the client refuses a content itself. */
  readonly status: number;
  /** The invalid fields. */
  readonly errors: readonly FieldError[];
  /** The id of the request in the server's log. */
  readonly requestId: string | undefined;
  /** After how many seconds the server accepts a retry (429 and 503): at most a day, whatever the server says. */
  readonly retryAfter: number | undefined;
  /** Whether the command may have taken effect although it failed: only a retry with the same key can tell. */
  readonly unknown: boolean;

  constructor(code: string, message: string, details: ErrorDetails = {}) {
    super(message, { cause: details.cause });
    this.code = code;
    this.status = details.status ?? 0;
    this.errors = details.problem?.errors ?? [];
    this.requestId = details.problem?.requestId;
    this.retryAfter = details.retryAfter;
    this.unknown = details.unknown ?? (code === 'append_unknown' || code === 'no_answer');
  }
}

/** The error of a closed client; `unknown` where closing interrupted a command that had been sent. */
export function closedError(unknown = false): MessagesError {
  const message = unknown ? 'the client was closed before the server answered' : 'the client is closed';
  return new MessagesError('closed', message, { unknown });
}

/** The error of an attempt that got no response. */
export const unreachableError = (cause: unknown): MessagesError =>
  new MessagesError('no_answer', 'the server can’t be reached', { cause });
