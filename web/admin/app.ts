// The admin page: signs in, and shows the section that the address names. All data come from the admin API.

import { $, setText } from '../dom.js';
import { showToast } from '../toasts.js';
import { authenticate, get } from './api.js';
import { audit } from './audit.js';
import { connection } from './connection.js';
import { conversation } from './conversation.js';
import { deadLetters } from './dead-letters.js';
import { number } from './format.js';
import { jobs } from './jobs.js';
import { limits } from './limits.js';
import { drawOverview, overview } from './overview.js';
import type { Section } from './section.js';
import { forgetToken, savedToken, showSignIn, userOf } from './sign-in.js';
import type { Status } from './types.js';

const FIRST_SECTION = 'overview';
/** The page appears after this time without an answer, and says that there is none, in milliseconds. */
const FIRST_ANSWER_MS = 3_000;

/** The name and the argument of a section in the address: `#name/argument`. */
function address(sections: Record<string, Section>): { name: string; argument: string } {
  const [name = '', argument = ''] = location.hash.slice(1).split(/\/(.*)/s);
  return name in sections ? { name, argument } : { name: FIRST_SECTION, argument: '' };
}

/** Shows the sections as the address changes. */
function startSections(sections: Record<string, Section>): void {
  let openName = '';
  function show(): void {
    const { name, argument } = address(sections);
    const isFirst = openName === '';
    if (openName && openName !== name) sections[openName]?.close();
    openName = name;
    for (const other of Object.keys(sections)) $(`section-${other}`).hidden = other !== name;
    for (const link of document.querySelectorAll<HTMLAnchorElement>('.sections a')) {
      if (link.hash === `#${name}`) link.setAttribute('aria-current', 'page');
      else link.removeAttribute('aria-current');
    }
    sections[name]?.open(argument);
    const heading = $('section-' + name).querySelector<HTMLElement>('h2:not([hidden] *)');
    document.title = `${heading?.textContent ?? name} · Messages admin`;
    // A screen reader reads the heading of what has appeared.
    if (!isFirst) {
      heading?.focus({ preventScroll: true });
      $('content').scrollTo(0, 0);
      window.scrollTo(0, 0);
    }
  }
  window.addEventListener('hashchange', show);
  show();
}

function startAdmin(token: string): void {
  setText($('me'), userOf(token));
  $('admin').hidden = false;
  const polls = connection((picture) => {
    drawOverview(picture);
    const open = picture.status?.openDeadLetters ?? 0;
    const badge = $('open-dead-letters');
    badge.hidden = open === 0;
    setText(badge, number(open));
  });
  startSections({
    overview: overview(), jobs: jobs(), 'dead-letters': deadLetters(), conversation: conversation(), audit: audit(),
    limits: limits(),
  });
  polls.start();
}

/** Asks the server before anything is shown: a token without the role shows nothing of the system. */
async function enter(token: string): Promise<void> {
  let isRefused = false;
  const refuse = (reason: string): void => {
    if (isRefused) return;
    isRefused = true;
    forgetToken();
    showToast('');
    if ($('admin').hidden) {
      showSignIn((next) => void enter(next), reason);
      return;
    }
    // The next admin gets a page without any of this one's data.
    sessionStorage.setItem(REASON_KEY, reason);
    location.reload();
  };
  authenticate(token, refuse);
  try {
    await get<Status>('status', FIRST_ANSWER_MS);
  } catch {
    // The page says so by itself if the server doesn't answer.
  }
  if (!isRefused) startAdmin(token);
}

/** Why the page was left, for the page that is loaded next. */
const REASON_KEY = 'admin-sign-in-reason';

$('sign-out').addEventListener('click', () => {
  forgetToken();
  history.replaceState(null, '', location.pathname);
  location.reload();
});
$('skip-link').addEventListener('click', (event) => {
  event.preventDefault(); // the address names a section
  $('content').focus();
});
$('confirmation-cancel').addEventListener('click', () => $<HTMLDialogElement>('confirmation').close());
window.addEventListener('hashchange', () => {
  if (location.hash.startsWith('#token=') && savedToken()) location.reload();
});
const reason = sessionStorage.getItem(REASON_KEY) ?? '';
sessionStorage.removeItem(REASON_KEY);
const token = savedToken();
if (token) void enter(token);
else showSignIn((next) => void enter(next), reason);
