// The dialog that says what an action will do, asks for what it needs, and shows why it failed.

import { $, createElement } from '../dom.js';
import { errorText } from './api.js';

export interface Confirmation {
  title: string;
  /** What will happen, a paragraph each. */
  explanation: readonly string[];
  /** The text of the button that acts. */
  action: string;
  isDangerous?: boolean;
  /** A text that the action needs. */
  field?: { label: string; maxLength: number };
  /** A choice. */
  choice?: { label: string };
  /** What has the focus after the action if the button that opened the dialog is gone by then. */
  focusAfter?: HTMLElement;
}

export interface Answer {
  text: string;
  isChosen: boolean;
}

/** Shows the dialog. It closes once `act` has succeeded; the text of a failure appears in it. */
export function confirm(confirmation: Confirmation, act: (answer: Answer) => Promise<void>): void {
  const { title, explanation, action, isDangerous = false, field, choice } = confirmation;
  const dialog = $<HTMLDialogElement>('confirmation');
  const text = $<HTMLTextAreaElement>('confirmation-text');
  const submit = $<HTMLButtonElement>('confirmation-submit');
  const isChosen = $<HTMLInputElement>('confirmation-choice');
  $('confirmation-heading').textContent = title;
  $('confirmation-explanation').replaceChildren(...explanation.map((line) => createElement('p', {}, line)));
  $('confirmation-field').hidden = !field;
  text.value = '';
  text.required = field !== undefined;
  if (field) text.maxLength = field.maxLength;
  $('confirmation-label').textContent = field?.label ?? '';
  $('confirmation-choice-row').hidden = !choice;
  isChosen.checked = false;
  $('confirmation-choice-label').textContent = choice?.label ?? '';
  submit.textContent = action;
  submit.classList.toggle('danger', isDangerous);
  $('confirmation-error').textContent = '';
  $<HTMLFormElement>('confirmation-form').onsubmit = (event) => {
    event.preventDefault();
    void run(confirmation, act, { text: text.value.trim(), isChosen: isChosen.checked });
  };
  dialog.showModal();
}

async function run(
  { focusAfter }: Confirmation, act: (answer: Answer) => Promise<void>, answer: Answer,
): Promise<void> {
  const submit = $('confirmation-submit');
  if (submit.getAttribute('aria-disabled') === 'true') return;
  submit.setAttribute('aria-disabled', 'true');
  $('confirmation-error').textContent = '';
  try {
    await act(answer);
    $<HTMLDialogElement>('confirmation').close();
    const focused = document.activeElement;
    if (focused === document.body || !focused?.checkVisibility()) focusAfter?.focus();
  } catch (error) {
    $('confirmation-error').textContent = errorText(error);
  } finally {
    submit.removeAttribute('aria-disabled');
  }
}
