// Making and keeping elements. Text only ever becomes text nodes; no markup is written anywhere.

/** An element of the page, which is there. */
export function $<Kind extends HTMLElement = HTMLElement>(id: string): Kind {
  const found = document.getElementById(id);
  if (!found) throw new Error(`the page has no #${id}`);
  return found as Kind;
}

/** Makes an element with attributes and children. */
export function node<Tag extends keyof HTMLElementTagNameMap>(
  tag: Tag, attributes: Record<string, string> = {}, ...children: (Node | string)[]
): HTMLElementTagNameMap[Tag] {
  const made = document.createElement(tag);
  for (const [name, value] of Object.entries(attributes)) made.setAttribute(name, value);
  made.append(...children);
  return made;
}

/** Makes a button that does something. */
export function button(
  attributes: Record<string, string>, act: () => void, ...children: (Node | string)[]
): HTMLButtonElement {
  const made = node('button', { type: 'button', ...attributes }, ...children);
  made.addEventListener('click', act);
  return made;
}

/** Sets a text where it is another: what stays the same is neither laid out nor read out again. */
export function setText(element: Element, text: string): void {
  if (element.textContent !== text) element.textContent = text;
}

/** Sets an attribute where it is another. */
export function setAttribute(element: Element, name: string, value: string): void {
  if (element.getAttribute(name) !== value) element.setAttribute(name, value);
}

/** The child of an element with this class. */
export function part(element: Element, name: string): HTMLElement {
  const found = element.querySelector<HTMLElement>(`.${name}`);
  if (!found) throw new Error(`there is no .${name}`);
  return found;
}

/** Which elements a list has, by what they are of. */
const lists = new WeakMap<Element, Map<string, HTMLElement>>();

/**
 * Shows a list with an element for each item. Elements of items that are still there are kept, so that focus stays
 * where it is and nothing is made twice.
 */
export function keyed<Item>(
  container: HTMLElement, items: readonly Item[], id: (item: Item) => string,
  make: (item: Item) => HTMLElement, fill: (element: HTMLElement, item: Item) => void,
): void {
  const before = lists.get(container) ?? new Map<string, HTMLElement>();
  const now = new Map<string, HTMLElement>();
  for (const item of items) now.set(id(item), before.get(id(item)) ?? make(item));
  for (const [key, element] of before) if (now.get(key) !== element) element.remove();
  lists.set(container, now);
  let next = container.firstElementChild;
  for (const item of items) {
    const element = now.get(id(item));
    if (!element) continue;
    fill(element, item);
    if (element === next) next = next.nextElementSibling;
    else container.insertBefore(element, next);
  }
}

const SVG = 'http://www.w3.org/2000/svg';

/** The drawings on buttons: strokes in a square of 24. */
const ICONS = {
  back: 'M15 5l-7 7 7 7',
  close: 'M6 6l12 12M18 6L6 18',
  down: 'M12 5v14M6 13l6 6 6-6',
  edit: 'M4 20l4.5-1L19 8.5 15.5 5 5 15.5 4 20zM13.5 7l3.5 3.5',
  erase: 'M5 7h14M10 4h4M7 7l1 13h8l1-13M10 11v5M14 11v5',
  group: 'M9 11a3.5 3.5 0 1 0 0-7 3.5 3.5 0 0 0 0 7zM2.5 20a6.5 6.5 0 0 1 13 0M16 4.5a3.5 3.5 0 0 1 0 6.5M18 14.5a6.5 6.5 0 0 1 3.5 5.5',
  new: 'M12 5v14M5 12h14',
  reply: 'M10 6l-6 6 6 6M4 12h10a6 6 0 0 1 6 6v1',
  send: 'M12 20V5M5.5 11.5L12 5l6.5 6.5',
} as const;

/** A drawing; what it means is said by its button's label. */
export function icon(name: keyof typeof ICONS): SVGSVGElement {
  const svg = document.createElementNS(SVG, 'svg');
  svg.setAttribute('viewBox', '0 0 24 24');
  svg.setAttribute('aria-hidden', 'true');
  const path = document.createElementNS(SVG, 'path');
  path.setAttribute('d', ICONS[name]);
  svg.append(path);
  return svg;
}
