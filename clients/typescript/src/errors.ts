// What can go wrong, in one type.

import type { FieldError, Problem } from './contract.js';

/** Why something was not done. `code` is stable and for programs, `message` is for people. */
export class MessagesError extends Error {
  override readonly name = 'MessagesError';
  /**
   * The server's code (`empty`, `rate_limited`, `not_found`, …), or one of the library's own: `no_answer` (nobody
   * answered for as long as was waited), `closed` (the client was closed), `token` (the token source failed),
   * `not_json` (the answer isn't one of Messages), `too_many_pending` (the outbox is full).
   */
  readonly code: string;
  /** The HTTP status; 0 where there was no answer. */
  readonly status: number;
  /** What is wrong with which field. */
  readonly errors: readonly FieldError[];
  /** Under which id the server's log has it. */
  readonly requestId: string | undefined;

  constructor(code: string, message: string, more: { status?: number; problem?: Partial<Problem>; cause?: unknown } = {}) {
    super(message, { cause: more.cause });
    this.code = code;
    this.status = more.status ?? 0;
    this.errors = more.problem?.errors ?? [];
    this.requestId = more.problem?.requestId;
  }

  /** Whether the command may have been done although this says that it failed: the same key would tell. */
  get unknown(): boolean {
    return this.code === 'append_unknown' || this.code === 'no_answer';
  }
}

/** The error of a client that was closed. */
export const closed = (): MessagesError => new MessagesError('closed', 'the client is closed');
