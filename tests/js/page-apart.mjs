// Two people of whom one loses the network, and then the server is gone for a while: what was written meanwhile is
// pending, then confirmed, and everybody has every message once.
//
// node page-apart.mjs BASE_URL TOKEN_A TOKEN_B USER_A USER_B
// Prints {"please":"stop"} and {"please":"start"}, and goes on once a line came in answer. See page.mjs for the rest.

import { createInterface } from 'node:readline';
import { live } from './browser.mjs';
import { Person, arguments_, assert, step, tell, undisturbed, until } from './page.mjs';

const [base, tokenA, tokenB, , nameB] = arguments_('page-apart.mjs BASE_URL TOKEN_A TOKEN_B USER_A USER_B', 5);
const answers = createInterface({ input: process.stdin })[Symbol.asyncIterator]();
/** What a network that is gone leaves in a console. */
const LOST = [/net::ERR_/, /WebSocket connection to .* failed/, /status of 50[234]/, /status of 429/, /status of 422/, /status of 403/];

const PROBLEM = { type: 'urn:messages:problem:forbidden', title: 'Forbidden', status: 403, code: 'forbidden', detail: 'not this one', errors: [], requestId: 'x' };
/** A server's answer that the real one doesn't give to what the page sends. */
const REFUSAL = { status: 403, contentType: 'application/problem+json', body: JSON.stringify(PROBLEM) };

/** Asks whoever runs this to do something with the server, and waits until it is done. */
async function please(what) {
  console.log(JSON.stringify({ please: what }));
  await answers.next();
}

/** Everything written is there once, confirmed, and in the same order at both. */
async function agree(a, b, texts) {
  for (const person of [a, b]) {
    await until(`${person.name} has everything`, async () => {
      const seen = await person.texts();
      const open = await person.page.locator('[data-pending="sending"], [data-pending="failed"]').count();
      return (open === 0 && texts.every((text) => seen.filter((one) => one === text).length === 1)) || { open, seen };
    });
  }
  const [atA, atB] = [await a.texts(), await b.texts()];
  assert(JSON.stringify(atA) === JSON.stringify(atB), `${JSON.stringify(atA)} at A, ${JSON.stringify(atB)} at B`);
}

async function withoutNetwork(a, b) {
  await step('A loses the network, and is told', async () => {
    await a.page.context().setOffline(true);
    await a.page.locator('[data-testid="connection"][data-state="offline"]').waitFor();
    await a.get('away').waitFor();
  });
  await step('what A writes now is shown as pending', async () => {
    for (const text of ['A offline 1', 'A offline 2']) {
      await a.send(text);
      const id = await a.sees(text);
      assert(await a.message(id).getAttribute('data-pending') === 'sending', `${text} isn’t pending`);
      await a.message(id).getByTestId('receipt').getByText('Sending…').waitFor();
    }
  });
  await step('an edit is shown as being saved', async () => {
    const id = await a.sees('edit me');
    await a.tool(id, 'edit');
    await a.send('edited');
    await a.message(id).getByTestId('receipt').getByText('Saving…').waitFor();
    assert(await a.message(id).getAttribute('data-pending') === 'sending', 'it looks as if it were saved');
    await a.message(id).getByText('edited', { exact: true }).first().waitFor();
  });
  await step('A can’t know who is there', async () => {
    await a.get('members').getByText('online status unknown').waitFor();
    assert(await a.page.locator('[data-testid="presence"][data-state="online"]').count() === 0, 'somebody is');
  });
  await step('A is asked before anything is lost', async () => {
    const kept = () => a.page.evaluate(() => !window.dispatchEvent(new Event('beforeunload', { cancelable: true })));
    assert(await kept(), 'the tab would close');
    await a.get('sign-out').click();
    await a.get('unsent').getByRole('button', { name: 'Stay' }).click();
    await a.composer.waitFor();
  });
  await step('a conversation that was called off isn’t gone to', async () => {
    const at = a.page.url();
    await a.get('new-conversation').click();
    await a.get('begin-people').fill('zoe');
    await a.get('begin-submit').click();
    await a.page.locator('[data-testid="begin-submit"][aria-disabled="true"]').getByText('Starting…').waitFor();
    await a.page.keyboard.press('Escape');
    await a.page.locator('#begin').waitFor({ state: 'hidden' });
    a.stays = at;
  });
  await step('B writes meanwhile, and has nothing of A', async () => {
    for (const text of ['B online 1', 'B online 2']) {
      await b.send(text);
      await b.sees(text);
    }
    assert(await b.withText('A offline 1').count() === 0, 'it went through without a network');
    assert(await a.withText('B online 1').count() === 0, 'it came through without a network');
  });
  await step('back again, both have everything once', async () => {
    await a.page.context().setOffline(false);
    await live(a.page);
    await agree(a, b, ['before', 'edited', 'A offline 1', 'A offline 2', 'B online 1', 'B online 2']);
    await a.get('away').waitFor({ state: 'hidden' });
    await a.get('conversation').filter({ hasText: 'zoe' }).waitFor();
    assert(a.page.url() === a.stays, 'A is where the conversation is that was called off');
  });
}

async function withoutServer(a, b) {
  await step('the server goes; both notice', async () => {
    await please('stop');
    for (const person of [a, b]) await person.page.locator('[data-testid="connection"][data-state="offline"]').waitFor();
  });
  await step('both write', async () => {
    for (const person of [a, b]) {
      await person.send(`${person.name} in between`);
      const id = await person.sees(`${person.name} in between`);
      assert(await person.message(id).getAttribute('data-pending') === 'sending', 'it isn’t pending');
    }
  });
  await step('it comes again; everybody has everything once, without a reload', async () => {
    await please('start');
    for (const person of [a, b]) await live(person.page);
    await agree(a, b, ['before', 'B online 2', 'A in between', 'B in between']);
    await a.send('A after');
    await b.sees('A after');
  });
}

async function refused(a) {
  await step('what is refused says why, and is retried or discarded', async () => {
    // Nobody refuses a text that the field lets through: the server's answer is made here.
    let refusing = true;
    await a.page.route('**/api/messages', async (route) => {
      if (!refusing || route.request().method() !== 'POST' || !route.request().postData()?.includes('refuse me')) {
        await route.fallback();
        return;
      }
      await route.fulfill(REFUSAL);
    });
    for (const [text, what] of [['refuse me 1', 'retry'], ['refuse me 2', 'discard']]) {
      refusing = true;
      await a.send(text);
      const failed = a.withText(text).and(a.page.locator('[data-pending="failed"]'));
      await failed.getByTestId('receipt').getByText('Not this one.').waitFor();
      refusing = false;
      await failed.getByTestId(what).click();
      if (what === 'retry') await a.withText(text).and(a.page.locator('[data-pending=""]')).waitFor();
      else await a.withText(text).waitFor({ state: 'detached' });
    }
  });
}

async function slowedDown(a) {
  await step('who sends too much is told that it waits', async () => {
    let limited = true;
    await a.page.route('**/api/messages', async (route) => {
      if (!limited || !route.request().postData()?.includes('too much')) await route.fallback();
      else await route.fulfill({ ...REFUSAL, status: 429, headers: { 'Retry-After': '1' } });
    });
    await a.send('too much');
    await a.withText('too much').getByTestId('receipt').getByText('Waiting: that was a lot at once.').waitFor();
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
  await step('an edit that is refused is given back', async () => {
    await a.tool(id, 'edit');
    await a.send('edited twice');
    await a.get('status').getByText('Your edit wasn’t saved: not this one.').waitFor();
    await a.get('context').getByText('Editing').waitFor();
    assert(await a.composer.inputValue() === 'edited twice', await a.composer.inputValue());
    await a.composer.press('Escape');
  });
  await step('or stays with its message, where something else is being written', async () => {
    await a.composer.fill('a draft');
    await a.tool(id, 'edit');
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
  await step('they talk', async () => {
    const id = await a.begin(nameB);
    await b.open(id);
    await a.send('before');
    await b.sees('before');
    await a.send('edit me');
    await b.sees('edit me');
  });
  await withoutNetwork(a, b);
  await withoutServer(a, b);
  await slowedDown(a);
  await refused(a);
  await refusedEdits(a);
  await step('nobody had to reload, and the consoles are clean', () => undisturbed(LOST));
}

await tell(story, [tokenA, tokenB]);
answers.return?.();
process.stdin.destroy();
