// The admin page on a running system: who gets in, dead letters and the audit, and how old the shown lag is.
//
// node admin-page.mjs BASE_URL ADMIN_TOKEN USER_TOKEN POSITION
// POSITION is that of an open dead letter whose record is `<img src=x onerror=alert(1)>`. The script prints
// {"please":"hold"} when the projector must stand still with an event before it, and {"please":"release"} when it may go
// on; it reads a line afterwards. page.mjs describes the rest of the output.

import { createInterface } from 'node:readline';
import { Person, arguments_, assert, assertUndisturbed, run, step, until } from './page.mjs';

const [base, adminToken, userToken, position] = arguments_('admin-page.mjs BASE_URL ADMIN_TOKEN USER_TOKEN POSITION', 4);
const address = `${base}/admin`;
const RECORD = '<img src=x onerror=alert(1)>';
/** How old what the page shows may be, in milliseconds. */
const MAX_AGE_MS = 2_000;

const lines = createInterface({ input: process.stdin })[Symbol.asyncIterator]();
async function please(order) {
  console.log(JSON.stringify({ please: order }));
  await lines.next();
}

async function getIn(browser) {
  const visitor = await step('a visitor opens the page', () => Person.enter(browser, address, 'V', null));
  await step('a text that isn’t a token is refused', async () => {
    await visitor.get('token').fill('nonsense');
    await visitor.get('token-submit').click();
    await visitor.get('sign-in-reason').getByText('not an access token').waitFor();
  });
  await step('a user without the role is told so, and sees nothing', async () => {
    await visitor.get('token').fill(userToken);
    await visitor.get('token-submit').click();
    await visitor.get('sign-in-reason').getByText('This token isn’t an admin’s. Ask an operator').waitFor();
    assert(!await visitor.get('nav-overview').isVisible(), 'the page is shown');
    assert(await visitor.page.evaluate(() => sessionStorage.length) === 0, 'the tab keeps the token');
  });
  await step('an invalid token is refused in words', async () => {
    await visitor.get('token').fill(`${adminToken.split('.').slice(0, 2).join('.')}.AAAA`);
    await visitor.get('token-submit').click();
    await visitor.get('sign-in-reason').getByText('Sign in again.').waitFor();
  });
  await step('an admin gets in, also after a reload', async () => {
    await visitor.get('token').fill(adminToken);
    await visitor.get('token-submit').click();
    await visitor.get('me').getByText('root', { exact: true }).waitFor();
    await visitor.page.reload();
    await visitor.get('lag').waitFor();
    await visitor.get('sign-out').click();
    await visitor.get('token').waitFor();
    assert(await visitor.page.evaluate(() => sessionStorage.length) === 0, 'the tab keeps something');
    await visitor.page.evaluate(() => { window.neverReloaded = true; });
  });
}

const auditRow = (a, action) => a.get('audit').locator('tbody tr').filter({ hasText: action }).filter({ hasText: position });

async function deadLetter(a) {
  await step('the navigation counts the open dead letter', () => a.get('open-dead-letters').getByText('1', { exact: true }).waitFor());
  await step('the list shows it, and a link opens it', async () => {
    await a.get('nav-dead-letters').click();
    await a.get('dead-letters').getByRole('link', { name: position, exact: true }).click();
    await until('its heading has the focus', () => a.page.evaluate(() => document.activeElement.id === 'heading-dead-letter'));
  });
  await step('its record is shown as a text, and never becomes markup', async () => {
    const record = a.get('dead-letter-record');
    await record.waitFor();
    assert(await record.textContent() === RECORD, await record.textContent());
    assert(await a.page.locator('img').count() === 0, 'the record became an image');
    assert((await a.get('dead-letter-reason').textContent()).length > 0, 'there is no reason');
  });
  await step('a retry is carried out, and the status shows what came of it', async () => {
    await a.get('retry-dead-letter').click();
    await a.get('nav-audit').click();
    await auditRow(a, 'retry-dead-letter').filter({ hasText: 'done' }).waitFor();
    await a.page.goBack();
    await a.get('dead-letter-status').getByText('open', { exact: true }).waitFor();
  });
  await step('a discard needs a reason', async () => {
    await a.get('discard-dead-letter').click();
    await a.get('confirmation-submit').click();
    assert(await a.get('confirmation').isVisible(), 'the dialog is gone');
    await a.get('confirmation-text').fill('   ');
    await a.get('confirmation-submit').click();
    await a.get('confirmation-error').getByText('empty').waitFor();
    await a.get('confirmation-text').fill('written by a test');
    await a.get('confirmation-submit').click();
    await a.get('dead-letter-status').getByText('discarded').waitFor();
    await a.get('dead-letter-note').getByText('written by a test').waitFor();
    assert(!await a.get('discard-dead-letter').isVisible(), 'it can be discarded again');
  });
  await step('the open ones lack it, and all have it', async () => {
    await a.get('back-to-dead-letters').click();
    await a.get('dead-letters-empty').waitFor();
    await a.get('dead-letters-all').check();
    await a.get('dead-letters').getByText('written by a test').waitFor();
    await a.get('open-dead-letters').waitFor({ state: 'hidden' });
  });
  await step('the audit says who discarded it, why, and that it was done', async () => {
    await a.get('nav-audit').click();
    const row = auditRow(a, 'discard-dead-letter').filter({ hasText: 'written by a test' });
    await row.waitFor();
    for (const text of ['root', 'done']) assert((await row.textContent()).includes(text), await row.textContent());
  });
}

/** The lag as the server says it now. */
async function lagOfServer() {
  const answer = await fetch(`${base}/admin/api/status`, { headers: { Authorization: `Bearer ${adminToken}` } });
  return (await answer.json()).data.partitions.reduce((sum, { lag }) => sum + lag, 0);
}

async function liveLag(a) {
  const shown = async () => Number.parseInt(await a.get('lag').textContent(), 10);
  const follows = async (what, isReached) => {
    await until(`the server has ${what}`, async () => isReached(await lagOfServer()));
    const startedAt = performance.now();
    await until(`the page shows ${what}`, async () => isReached(await shown()));
    const ageMs = performance.now() - startedAt;
    assert(ageMs <= MAX_AGE_MS, `the page was ${Math.round(ageMs)} ms behind`);
  };
  await a.get('nav-overview').click();
  await step('the page shows a lag within two seconds', async () => {
    await please('hold');
    await follows('a lag', (lag) => lag > 0);
  });
  await step('the page shows that it is gone within two seconds', async () => {
    await please('release');
    await follows('no lag', (lag) => lag === 0);
  });
}

async function story(browser) {
  await getIn(browser);
  const a = await step('an admin follows a link with a token', () => Person.enter(browser, address, 'A', adminToken));
  assert(!a.page.url().includes('token'), 'the address still contains the token');
  await deadLetter(a);
  await liveLag(a);
  // The statuses of the refused tokens, and of routes that this server doesn't have.
  await step('the consoles have no other errors', () => assertUndisturbed([/status of 40[134]/, /status of 422/]));
}

await run(story, [adminToken, userToken]);
