// Times as people say them. The formatters are made once: making one is slow.

const CLOCK = new Intl.DateTimeFormat(undefined, { hour: '2-digit', minute: '2-digit' });
const WEEKDAY = new Intl.DateTimeFormat(undefined, { weekday: 'long' });
const DAY = new Intl.DateTimeFormat(undefined, { day: 'numeric', month: 'long' });
const SHORT = new Intl.DateTimeFormat(undefined, { day: 'numeric', month: 'short' });
const YEAR = new Intl.DateTimeFormat(undefined, { day: 'numeric', month: 'long', year: 'numeric' });
const FULL = new Intl.DateTimeFormat(undefined, { dateStyle: 'full', timeStyle: 'short' });
const WEEK_DAYS = 7;

/** The time of day. */
export const clock = (time: string): string => CLOCK.format(new Date(time));

/** Everything about a time. */
export const full = (time: string): string => FULL.format(new Date(time));

/** Tells days apart, in this place's time. */
export const dayKey = (time: string): string => new Date(time).toDateString();

/** How many days ago a day was. */
function daysAgo(time: string): number {
  const midnight = (date: Date): number => Date.UTC(date.getFullYear(), date.getMonth(), date.getDate());
  return Math.round((midnight(new Date()) - midnight(new Date(time))) / 86_400_000);
}

/** The name of a day. */
export function dayName(time: string): string {
  const ago = daysAgo(time);
  if (ago <= 0) return 'Today';
  if (ago === 1) return 'Yesterday';
  if (ago < WEEK_DAYS) return WEEKDAY.format(new Date(time));
  const date = new Date(time);
  return (date.getFullYear() === new Date().getFullYear() ? DAY : YEAR).format(date);
}

/** When something was, as short as a list has room for. */
export function brief(time: string): string {
  const ago = daysAgo(time);
  if (ago <= 0) return clock(time);
  return ago === 1 ? 'Yesterday' : SHORT.format(new Date(time));
}

/** When somebody was last seen. */
export function since(time: string): string {
  const minutes = Math.floor((Date.now() - Date.parse(time)) / 60_000);
  if (minutes < 1) return 'just now';
  if (minutes < 60) return `${minutes} min ago`;
  return daysAgo(time) <= 0 ? `at ${clock(time)}` : brief(time).toLowerCase();
}
