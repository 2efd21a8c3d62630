// Numbers, durations and times in words.

import { dayKey, shortDate } from '../times.js';
import type { Maybe } from './types.js';

const NUMBER = new Intl.NumberFormat(undefined);
const ONE_DECIMAL = new Intl.NumberFormat(undefined, { maximumFractionDigits: 1 });
const TIME = new Intl.DateTimeFormat(undefined, { hour: '2-digit', minute: '2-digit', second: '2-digit' });

/** What stands where nothing is known. */
export const NOTHING = '–';

export const number = (value: Maybe<number>): string => (value == null ? NOTHING : NUMBER.format(value));

/** A rate or a measurement, with a decimal where it is small. */
export const decimal = (value: Maybe<number>): string => {
  if (value == null) return NOTHING;
  return Math.abs(value) < 10 ? ONE_DECIMAL.format(value) : NUMBER.format(Math.round(value));
};

/** A noun with its number: `1 event`, `2 events`. */
export const count = (value: number, noun: string): string => `${NUMBER.format(value)} ${noun}${value === 1 ? '' : 's'}`;

/** A duration in words, with two units at most. */
export function duration(seconds: Maybe<number>): string {
  if (seconds == null) return NOTHING;
  if (seconds < 10) return `${ONE_DECIMAL.format(seconds)} s`;
  if (seconds < 60) return `${Math.round(seconds)} s`;
  const minutes = Math.floor(seconds / 60);
  if (minutes < 60) return `${minutes} min ${Math.floor(seconds % 60)} s`;
  const hours = Math.floor(minutes / 60);
  return hours < 24 ? `${hours} h ${minutes % 60} min` : `${Math.floor(hours / 24)} d ${hours % 24} h`;
}

/** The seconds since a time. A clock that is behind the server's makes none of it negative. */
export const secondsSince = (time: string): number => Math.max(0, (Date.now() - Date.parse(time)) / 1_000);

/** The seconds between two times. */
export const secondsBetween = (from: string, to: string): number => (Date.parse(to) - Date.parse(from)) / 1_000;

/** A time with seconds, and the day unless it is today. */
export function time(value: Maybe<string>): string {
  if (!value) return NOTHING;
  const timeOfDay = TIME.format(new Date(value));
  return dayKey(value) === new Date().toDateString() ? timeOfDay : `${shortDate(value)}, ${timeOfDay}`;
}

/** `since …`, with how long that is. */
export const since = (value: Maybe<string>): string =>
  (value ? `since ${time(value).replace('Yesterday', 'yesterday')} (${duration(Math.floor(secondsSince(value)))})` : '');

/** An unknown JSON value as a text with line breaks. */
export const json = (value: unknown): string => JSON.stringify(value, null, 2) ?? NOTHING;
