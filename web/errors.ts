// The texts of the client library's errors.

import { MessagesError, type FieldError } from 'messages-client';
import { showToast } from './toasts.js';

/** The names that people read for the fields of a command. */
const FIELD_NAMES: Record<string, string> = {
  content: 'the message', participantIds: 'the list of people', title: 'the title',
};

/** A field error without capital and full stop. An error of a list's item names the list. */
export function fieldErrorText({ field, detail }: FieldError): string {
  const name = field.replace(/[.[].*$/, '');
  return `${FIELD_NAMES[name] ?? field} ${detail}`.trim();
}

export const capitalize = (text: string): string => `${text.charAt(0).toUpperCase()}${text.slice(1)}`;

/** An error as a sentence, which may begin with what failed. */
export function errorSentence(error: unknown, failure = ''): string {
  const fieldError = error instanceof MessagesError ? error.errors[0] : undefined;
  const message = error instanceof MessagesError ? error.message : 'something went wrong';
  const reason = fieldError ? fieldErrorText(fieldError) : message;
  const text = failure ? `${failure}: ${reason}` : reason;
  return capitalize(`${text}.`.replace(/\.\.$/, '.'));
}

/** Waits for an action of the user; shows a toast and returns undefined where it fails. */
export async function reportFailure<Result>(action: Promise<Result>, failure = ''): Promise<Result | undefined> {
  try {
    return await action;
  } catch (error) {
    if (error instanceof MessagesError && error.code === 'closed') return undefined;
    if (!(error instanceof MessagesError)) console.warn(error);
    showToast(errorSentence(error, failure));
    return undefined;
  }
}
