// Who one is. Outside of development that is an access token; in development the server gives one to any name, which
// is the only thing that this page asks it by itself: all else goes through the client library.

import { $, button, node } from './dom.js';
import { say } from './notices.js';
import { avatar } from './people.js';

const KEPT = 'token';
/** Whom development offers. */
const USERS = ['alice', 'bob'];

/** A token that came with the address, which is taken and not left there, or that this tab has kept. */
export function knownToken(): string | null {
  const given = new URLSearchParams(location.hash.slice(1)).get('token');
  if (given) {
    history.replaceState(null, '', location.pathname + location.search);
    sessionStorage.setItem(KEPT, given);
  }
  return given ?? sessionStorage.getItem(KEPT);
}

/** Forgets the token. */
export function forget(): void {
  sessionStorage.removeItem(KEPT);
}

/** Asks the development server for a token of any user. */
async function tokenFor(user: string): Promise<string> {
  const answer = await fetch('/development/token', {
    method: 'POST', headers: { 'Content-Type': 'application/json' }, body: JSON.stringify({ user }),
  });
  const body = await answer.json() as { data?: { token: string }; detail?: string; errors?: { detail: string }[] };
  if (!body.data) throw new Error(body.errors?.[0] ? `The name ${body.errors[0].detail}.` : body.detail);
  return body.data.token;
}

/** What is done with a token, once there is one. */
let signIn: ((token: string) => void) | undefined;

/** Shows the form, until somebody is signed in. */
export function askWho(then: (token: string) => void): void {
  if (!signIn) prepare();
  signIn = then;
  $('sign-in').hidden = false;
}

function done(token: string): void {
  $('sign-in').hidden = true;
  say('');
  sessionStorage.setItem(KEPT, token);
  signIn?.(token);
}

/** Lets the form work. */
function prepare(): void {
  const asUser = async (user: string): Promise<void> => {
    try {
      done(await tokenFor(user));
    } catch (error) {
      say(error instanceof TypeError ? 'The server can’t be reached.' : (error as Error).message);
    }
  };

  const development = 'development' in document.documentElement.dataset;
  $('as-user').hidden = !development;
  $<HTMLDetailsElement>('as-token').open = !development;
  $('users').replaceChildren(...USERS.map((user) =>
    button({ class: 'user', 'data-testid': `as-${user}` }, () => void asUser(user), avatar(user), node('span', {}, user))));
  $('as-user').addEventListener('submit', (event) => {
    event.preventDefault();
    void asUser($<HTMLInputElement>('user').value.trim());
  });
  $('with-token').addEventListener('submit', (event) => {
    event.preventDefault();
    const field = $<HTMLTextAreaElement>('token');
    const token = field.value.trim();
    field.value = '';
    done(token);
  });
}
