// Toasts for errors, and announcements for screen readers.

import { $, setText } from './dom.js';

/** How long a toast stays, in milliseconds. */
const TOAST_MS = 8_000;

let hideTimer = 0;

/** Shows a toast; an empty text hides it. */
export function showToast(text: string): void {
  clearTimeout(hideTimer);
  $('toast').textContent = text;
  if (text) hideTimer = setTimeout(() => showToast(''), TOAST_MS);
}

/** Makes screen readers read a text. */
export function announce(text: string): void {
  setText($('announcer'), text);
}
