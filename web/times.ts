// Times and dates in words. The formatters are created once, because creating one is slow.

const TIME_OF_DAY = new Intl.DateTimeFormat(undefined, { hour: '2-digit', minute: '2-digit' });
const WEEKDAY = new Intl.DateTimeFormat(undefined, { weekday: 'long' });
const DAY = new Intl.DateTimeFormat(undefined, { day: 'numeric', month: 'long' });
const SHORT_DAY = new Intl.DateTimeFormat(undefined, { day: 'numeric', month: 'short' });
const DAY_AND_YEAR = new Intl.DateTimeFormat(undefined, { day: 'numeric', month: 'long', year: 'numeric' });
const FULL = new Intl.DateTimeFormat(undefined, { dateStyle: 'full', timeStyle: 'short' });
const DAYS_PER_WEEK = 7;

export const timeOfDay = (time: string): string => TIME_OF_DAY.format(new Date(time));

export const fullDateTime = (time: string): string => FULL.format(new Date(time));

/** Equal for all times of one day, in the local time zone. */
export const dayKey = (time: string): string => new Date(time).toDateString();

function daysAgo(time: string): number {
  const midnight = (date: Date): number => Date.UTC(date.getFullYear(), date.getMonth(), date.getDate());
  return Math.round((midnight(new Date()) - midnight(new Date(time))) / 86_400_000);
}

/** A day in words, as short as it is clear. */
export function dayName(time: string): string {
  const days = daysAgo(time);
  if (days <= 0) return 'Today';
  if (days === 1) return 'Yesterday';
  if (days < DAYS_PER_WEEK) return WEEKDAY.format(new Date(time));
  const date = new Date(time);
  return (date.getFullYear() === new Date().getFullYear() ? DAY : DAY_AND_YEAR).format(date);
}

/** A time for a narrow list: today's time of day, otherwise the day. */
export function shortDate(time: string): string {
  const days = daysAgo(time);
  if (days <= 0) return timeOfDay(time);
  return days === 1 ? 'Yesterday' : SHORT_DAY.format(new Date(time));
}

/** The end of a sentence that begins with "last seen". */
export function lastSeenTime(time: string): string {
  const minutes = Math.floor((Date.now() - Date.parse(time)) / 60_000);
  if (minutes < 1) return 'just now';
  if (minutes < 60) return `${minutes} min ago`;
  return daysAgo(time) <= 0 ? `at ${timeOfDay(time)}` : shortDate(time).toLowerCase();
}
