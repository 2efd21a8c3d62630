// Creates and updates elements. Text becomes text nodes only: the page must never parse text as markup.

/** Returns an element of index.html. */
export function $<Kind extends HTMLElement = HTMLElement>(id: string): Kind {
  const found = document.getElementById(id);
  if (!found) throw new Error(`the page has no #${id}`);
  return found as Kind;
}

/** Creates an element with attributes and children. */
export function createElement<Tag extends keyof HTMLElementTagNameMap>(
  tag: Tag, attributes: Record<string, string> = {}, ...children: (Node | string)[]
): HTMLElementTagNameMap[Tag] {
  const element = document.createElement(tag);
  for (const [name, value] of Object.entries(attributes)) element.setAttribute(name, value);
  element.append(...children);
  return element;
}

/** Creates a button with a click handler. */
export function button(
  attributes: Record<string, string>, onClick: () => void, ...children: (Node | string)[]
): HTMLButtonElement {
  const element = createElement('button', { type: 'button', ...attributes }, ...children);
  element.addEventListener('click', onClick);
  return element;
}

/** A text between the marks of {@link isolate}. */
const ISOLATED = /\u2068([^\u2069]*)\u2069/;

/**
 * Marks a text of another person inside a text of the page: neither its direction nor a control character in it then
 * reorders what stands around it. The marks are U+2068 and U+2069, which the text itself must not contain.
 */
export const isolate = (text: string): string => `\u2068${text.replace(/[\u2066-\u2069]/g, '')}\u2069`;

/**
 * Sets a text if it differs: an unchanged one is neither laid out nor announced again. Isolated parts become elements
 * of their own.
 */
export function setText(element: Element, text: string): void {
  const parts = text.split(ISOLATED); // every second part is isolated
  if (element.textContent === parts.join('')) return;
  element.replaceChildren(...parts.map((part, i) => (i % 2 ? createElement('bdi', {}, part) : part)).filter(Boolean));
}

/** Sets an attribute if it differs. */
export function setAttribute(element: Element, name: string, value: string): void {
  if (element.getAttribute(name) !== value) element.setAttribute(name, value);
}

/** Returns the descendant with a class. */
export function child(element: Element, className: string): HTMLElement {
  const found = element.querySelector<HTMLElement>(`.${className}`);
  if (!found) throw new Error(`the element has no .${className}`);
  return found;
}

/** The elements of each list, by the key of their item. */
const listElements = new WeakMap<Element, Map<string, HTMLElement>>();

/**
 * Shows one element for each item. It keeps the elements of items that remain: they keep the focus, and nothing is
 * created twice.
 */
export function drawList<Item>(
  container: HTMLElement, items: readonly Item[], keyOf: (item: Item) => string,
  create: (item: Item) => HTMLElement, update: (element: HTMLElement, item: Item) => void,
): void {
  const before = listElements.get(container) ?? new Map<string, HTMLElement>();
  const elements = new Map<string, HTMLElement>();
  for (const item of items) elements.set(keyOf(item), before.get(keyOf(item)) ?? create(item));
  for (const [key, element] of before) if (elements.get(key) !== element) element.remove();
  listElements.set(container, elements);
  let next = container.firstElementChild;
  for (const item of items) {
    const element = elements.get(keyOf(item));
    if (!element) continue;
    update(element, item);
    if (element === next) next = next.nextElementSibling;
    else container.insertBefore(element, next);
  }
}

const SVG_NAMESPACE = 'http://www.w3.org/2000/svg';

/** The paths of the icons, drawn as strokes in a square of 24 units. */
const ICONS = {
  back: 'M15 5l-7 7 7 7',
  close: 'M6 6l12 12M18 6L6 18',
  delete: 'M5 7h14M10 4h4M7 7l1 13h8l1-13M10 11v5M14 11v5',
  down: 'M12 5v14M6 13l6 6 6-6',
  edit: 'M4 20l4.5-1L19 8.5 15.5 5 5 15.5 4 20zM13.5 7l3.5 3.5',
  group: 'M9 11a3.5 3.5 0 1 0 0-7 3.5 3.5 0 0 0 0 7zM2.5 20a6.5 6.5 0 0 1 13 0M16 4.5a3.5 3.5 0 0 1 0 6.5M18 14.5a6.5 6.5 0 0 1 3.5 5.5',
  new: 'M12 5v14M5 12h14',
  reply: 'M10 6l-6 6 6 6M4 12h10a6 6 0 0 1 6 6v1',
  send: 'M12 20V5M5.5 11.5L12 5l6.5 6.5',
} as const;

/** Creates an icon. Screen readers ignore it: the button has a label. */
export function icon(name: keyof typeof ICONS): SVGSVGElement {
  const svg = document.createElementNS(SVG_NAMESPACE, 'svg');
  svg.setAttribute('viewBox', '0 0 24 24');
  svg.setAttribute('aria-hidden', 'true');
  const path = document.createElementNS(SVG_NAMESPACE, 'path');
  path.setAttribute('d', ICONS[name]);
  svg.append(path);
  return svg;
}
