// What the sections of the page share: how they are opened, lists of facts, and texts that other people wrote.

import { createElement, drawList, setAttribute, setText } from '../dom.js';

/** A part of the page that an address names: `#name`, or `#name/argument`. */
export interface Section {
  /** Called when the address names the section, also with another argument. */
  open(argument: string): void;
  /** Called when the address names another section. */
  close(): void;
}

/** A fact with its name. */
export interface Fact {
  name: string;
  text: string;
  href?: string;
  /** Shows a state as a dot before the text. */
  state?: string;
  testId?: string;
}

function createFact({ name, href, state, testId }: Fact): HTMLElement {
  const content = href ? createElement('a', { href }) : createElement('span', { dir: 'auto' });
  if (testId) content.dataset['testid'] = testId;
  const dot = state === undefined ? [] : [createElement('span', { class: 'dot', 'aria-hidden': 'true' })];
  return createElement('div', {}, createElement('dt', {}, name), createElement('dd', {}, ...dot, content));
}

/** Shows facts in a <dl>. */
export function drawFacts(list: HTMLElement, facts: readonly Fact[]): void {
  drawList(list, facts, ({ name, href, state }) => `${name} ${href !== undefined} ${state !== undefined}`, createFact,
    (element, { text, href, state }) => {
      const content = element.querySelector('dd')?.lastElementChild;
      const dot = element.querySelector('.dot');
      if (content) setText(content, text);
      if (content && href) setAttribute(content, 'href', href);
      if (dot && state !== undefined) setAttribute(dot, 'data-state', state);
    });
}

/** A text that others wrote, such as a record: as it is, never as markup. It scrolls inside itself. */
export const sourceText = (text: string, label: string, testId: string): HTMLElement =>
  createElement('pre', { class: 'source', tabindex: '0', role: 'group', 'aria-label': label, 'data-testid': testId, dir: 'auto' },
    text);

/** A word for a state, with a dot. */
export function badge(text: string, state: string, testId = ''): HTMLElement {
  const attributes = testId ? { class: 'badge', 'data-testid': testId } : { class: 'badge' };
  return createElement('span', attributes,
    createElement('span', { class: 'dot', 'data-state': state, 'aria-hidden': 'true' }), createElement('span', {}, text));
}

/** Changes the word and the dot of a badge. */
export function setBadge(element: HTMLElement, text: string, state: string): void {
  const [dot, word] = element.children;
  if (dot) setAttribute(dot, 'data-state', state);
  if (word) setText(word, text);
}
