// Signing in: with an access token, or in development mode with any user name. The request for a development token is
// the only one that the page sends without the client library.

import { $, button, createElement } from './dom.js';
import { avatar } from './people.js';
import { showToast } from './toasts.js';

/** The token's key in the session storage, which belongs to this tab. */
const STORAGE_KEY = 'token';
/** The users that development mode suggests. */
const SUGGESTED_USERS = ['alice', 'bob'];

/** Returns the token in the address, which it removes from there, or the one that this tab has saved. */
export function savedToken(): string | null {
  const fromAddress = new URLSearchParams(location.hash.slice(1)).get('token');
  if (fromAddress) {
    history.replaceState(null, '', location.pathname + location.search);
    sessionStorage.setItem(STORAGE_KEY, fromAddress);
  }
  return fromAddress ?? sessionStorage.getItem(STORAGE_KEY);
}

export function forgetToken(): void {
  sessionStorage.removeItem(STORAGE_KEY);
}

/** Requests a token of any user from a development server. */
async function developmentToken(user: string): Promise<string> {
  const response = await fetch('/development/token', {
    method: 'POST', headers: { 'Content-Type': 'application/json' }, body: JSON.stringify({ user }),
  });
  const body = await response.json() as { data?: { token: string }; detail?: string; errors?: { detail: string }[] };
  if (!body.data) throw new Error(body.errors?.[0] ? `The name ${body.errors[0].detail}.` : body.detail);
  return body.data.token;
}

/** Called with the token of the next sign-in. */
let onSignIn: ((token: string) => void) | undefined;

/** Shows the sign-in form until the user signs in. */
export function showSignIn(onToken: (token: string) => void): void {
  if (!onSignIn) prepareForms();
  onSignIn = onToken;
  $('sign-in').hidden = false;
}

function signIn(token: string): void {
  $('sign-in').hidden = true;
  showToast('');
  sessionStorage.setItem(STORAGE_KEY, token);
  onSignIn?.(token);
}

function prepareForms(): void {
  const signInAs = async (user: string): Promise<void> => {
    try {
      signIn(await developmentToken(user));
    } catch (error) {
      showToast(error instanceof TypeError ? 'The server can’t be reached.' : (error as Error).message);
    }
  };

  const isDevelopment = 'development' in document.documentElement.dataset;
  $('user-form').hidden = !isDevelopment;
  $<HTMLDetailsElement>('token-section').open = !isDevelopment;
  $('suggested-users').replaceChildren(...SUGGESTED_USERS.map((user) => button(
    { class: 'suggested-user', 'data-testid': `sign-in-${user}` },
    () => void signInAs(user),
    avatar(user), createElement('span', {}, user),
  )));
  $('user-form').addEventListener('submit', (event) => {
    event.preventDefault();
    void signInAs($<HTMLInputElement>('user').value.trim());
  });
  $('token-form').addEventListener('submit', (event) => {
    event.preventDefault();
    const field = $<HTMLTextAreaElement>('token');
    const token = field.value.trim();
    field.value = '';
    signIn(token);
  });
}
