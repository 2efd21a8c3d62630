// Signing in: in development mode as any user, otherwise with an access token; and with invalid tokens.
//
// node page-sign-in.mjs BASE_URL development|production TOKEN USER
// page.mjs describes the output.

import { live } from './browser.mjs';
import { Person, arguments_, assert, assertUndisturbed, run, step } from './page.mjs';

const [base, mode, token, user] = arguments_('page-sign-in.mjs BASE_URL development|production TOKEN USER', 4);
/** A token with an invalid signature. */
const FORGED = `${token.split('.').slice(0, 2).join('.')}.AAAA`;

const assertSignedInAs = (person, name) => person.get('me').getByText(name, { exact: true }).waitFor();

async function signOut(person) {
  await person.get('sign-out').click();
  await person.page.locator('#sign-in').waitFor();
  assert(await person.page.evaluate(() => sessionStorage.length) === 0, 'the tab still stores something');
}

/** In development mode, the section with the field has to be opened first. */
async function signInWithToken(person, text) {
  if (!await person.get('token').isVisible()) await person.page.getByText('Use an access token').click();
  await person.get('token').fill(text);
  await person.get('token-submit').click();
}

async function asAnyUser(person) {
  await step('a click signs in as alice', async () => {
    await person.get('sign-in-alice').click();
    await live(person.page);
    await assertSignedInAs(person, 'alice');
  });
  await step('alice stays signed in after a reload, but not after signing out', async () => {
    await person.page.reload();
    await live(person.page);
    await assertSignedInAs(person, 'alice');
    await signOut(person);
  });
  await step('a name signs in as any other user', async () => {
    await person.get('user').fill('zoë.w');
    await person.page.keyboard.press('Enter');
    await live(person.page);
    await assertSignedInAs(person, 'zoë.w');
    await signOut(person);
  });
  await step('a name with a space is refused', async () => {
    await person.get('user').fill('two words');
    await person.get('user-submit').click();
    assert(await person.page.evaluate(() => document.querySelector('#user:invalid') !== null), 'the field accepts the name');
    assert(await person.page.locator('#sign-in').isVisible(), 'the form is gone');
  });
}

async function story(browser) {
  const person = await step('a visitor opens the page', () => Person.enter(browser, base, 'A', null));
  await person.page.locator('#sign-in').waitFor();
  if (mode === 'development') await asAnyUser(person);
  else await step('the form requires a token', async () => assert(!await person.get('sign-in-alice').isVisible(), 'alice can sign in'));
  await step('a text that isn’t a token is refused', async () => {
    await signInWithToken(person, 'nonsense');
    await person.get('toast').getByText('not an access token').waitFor();
  });
  await step('a token with an invalid signature is refused and forgotten', async () => {
    await signInWithToken(person, FORGED);
    await person.get('toast').getByText('You were signed out').waitFor();
    assert(await person.page.evaluate(() => sessionStorage.length) === 0, 'the tab still stores it');
  });
  await step('a valid token signs in', async () => {
    await signInWithToken(person, token);
    await live(person.page);
    await assertSignedInAs(person, user);
    await signOut(person);
  });
  await step('a token in the address signs in and is removed from the address', async () => {
    await person.page.goto(`${base}/#token=${encodeURIComponent(token)}`);
    await live(person.page);
    await assertSignedInAs(person, user);
    assert(!person.page.url().includes('token'), 'the address still contains the token');
    await person.page.evaluate(() => { window.neverReloaded = true; });
  });
  await step('the console has no other errors', () => assertUndisturbed([/status of 401/]));
}

await run(story, [token]);
