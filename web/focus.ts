// One stop for the Tab key in a list of many: arrows move between its items, and Tab goes on from there.

/** The keys for the item before and the one after. */
type Keys = readonly [before: string, after: string];
export const UP_DOWN: Keys = ['ArrowUp', 'ArrowDown'];
export const LEFT_RIGHT: Keys = ['ArrowLeft', 'ArrowRight'];

/**
 * Lets arrows move within a container. `selector` finds its items; `moved` is told which of them has the focus now.
 * The item that had it last is where Tab comes back to.
 */
export function arrows(
  container: HTMLElement, selector: string, [before, after]: Keys, moved: (item: HTMLElement) => void = () => {},
): void {
  container.addEventListener('keydown', (event) => {
    if (event.altKey || event.ctrlKey || event.metaKey) return;
    const here = (event.target as HTMLElement).closest<HTMLElement>(selector);
    const items = [...container.querySelectorAll<HTMLElement>(selector)];
    const at = here ? items.indexOf(here) : -1;
    const to = { [before]: at - 1, [after]: at + 1, Home: 0, End: items.length - 1 }[event.key];
    const item = to === undefined ? undefined : items[to];
    if (!item || at < 0) return;
    event.preventDefault();
    item.focus();
  });
  container.addEventListener('focusin', (event) => {
    const item = (event.target as HTMLElement).closest<HTMLElement>(selector);
    if (!item) return;
    for (const other of container.querySelectorAll<HTMLElement>(`${selector}[tabindex="0"]`)) {
      if (other !== item) other.tabIndex = -1;
    }
    item.tabIndex = 0;
    moved(item);
  });
}

/** Sees to it that Tab finds the list: where no item is its stop, this one is. */
export function stop(container: HTMLElement, selector: string, item: HTMLElement | null | undefined): void {
  if (item && !container.querySelector(`${selector}[tabindex="0"]`)) item.tabIndex = 0;
}
