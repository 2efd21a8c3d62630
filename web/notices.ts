// What the page says besides what it shows: problems for everyone, and new messages for those who listen to it.

import { MessagesError, type FieldError } from 'messages-client';
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

/** What people call the fields of a command. */
const FIELDS: Record<string, string> = { content: 'the message', participantIds: 'the list of people', title: 'the title' };

/** What is wrong with a field; one of a list is named by the list. */
export function wrongWith({ field, detail }: FieldError): string {
  const name = field.replace(/[.[].*$/, '');
  return `${FIELDS[name] ?? field} ${detail}`.trim();
}

export const capital = (text: string): string => `${text.charAt(0).toUpperCase()}${text.slice(1)}`;

/** An error as a sentence for people, which may begin with what wasn't done. */
export function sentence(error: unknown, what = ''): string {
  const field = error instanceof MessagesError ? error.errors[0] : undefined;
  const why = field ? wrongWith(field) : error instanceof MessagesError ? error.message : 'something went wrong';
  const text = what ? `${what}: ${why}` : why;
  return capital(`${text}.`.replace(/\.\.$/, '.'));
}

/** Waits for something that the user wanted, and says politely what wasn't done and why. */
export async function attempt<Result>(work: Promise<Result>, what = ''): Promise<Result | undefined> {
  try {
    return await work;
  } catch (error) {
    if (error instanceof MessagesError && error.code === 'closed') return undefined;
    if (!(error instanceof MessagesError)) console.warn(error);
    say(sentence(error, what));
    return undefined;
  }
}
