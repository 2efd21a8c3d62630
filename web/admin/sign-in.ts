// Signing in with an admin's token; in development mode, a button asks the server for one.

import { $ } from '../dom.js';
import { developmentToken, isDevelopment, tokenStore } from '../tokens.js';

const store = tokenStore('admin-token');
/** The user of the token that development mode gives. */
const DEVELOPMENT_ADMIN = 'admin';

export const savedToken = store.saved;
export const forgetToken = store.forget;

/** The user of a token; empty if it is none. The server decides whether it is valid. */
export function userOf(token: string): string {
  try {
    const claims = (token.split('.')[1] ?? '').replaceAll('-', '+').replaceAll('_', '/');
    const bytes = Uint8Array.from(atob(claims), (character) => character.charCodeAt(0));
    return String((JSON.parse(new TextDecoder().decode(bytes)) as { sub?: unknown }).sub ?? '');
  } catch {
    return '';
  }
}

let onSignIn: ((token: string) => void) | undefined;

/** Shows the form until the user signs in; `reason` says why it appears. */
export function showSignIn(onToken: (token: string) => void, reason = ''): void {
  if (!onSignIn) prepareForms();
  onSignIn = onToken;
  document.title = 'Messages admin';
  $('sign-in').hidden = false;
  $('sign-in-reason').textContent = reason;
  if (reason) $('token').focus();
}

function signIn(token: string): void {
  if (!userOf(token)) {
    $('sign-in-reason').textContent = 'This is not an access token. It has three parts with dots between them.';
    return;
  }
  $('sign-in').hidden = true;
  store.save(token);
  onSignIn?.(token);
}

function prepareForms(): void {
  $('development-admin').hidden = !isDevelopment();
  $('development-admin').addEventListener('click', () => {
    developmentToken(DEVELOPMENT_ADMIN, 'admin').then(signIn, (error: Error) => {
      $('sign-in-reason').textContent = error.message;
    });
  });
  $('token-form').addEventListener('submit', (event) => {
    event.preventDefault();
    const field = $<HTMLTextAreaElement>('token');
    const token = field.value.trim();
    field.value = '';
    signIn(token);
  });
}
