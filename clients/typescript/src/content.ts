// The contents that the client refuses itself, with the server's codes and words. It knows only the plain rules: the
// server has others.

import { MessagesError } from './errors.js';

/** The longest content, in Unicode scalar values. */
const CONTENT_MAX_CHARS = 4_000;
/**
 * A text in which a reader sees nothing: white space, controls, and characters without a shape, such as U+2800, which is
 * Braille without dots. The server refuses U+0000 for another reason.
 */
const INVISIBLE =
  /^[\p{White_Space}\x01-\x1F\x7F-\x9F\p{Default_Ignorable_Code_Point}\u2800\uFFF9-\uFFFB\u{16FE4}\u{1D159}]*$/u;

/**
 * Why the client refuses a content; undefined where only the server can. `mayBeEmpty`: the message has attachments, or
 * the client doesn't know that it has none.
 */
export function contentError(content: string, mayBeEmpty = false): MessagesError | undefined {
  if ([...content].length > CONTENT_MAX_CHARS) {
    return refusal('too_long', `must be at most ${CONTENT_MAX_CHARS} characters`);
  }
  const isRefused = !mayBeEmpty && INVISIBLE.test(content);
  return isRefused ? refusal('empty', 'must not be empty unless the message has attachments') : undefined;
}

function refusal(code: string, detail: string): MessagesError {
  return new MessagesError(code, `content ${detail}`, { problem: { errors: [{ field: 'content', code, detail }] } });
}
