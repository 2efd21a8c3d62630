// The dialog that starts a conversation: a direct one with one person, a group with several people or a title.

import { MessagesError, type Client, type FieldError } from 'messages-client';
import { $, button, createElement, setAttribute, setText } from './dom.js';
import { capitalize, errorSentence, fieldErrorText } from './errors.js';
import { avatar, otherParticipants } from './people.js';

/** How many known people the dialog suggests. */
const SUGGESTIONS_MAX = 8;
const NO_PARTICIPANTS = 'Enter at least one person other than yourself.';

/** The element that shows the errors of each field; the last one is for all other errors. */
const ERROR_ELEMENTS = {
  participantIds: 'new-conversation-participants-error',
  title: 'new-conversation-title-error',
  '': 'new-conversation-error',
} as const;

function clearErrors(): void {
  for (const id of Object.values(ERROR_ELEMENTS)) setText($(id), '');
}

/** Shows each error under its field. */
function showErrors(error: unknown): void {
  const fieldErrors = error instanceof MessagesError ? error.errors : [];
  for (const fieldError of fieldErrors) {
    const field = fieldError.field.replace(/\[.*$/, '');
    const key = field in ERROR_ELEMENTS ? field as keyof typeof ERROR_ELEMENTS : '';
    setText($(ERROR_ELEMENTS[key]), fieldErrorSentence(fieldError));
  }
  if (fieldErrors.length === 0) setText($(ERROR_ELEMENTS['']), errorSentence(error, 'The conversation wasn’t started'));
}

function fieldErrorSentence(error: FieldError): string {
  if (error.code === 'too_few') return NO_PARTICIPANTS;
  if (error.code === 'invalid_id') return 'User names have up to 128 characters and no spaces.';
  return capitalize(`${fieldErrorText(error)}.`);
}

/** The user ids in a text. */
const parseUserIds = (text: string): string[] =>
  [...new Set(text.split(/[\s,;]+/).map((id) => id.replace(/^@/, '')).filter(Boolean))];

/** Prepares the dialog; returns the function that opens it. */
export function newConversationDialog(client: Client, onStarted: (id: string) => void): () => void {
  const dialog = $<HTMLDialogElement>('new-conversation-dialog');
  const participants = $<HTMLInputElement>('new-conversation-participants');
  const title = $<HTMLInputElement>('new-conversation-title');
  const suggestions = $('new-conversation-suggestions');
  const submit = $('new-conversation-submit');

  const drawSuggestions = (): void => {
    const chosen = parseUserIds(participants.value);
    const known = new Set(client.conversations().flatMap((conversation) => otherParticipants(conversation, client.me)));
    suggestions.replaceChildren(...[...known].slice(0, SUGGESTIONS_MAX).map((userId) => button(
      { class: 'chip', 'aria-pressed': String(chosen.includes(userId)), 'data-user': userId },
      () => toggle(userId),
      avatar(userId), createElement('bdi', {}, userId),
    )));
  };

  function toggle(userId: string): void {
    const chosen = parseUserIds(participants.value);
    const next = chosen.includes(userId) ? chosen.filter((id) => id !== userId) : [...chosen, userId];
    participants.value = next.join(', ');
    drawSuggestions();
    suggestions.querySelector<HTMLElement>(`[data-user="${CSS.escape(userId)}"]`)?.focus();
  }

  /** The running request. Closing the dialog drops it: the page then doesn't open the conversation. */
  let runningRequest: symbol | undefined;
  const setRunningRequest = (request: symbol | undefined): void => {
    runningRequest = request;
    // A button with `disabled` would lose the focus.
    setAttribute(submit, 'aria-disabled', String(request !== undefined));
    setText(submit, request ? 'Starting…' : 'Start');
  };

  async function start(): Promise<void> {
    const participantIds = parseUserIds(participants.value);
    const titleText = title.value.trim();
    clearErrors();
    if (participantIds.every((id) => id === client.me)) {
      setText($(ERROR_ELEMENTS.participantIds), NO_PARTICIPANTS);
      return;
    }
    const request = Symbol('start');
    setRunningRequest(request);
    try {
      const { id } = await client.startConversation({ participantIds, ...(titleText ? { title: titleText } : {}) });
      if (runningRequest !== request) return;
      dialog.close();
      onStarted(id);
    } catch (error) {
      if (runningRequest !== request) return;
      setRunningRequest(undefined);
      showErrors(error);
    }
  }

  participants.addEventListener('input', drawSuggestions);
  dialog.addEventListener('close', () => setRunningRequest(undefined));
  $('new-conversation-cancel').addEventListener('click', () => dialog.close());
  $('new-conversation-form').addEventListener('submit', (event) => {
    event.preventDefault();
    if (!runningRequest) void start();
  });
  return () => {
    $<HTMLFormElement>('new-conversation-form').reset();
    clearErrors();
    drawSuggestions();
    dialog.showModal();
  };
}
