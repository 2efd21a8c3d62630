// Completes mentions: after an @ the conversation's people are listed above the text field. A field of several lines
// can't be a combobox: that there is a list is read out.

import { node } from './dom.js';
import { announce } from './notices.js';
import { avatar } from './people.js';

/** How many are listed at most. */
const LISTED = 6;
/** An @ that doesn't end a word, and what follows it up to the caret. */
const BEGUN = /(?<![\p{L}\p{N}_])@(\S*)$/u;

/** What can be asked of a completion. */
export interface Completion {
  /** Takes a key if it is meant for the list. */
  takes(event: KeyboardEvent): boolean;
  close(): void;
}

/** Who fits what was written: whose name begins so first. */
export function fitting(people: readonly string[], begun: string): string[] {
  const wanted = begun.toLowerCase();
  const rank = (userId: string): number => (userId.toLowerCase().startsWith(wanted) ? 0 : 1);
  return people.filter((userId) => userId.toLowerCase().includes(wanted))
    .sort((a, b) => rank(a) - rank(b) || a.localeCompare(b)).slice(0, LISTED);
}

/** Completes in a field; `people` says who can be mentioned now, `wrote` hears of what was put in. */
export function completion(
  field: HTMLTextAreaElement, list: HTMLElement, people: () => Promise<readonly string[]>, wrote: () => void,
): Completion {
  let shown: string[] = [];
  let at = 0;
  let turn = 0;

  const begun = (): string | undefined =>
    (field.selectionStart === field.selectionEnd ? BEGUN.exec(field.value.slice(0, field.selectionStart))?.[1] : undefined);

  function draw(): void {
    list.hidden = shown.length === 0;
    list.replaceChildren(...shown.map((userId, i) => {
      const option = node('li', {
        id: `person-${i}`, role: 'option', class: 'person', 'aria-selected': String(i === at), 'data-testid': 'mention-option',
        'data-user': userId,
      }, avatar(userId), node('span', {}, userId));
      // Before the click, or the field would lose the focus.
      option.addEventListener('pointerdown', (event) => {
        event.preventDefault();
        take(userId);
      });
      return option;
    }));
    if (shown.length > 0) field.setAttribute('aria-activedescendant', `person-${at}`);
    else field.removeAttribute('aria-activedescendant');
  }

  function show(next: string[]): void {
    if (next.length === 0 && shown.length === 0) return;
    const kept = shown[at];
    if (shown.length === 0) announce('People to mention: choose with the arrow keys.');
    shown = next;
    at = Math.max(0, kept === undefined ? 0 : next.indexOf(kept));
    draw();
  }

  async function update(): Promise<void> {
    const mine = (turn += 1);
    const wanted = begun();
    if (wanted === undefined) {
      show([]);
      return;
    }
    const all = await people();
    if (mine === turn) show(fitting(all, wanted));
  }

  function close(): void {
    turn += 1;
    show([]);
  }

  function take(userId: string): void {
    const end = field.selectionStart;
    const start = end - (begun()?.length ?? 0) - 1;
    close();
    field.setRangeText(`@${userId} `, start, end, 'end');
    wrote();
  }

  field.addEventListener('input', () => void update());
  field.addEventListener('click', () => void update());
  field.addEventListener('keyup', (event) => {
    if (['ArrowLeft', 'ArrowRight', 'Home', 'End'].includes(event.key)) void update();
  });
  field.addEventListener('blur', close);
  return {
    close,
    takes(event) {
      const chosen = shown[at];
      if (chosen === undefined || event.isComposing) return false;
      if (event.key === 'ArrowDown' || event.key === 'ArrowUp') {
        at = (at + (event.key === 'ArrowDown' ? 1 : shown.length - 1)) % shown.length;
        draw();
      } else if ((event.key === 'Enter' && !event.shiftKey) || (event.key === 'Tab' && !event.shiftKey)) {
        take(chosen);
      } else if (event.key === 'Escape') {
        close();
      } else {
        return false;
      }
      event.preventDefault();
      return true;
    },
  };
}
