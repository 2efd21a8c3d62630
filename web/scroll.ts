// The place of the reader: kept when something comes in above, and at the end for whoever is there.

import { $ } from './dom.js';

/** So near to the end counts as there. */
const NEAR_PX = 60;

export interface Scroller {
  /** Whether the reader is at the newest message. */
  readonly atEnd: boolean;
  /** How far from the beginning of what is here, in pixels. */
  readonly fromStart: number;
  /** Draws, and leaves the reader where they are. */
  keeping(draw: () => void): void;
  toEnd(smoothly?: boolean): void;
  /** Goes to an element, and puts it in the middle or at the top. */
  to(element: Element, block: 'center' | 'start'): void;
}

/** Watches the place; `moved` is told when the reader scrolls. */
export function scroller(moved: () => void): Scroller {
  const scroll = $('scroll');
  const list = $('messages');
  let atEnd = true;
  let gliding = false;

  const distance = (): number => scroll.scrollHeight - scroll.clientHeight - scroll.scrollTop;
  const toEnd = (smoothly = false): void => {
    atEnd = true;
    gliding = smoothly && !matchMedia('(prefers-reduced-motion: reduce)').matches;
    scroll.scrollTo({ top: scroll.scrollHeight, behavior: gliding ? 'smooth' : 'instant' });
  };

  /** The first message that is in sight: halving, for there may be thousands. */
  function firstInSight(): Element | undefined {
    const items = list.children;
    const top = scroll.getBoundingClientRect().top;
    let [low, high] = [0, items.length];
    while (low < high) {
      const middle = (low + high) >> 1;
      if ((items[middle]?.getBoundingClientRect().bottom ?? 0) > top) high = middle;
      else low = middle + 1;
    }
    // A day's name goes up when there is more of that day.
    while (items[low] && !items[low]?.matches('.message')) low += 1;
    return items[low];
  }

  scroll.addEventListener('scroll', () => {
    if (distance() < NEAR_PX) gliding = false;
    // On a smooth way to the end, one is as good as there.
    if (!gliding) atEnd = distance() < NEAR_PX;
    moved();
  }, { passive: true });
  for (const gesture of ['wheel', 'touchstart', 'pointerdown', 'keydown']) {
    scroll.addEventListener(gesture, () => { gliding = false; }, { passive: true });
  }

  // A longer draft, a keyboard or a turned phone takes room from the messages: the newest stays in sight.
  const sizes = new ResizeObserver(() => { if (atEnd) toEnd(); });
  sizes.observe(scroll);
  sizes.observe(list);

  return {
    get atEnd() { return atEnd; },
    get fromStart() { return scroll.scrollTop; },
    toEnd,
    keeping(draw) {
      const anchor = atEnd ? undefined : firstInSight();
      const before = anchor?.getBoundingClientRect().top ?? 0;
      draw();
      if (atEnd) toEnd();
      else if (anchor?.isConnected) scroll.scrollTop += anchor.getBoundingClientRect().top - before;
    },
    to(element, block) {
      gliding = atEnd = false;
      element.scrollIntoView({ block, behavior: 'instant' });
      atEnd = distance() < NEAR_PX;
    },
  };
}
