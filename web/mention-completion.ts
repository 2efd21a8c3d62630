// Completes mentions: after an @, a list above the text field offers the conversation's participants. A field with
// several lines can't be a combobox, so the page announces the list to screen readers.

import { createElement } from './dom.js';
import { avatar, WORD_CHARACTER } from './people.js';
import { announce } from './toasts.js';

/** How many people the list offers. */
const OPTIONS_MAX = 6;
/** An @ that doesn't follow a word, and the text between it and the caret. */
const MENTION_BEFORE_CARET = new RegExp(`(?<!${WORD_CHARACTER})@(\\S*)$`, 'u');

export interface MentionCompletion {
  /** Handles a key while the list is open; returns whether it did. */
  handleKey(event: KeyboardEvent): boolean;
  close(): void;
}

/** The people whose names contain the text; those whose names start with it come first. */
export function matchingPeople(userIds: readonly string[], text: string): string[] {
  const wanted = text.toLowerCase();
  const rank = (userId: string): number => (userId.toLowerCase().startsWith(wanted) ? 0 : 1);
  return userIds.filter((userId) => userId.toLowerCase().includes(wanted))
    .sort((a, b) => rank(a) - rank(b) || a.localeCompare(b)).slice(0, OPTIONS_MAX);
}

/** Completes mentions in a field. `people` returns who can be mentioned; `onInsert` is called after a completion. */
export function mentionCompletion(
  field: HTMLTextAreaElement, list: HTMLElement, people: () => Promise<readonly string[]>, onInsert: () => void,
): MentionCompletion {
  let options: string[] = [];
  let activeIndex = 0;
  /** Counts the updates: an older one that ends late must not show its options. */
  let updateCount = 0;

  const textBeforeCaret = (): string | undefined => {
    if (field.selectionStart !== field.selectionEnd) return undefined;
    return MENTION_BEFORE_CARET.exec(field.value.slice(0, field.selectionStart))?.[1];
  };

  function draw(): void {
    list.hidden = options.length === 0;
    list.replaceChildren(...options.map((userId, i) => {
      const option = createElement('li', {
        id: `mention-option-${i}`, role: 'option', class: 'mention-option', 'aria-selected': String(i === activeIndex),
        'data-testid': 'mention-option', 'data-user': userId,
      }, avatar(userId), createElement('span', { dir: 'auto' }, userId));
      // A click would come after the field has lost the focus.
      option.addEventListener('pointerdown', (event) => {
        event.preventDefault();
        insert(userId);
      });
      return option;
    }));
    if (options.length > 0) field.setAttribute('aria-activedescendant', `mention-option-${activeIndex}`);
    else field.removeAttribute('aria-activedescendant');
  }

  function show(next: string[]): void {
    if (next.length === 0 && options.length === 0) return;
    const active = options[activeIndex];
    if (options.length === 0) announce('People to mention: choose with the arrow keys.');
    options = next;
    activeIndex = Math.max(0, active === undefined ? 0 : next.indexOf(active));
    draw();
  }

  async function update(): Promise<void> {
    const ownCount = (updateCount += 1);
    const text = textBeforeCaret();
    if (text === undefined) {
      show([]);
      return;
    }
    const userIds = await people();
    if (ownCount === updateCount) show(matchingPeople(userIds, text));
  }

  function close(): void {
    updateCount += 1;
    show([]);
  }

  function insert(userId: string): void {
    const end = field.selectionStart;
    const start = end - (textBeforeCaret()?.length ?? 0) - 1;
    close();
    field.setRangeText(`@${userId} `, start, end, 'end');
    onInsert();
  }

  field.addEventListener('input', () => void update());
  field.addEventListener('click', () => void update());
  field.addEventListener('keyup', (event) => {
    if (['ArrowLeft', 'ArrowRight', 'Home', 'End'].includes(event.key)) void update();
  });
  field.addEventListener('blur', close);
  return {
    close,
    handleKey(event) {
      const active = options[activeIndex];
      if (active === undefined || event.isComposing) return false;
      if (event.key === 'ArrowDown' || event.key === 'ArrowUp') {
        activeIndex = (activeIndex + (event.key === 'ArrowDown' ? 1 : options.length - 1)) % options.length;
        draw();
      } else if ((event.key === 'Enter' && !event.shiftKey) || (event.key === 'Tab' && !event.shiftKey)) {
        insert(active);
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
