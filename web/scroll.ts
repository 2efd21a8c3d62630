// The scroll position of the timeline: it stays at the newest message, or on the same message while others are added.

import { $ } from './dom.js';

/** This close to the end counts as the end. */
const NEAR_END_PX = 60;

export interface Scroller {
  /** Whether the newest message is visible. */
  readonly atEnd: boolean;
  /** The distance from the first loaded message, in pixels. */
  readonly fromStart: number;
  /** Draws, and keeps the message that the user reads in place. */
  keepPosition(draw: () => void): void;
  toEnd(smoothly?: boolean): void;
  /** Scrolls an element to the middle or to the top. */
  to(element: Element, block: 'center' | 'start'): void;
}

/** Tracks the scroll position; calls `onScroll` when it changes. */
export function scroller(onScroll: () => void): Scroller {
  const scroll = $('timeline-scroll');
  const list = $('messages');
  let atEnd = true;
  let scrollingToEnd = false;

  const distanceToEnd = (): number => scroll.scrollHeight - scroll.clientHeight - scroll.scrollTop;
  const toEnd = (smoothly = false): void => {
    atEnd = true;
    scrollingToEnd = smoothly && !matchMedia('(prefers-reduced-motion: reduce)').matches;
    scroll.scrollTo({ top: scroll.scrollHeight, behavior: scrollingToEnd ? 'smooth' : 'instant' });
  };

  /** The first visible message. A binary search, because thousands may be loaded. */
  function firstVisibleMessage(): Element | undefined {
    const items = list.children;
    const top = scroll.getBoundingClientRect().top;
    let low = 0;
    let high = items.length;
    while (low < high) {
      const middle = (low + high) >> 1;
      if ((items[middle]?.getBoundingClientRect().bottom ?? 0) > top) high = middle;
      else low = middle + 1;
    }
    // Only messages stay in place: the divider of a day moves up when earlier messages of that day are loaded.
    while (items[low] && !items[low]?.matches('.message')) low += 1;
    return items[low];
  }

  scroll.addEventListener('scroll', () => {
    if (distanceToEnd() < NEAR_END_PX) scrollingToEnd = false;
    // While the page scrolls smoothly to the end, `atEnd` stays true.
    if (!scrollingToEnd) atEnd = distanceToEnd() < NEAR_END_PX;
    onScroll();
  }, { passive: true });
  for (const gesture of ['wheel', 'touchstart', 'pointerdown', 'keydown']) {
    scroll.addEventListener(gesture, () => { scrollingToEnd = false; }, { passive: true });
  }

  // A longer draft, a phone's keyboard or a rotation shrinks the timeline: the newest message stays visible.
  const sizes = new ResizeObserver(() => { if (atEnd) toEnd(); });
  sizes.observe(scroll);
  sizes.observe(list);

  return {
    get atEnd() { return atEnd; },
    get fromStart() { return scroll.scrollTop; },
    toEnd,
    keepPosition(draw) {
      const anchor = atEnd ? undefined : firstVisibleMessage();
      const before = anchor?.getBoundingClientRect().top ?? 0;
      draw();
      if (atEnd) toEnd();
      else if (anchor?.isConnected) scroll.scrollTop += anchor.getBoundingClientRect().top - before;
    },
    to(element, block) {
      scrollingToEnd = atEnd = false;
      element.scrollIntoView({ block, behavior: 'instant' });
      atEnd = distanceToEnd() < NEAR_END_PX;
    },
  };
}
