// What the page says besides what it shows: problems for everyone, and new messages for those who listen to it.

import { MessagesError } from 'messages-client';
import { $, setText } from './dom.js';

/** How long a problem is shown. */
const SHOWN_MS = 8_000;

let hiding = 0;

/** Says what went wrong. */
export function say(text: string): void {
  clearTimeout(hiding);
  $('status').textContent = text;
  if (text) hiding = setTimeout(() => say(''), SHOWN_MS);
}

/** Reads something out, where a screen reader listens. */
export function announce(text: string): void {
  setText($('announcer'), text);
}

/** An error as a sentence for people. */
export function sentence(error: unknown): string {
  if (!(error instanceof MessagesError)) return 'Something went wrong. Please try again.';
  const field = error.errors[0];
  const text = field ? `${field.field} ${field.detail}`.trim() : error.message;
  return `${text.charAt(0).toUpperCase()}${text.slice(1)}.`.replace(/\.\.$/, '.');
}

/** Waits for something that the user wanted, and says politely what went wrong. */
export async function attempt<Result>(work: Promise<Result>): Promise<Result | undefined> {
  try {
    return await work;
  } catch (error) {
    if (error instanceof MessagesError && error.code === 'closed') return undefined;
    if (!(error instanceof MessagesError)) console.warn(error);
    say(sentence(error));
    return undefined;
  }
}
