// Who one is: in development whoever one likes, elsewhere whom a token says; and a token that is no good.
//
// node page-sign-in.mjs BASE_URL development|production TOKEN USER
// See page.mjs for what it prints.

import { live } from './browser.mjs';
import { Person, arguments_, assert, step, tell, undisturbed } from './page.mjs';

const [base, mode, token, user] = arguments_('page-sign-in.mjs BASE_URL development|production TOKEN USER', 4);
/** A token that nobody signed. */
const FORGED = `${token.split('.').slice(0, 2).join('.')}.AAAA`;

const is = (person, name) => person.get('me').getByText(name, { exact: true }).waitFor();

async function signOut(person) {
  await person.get('sign-out').click();
  await person.page.locator('#sign-in').waitFor();
  assert(await person.page.evaluate(() => sessionStorage.length) === 0, 'the tab still has something');
}

/** In development, the field for a token has to be opened first. */
async function withToken(person, text) {
  if (!await person.get('token').isVisible()) await person.page.getByText('Use an access token').click();
  await person.get('token').fill(text);
  await person.get('token-submit').click();
}

async function anyone(person) {
  await step('alice is a click away', async () => {
    await person.get('as-alice').click();
    await live(person.page);
    await is(person, 'alice');
  });
  await step('she is still there after a reload, and gone after signing out', async () => {
    await person.page.reload();
    await live(person.page);
    await is(person, 'alice');
    await signOut(person);
  });
  await step('anybody else is a name away', async () => {
    await person.get('user').fill('zoë.w');
    await person.page.keyboard.press('Enter');
    await live(person.page);
    await is(person, 'zoë.w');
    await signOut(person);
  });
  await step('a name with a space isn’t one', async () => {
    await person.get('user').fill('two words');
    await person.get('user-submit').click();
    assert(await person.page.evaluate(() => document.querySelector('#user:invalid') !== null), 'it is taken');
    assert(await person.page.locator('#sign-in').isVisible(), 'somebody is signed in');
  });
}

async function story(browser) {
  const person = await step('somebody opens the page', () => Person.enter(browser, base, 'A', null));
  await person.page.locator('#sign-in').waitFor();
  if (mode === 'development') await anyone(person);
  else await step('nobody can be had without a token', async () => assert(!await person.get('as-alice').isVisible(), 'alice can'));
  await step('what is no token is refused', async () => {
    await withToken(person, 'nonsense');
    await person.get('status').getByText('not a token').waitFor();
  });
  await step('a token that nobody signed is refused, and forgotten', async () => {
    await withToken(person, FORGED);
    await person.get('status').getByText('You were signed out').waitFor();
    assert(await person.page.evaluate(() => sessionStorage.length) === 0, 'it is kept');
  });
  await step('a good token signs in', async () => {
    await withToken(person, token);
    await live(person.page);
    await is(person, user);
    await signOut(person);
  });
  await step('so does one in the address, which doesn’t stay there', async () => {
    await person.page.goto(`${base}/#token=${encodeURIComponent(token)}`);
    await live(person.page);
    await is(person, user);
    assert(!person.page.url().includes('token'), 'it is left in the address');
    await person.page.evaluate(() => { window.neverReloaded = true; });
  });
  await step('the console is clean', () => undisturbed([/status of 401/]));
}

await tell(story, [token]);
