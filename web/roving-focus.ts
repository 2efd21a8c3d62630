// Roving focus: a list is one stop of the Tab key, and the arrow keys move between its items.

/** The keys for the previous and the next item. */
type Keys = readonly [previous: string, next: string];
export const UP_DOWN: Keys = ['ArrowUp', 'ArrowDown'];
export const LEFT_RIGHT: Keys = ['ArrowLeft', 'ArrowRight'];

/**
 * Makes the arrow keys move the focus between the items of a container that match `selector`. Tab returns to the item
 * that had the focus last.
 */
export function rovingFocus(container: HTMLElement, selector: string, [previous, next]: Keys): void {
  container.addEventListener('keydown', (event) => {
    if (event.altKey || event.ctrlKey || event.metaKey) return;
    const current = (event.target as HTMLElement).closest<HTMLElement>(selector);
    const items = [...container.querySelectorAll<HTMLElement>(selector)];
    const index = current ? items.indexOf(current) : -1;
    const targetIndex = { [previous]: index - 1, [next]: index + 1, Home: 0, End: items.length - 1 }[event.key];
    const target = targetIndex === undefined ? undefined : items[targetIndex];
    if (!target || index < 0) return;
    event.preventDefault();
    target.focus();
  });
  container.addEventListener('focusin', (event) => {
    const item = (event.target as HTMLElement).closest<HTMLElement>(selector);
    if (!item) return;
    for (const other of container.querySelectorAll<HTMLElement>(`${selector}[tabindex="0"]`)) {
      if (other !== item) other.tabIndex = -1;
    }
    item.tabIndex = 0;
  });
}

/** Makes an item the stop of the Tab key, unless the container has one. */
export function ensureTabStop(container: HTMLElement, selector: string, item: HTMLElement | null | undefined): void {
  if (item && !container.querySelector(`${selector}[tabindex="0"]`)) item.tabIndex = 0;
}
