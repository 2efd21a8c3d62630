// Signing in: with an access token, or in development mode with any user name. The request for a development token is
// the only one that the page sends without the client library.

import { $, button, createElement } from './dom.js';
import { avatar } from './people.js';
import { showToast } from './toasts.js';
import { developmentToken, isDevelopment, tokenStore } from './tokens.js';

const store = tokenStore('token');
/** The users that development mode suggests. */
const SUGGESTED_USERS = ['alice', 'bob'];

export const savedToken = store.saved;
export const forgetToken = store.forget;

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
  store.save(token);
  onSignIn?.(token);
}

function prepareForms(): void {
  const signInAs = async (user: string): Promise<void> => {
    try {
      signIn(await developmentToken(user));
    } catch (error) {
      showToast((error as Error).message);
    }
  };

  $('user-form').hidden = !isDevelopment();
  $<HTMLDetailsElement>('token-section').open = !isDevelopment();
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
