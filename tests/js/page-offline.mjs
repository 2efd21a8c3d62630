// Two users, of whom one loses the network; then the server stops for a while. Messages sent meanwhile are pending, then
// confirmed, and both users have every message once.
//
// node page-offline.mjs BASE_URL TOKEN_A TOKEN_B USER_A USER_B
// Prints {"please":"stop"} and {"please":"start"}, and continues after each when it reads a line. page.mjs describes the
// other output.

import { createInterface } from 'node:readline';
import { live } from './browser.mjs';
import { Person, arguments_, assert, assertUndisturbed, run, step, until } from './page.mjs';

const [base, tokenA, tokenB, , nameB] = arguments_('page-offline.mjs BASE_URL TOKEN_A TOKEN_B USER_A USER_B', 5);
const replies = createInterface({ input: process.stdin })[Symbol.asyncIterator]();
/** The console errors that the outages and the intercepted requests cause. */
const EXPECTED_ERRORS = [/net::ERR_/, /WebSocket connection to .* failed/, /status of 50[234]/, /status of 429/, /status of 422/, /status of 403/];

const PROBLEM = { type: 'urn:messages:problem:forbidden', title: 'Forbidden', status: 403, code: 'forbidden', detail: 'not this one', errors: [], requestId: 'x' };
/** A response that the real server never sends to the page. */
const REFUSAL = { status: 403, contentType: 'application/problem+json', body: JSON.stringify(PROBLEM) };

/** Asks the caller to stop or start the server, and waits until it has. */
async function please(what) {
  console.log(JSON.stringify({ please: what }));
  await replies.next();
}

/** Waits until both have each text once, confirmed, and in the same order. */
async function assertSameMessages(a, b, texts) {
  for (const person of [a, b]) {
    await until(`${person.name} has every message`, async () => {
      const seen = await person.texts();
      const unconfirmed = await person.page.locator('[data-pending="sending"], [data-pending="failed"]').count();
      return (unconfirmed === 0 && texts.every((text) => seen.filter((one) => one === text).length === 1)) || { unconfirmed, seen };
    });
  }
  const [atA, atB] = [await a.texts(), await b.texts()];
  assert(JSON.stringify(atA) === JSON.stringify(atB), `${JSON.stringify(atA)} at A, ${JSON.stringify(atB)} at B`);
}

async function withoutNetwork(a, b) {
  await step('A loses the network, and the page says so', async () => {
    await a.page.context().setOffline(true);
    await a.page.locator('[data-testid="connection"][data-state="offline"]').waitFor();
    await a.get('offline-banner').waitFor();
  });
  await step('messages that A sends now are pending', async () => {
    for (const text of ['A offline 1', 'A offline 2']) {
      await a.send(text);
      const id = await a.sees(text);
      assert(await a.message(id).getAttribute('data-pending') === 'sending', `${text} isn’t pending`);
      await a.message(id).getByTestId('receipt').getByText('Sending…').waitFor();
    }
  });
  await step('an edit is shown as being saved', async () => {
    const id = await a.sees('edit me');
    await a.clickAction(id, 'edit');
    await a.send('edited');
    await a.message(id).getByTestId('receipt').getByText('Saving…').waitFor();
    assert(await a.message(id).getAttribute('data-pending') === 'sending', 'the edit looks saved');
    await a.message(id).getByText('edited', { exact: true }).first().waitFor();
  });
  await step('A doesn’t see who is online', async () => {
    await a.get('participants').getByText('online status unknown').waitFor();
    assert(await a.page.locator('[data-testid="presence"][data-state="online"]').count() === 0, 'somebody is shown as online');
  });
  await step('A has to confirm before unsent text is lost', async () => {
    const isPrevented = () => a.page.evaluate(() => !window.dispatchEvent(new Event('beforeunload', { cancelable: true })));
    assert(await isPrevented(), 'the tab would close');
    await a.get('sign-out').click();
    await a.get('sign-out-dialog').getByRole('button', { name: 'Stay' }).click();
    await a.composer.waitFor();
  });
  await step('A closes the dialog while the conversation is being started', async () => {
    const url = a.page.url();
    await a.get('new-conversation').click();
    await a.get('new-conversation-participants').fill('zoe');
    await a.get('new-conversation-submit').click();
    await a.page.locator('[data-testid="new-conversation-submit"][aria-disabled="true"]').getByText('Starting…').waitFor();
    await a.page.keyboard.press('Escape');
    await a.page.locator('#new-conversation-dialog').waitFor({ state: 'hidden' });
    a.urlBefore = url;
  });
  await step('B sends messages meanwhile, and receives none of A’s', async () => {
    for (const text of ['B online 1', 'B online 2']) {
      await b.send(text);
      await b.sees(text);
    }
    assert(await b.withText('A offline 1').count() === 0, 'B received a message without the network');
    assert(await a.withText('B online 1').count() === 0, 'A received a message without the network');
  });
  await step('when the network is back, both have every message once', async () => {
    await a.page.context().setOffline(false);
    await live(a.page);
    await assertSameMessages(a, b, ['before', 'edited', 'A offline 1', 'A offline 2', 'B online 1', 'B online 2']);
    await a.get('offline-banner').waitFor({ state: 'hidden' });
    await a.get('conversation').filter({ hasText: 'zoe' }).waitFor();
    assert(a.page.url() === a.urlBefore, 'the page opened the conversation although A closed the dialog');
  });
}

async function withoutServer(a, b) {
  await step('the server stops, and both pages say so', async () => {
    await please('stop');
    for (const person of [a, b]) await person.page.locator('[data-testid="connection"][data-state="offline"]').waitFor();
  });
  await step('both send messages', async () => {
    for (const person of [a, b]) {
      await person.send(`${person.name} in between`);
      const id = await person.sees(`${person.name} in between`);
      assert(await person.message(id).getAttribute('data-pending') === 'sending', 'the message isn’t pending');
    }
  });
  await step('the server starts again, and both have every message once, without a reload', async () => {
    await please('start');
    for (const person of [a, b]) await live(person.page);
    await assertSameMessages(a, b, ['before', 'B online 2', 'A in between', 'B in between']);
    await a.send('A after');
    await b.sees('A after');
  });
}

async function refusedMessages(a) {
  await step('a refused message says why, and can be retried or discarded', async () => {
    // The server accepts every text that the composer sends, so the test responds in its place.
    let refusing = true;
    await a.page.route('**/api/messages', async (route) => {
      if (!refusing || route.request().method() !== 'POST' || !route.request().postData()?.includes('refuse me')) {
        await route.fallback();
        return;
      }
      await route.fulfill(REFUSAL);
    });
    for (const [text, action] of [['refuse me 1', 'retry'], ['refuse me 2', 'discard']]) {
      refusing = true;
      await a.send(text);
      const failed = a.withText(text).and(a.page.locator('[data-pending="failed"]'));
      await failed.getByTestId('receipt').getByText('Not this one.').waitFor();
      refusing = false;
      await failed.getByTestId(action).click();
      if (action === 'retry') await a.withText(text).and(a.page.locator('[data-pending=""]')).waitFor();
      else await a.withText(text).waitFor({ state: 'detached' });
    }
  });
}

async function rateLimited(a) {
  await step('a rate-limited message says that it is retried', async () => {
    let limited = true;
    await a.page.route('**/api/messages', async (route) => {
      if (!limited || !route.request().postData()?.includes('too much')) await route.fallback();
      else await route.fulfill({ ...REFUSAL, status: 429, headers: { 'Retry-After': '1' } });
    });
    await a.send('too much');
    await a.withText('too much').getByTestId('receipt').getByText('You’re sending too fast.').waitFor();
    limited = false;
    await a.withText('too much').and(a.page.locator('[data-pending=""]')).waitFor();
  });
}

async function refusedEdits(a) {
  let refusing = true;
  await a.page.route('**/api/messages/*', async (route) => {
    if (!refusing || route.request().method() !== 'PATCH') {
      await route.fallback();
      return;
    }
    await route.fulfill(REFUSAL);
  });
  const id = await a.sees('edited');
  await step('the text of a refused edit returns to the composer', async () => {
    await a.clickAction(id, 'edit');
    await a.send('edited twice');
    await a.get('toast').getByText('Your edit wasn’t saved: not this one.').waitFor();
    await a.get('composer-context').getByText('Editing').waitFor();
    assert(await a.composer.inputValue() === 'edited twice', await a.composer.inputValue());
    await a.composer.press('Escape');
  });
  await step('it stays with its message if the composer has a draft', async () => {
    await a.composer.fill('a draft');
    await a.clickAction(id, 'edit');
    await a.send('edited twice');
    await a.message(id).getByTestId('receipt').getByText('Not saved. Not this one.').waitFor();
    assert(await a.composer.inputValue() === 'a draft', await a.composer.inputValue());
    refusing = false;
    await a.message(id).getByTestId('retry').click();
    await a.message(id).and(a.page.locator('[data-pending=""]')).getByText('edited twice').waitFor();
    await a.composer.fill('');
  });
}

async function story(browser) {
  const a = await step('A opens the page', () => Person.enter(browser, base, 'A', tokenA));
  const b = await step('B opens the page', () => Person.enter(browser, base, 'B', tokenB));
  await step('they exchange messages', async () => {
    const id = await a.startConversation(nameB);
    await b.open(id);
    await a.send('before');
    await b.sees('before');
    await a.send('edit me');
    await b.sees('edit me');
  });
  await withoutNetwork(a, b);
  await withoutServer(a, b);
  await rateLimited(a);
  await refusedMessages(a);
  await refusedEdits(a);
  await step('nobody had to reload, and the consoles have no other errors', () => assertUndisturbed(EXPECTED_ERRORS));
}

await run(story, [tokenA, tokenB]);
replies.return?.();
process.stdin.destroy();
