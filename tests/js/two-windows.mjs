// Two users in two browser windows: each sees what the other does, without a reload.
//
// node two-windows.mjs BASE_URL TOKEN_A TOKEN_B USER_A USER_B
// page.mjs describes the output.

import { randomBytes } from 'node:crypto';
import { Person, arguments_, assert, assertUndisturbed, run, step, until } from './page.mjs';

const [base, tokenA, tokenB, nameA, nameB] = arguments_('two-windows.mjs BASE_URL TOKEN_A TOKEN_B USER_A USER_B', 5);
const runId = randomBytes(3).toString('hex'); // two users have one conversation: earlier runs may have left messages
const unique = (text) => `${text} (${runId})`;

async function firstMessages(a, b) {
  const id = await step('A starts a conversation with B', () => a.startConversation(nameB));
  await step('both see that the other is online', async () => {
    for (const person of [a, b]) await person.inList(id).locator('[data-testid="presence"][data-state="online"]').waitFor();
    await a.get('participants').getByText('online', { exact: true }).waitFor();
  });
  await step('A sends a message, and B, who has another view open, sees it as unread', async () => {
    await a.send(unique('hello'));
    await b.inList(id).getByTestId('unread').filter({ hasText: '1' }).waitFor();
    await b.inList(id).getByTestId('preview').getByText(unique('hello')).waitFor();
    await until('the title contains the count', async () => (await b.page.title()).startsWith('(1)'));
    await a.get('receipt').getByText('Sent').waitFor();
  });
  await step('B opens the conversation, and A sees that B has read it', async () => {
    await b.open(id);
    await b.page.locator('li.unread-divider').getByText('New').waitFor();
    await b.inList(id).getByTestId('unread').waitFor({ state: 'hidden' });
    await a.get('receipt').getByText('Read').waitFor();
    const [text, row] = [await b.inList(id).getByTestId('preview').boundingBox(), await b.inList(id).boundingBox()];
    assert(row.x + row.width - text.x - text.width < 20, 'the preview leaves room for a hidden count');
  });
  await step('both have the same message id', async () => {
    assert(await a.sees(unique('hello')) === await b.sees(unique('hello')), 'the ids differ');
  });
  return id;
}

async function receiving(a, b) {
  await step('A sees that B types, until the message is sent', async () => {
    await b.composer.pressSequentially(unique('hi there'));
    await a.get('typing').getByText(`${nameB} is typing…`).waitFor();
    await b.composer.press('Enter');
    await a.sees(unique('hi there'));
    await a.get('typing').getByText('typing').waitFor({ state: 'detached' });
  });
  const id = await step('a message has its day, its time and its author', async () => {
    const id = await a.sees(unique('hi there'));
    await a.page.locator('[data-testid="day-divider"]').getByText('Today').waitFor();
    await a.message(id).locator('.author').getByText(nameB, { exact: true }).waitFor();
    await a.message(id).locator('time[datetime]').waitFor();
    return id;
  });
  await step('screen readers announce a new message once', async () => {
    await a.get('announcer').getByText(`${nameB}: ${unique('hi there')}`).waitFor();
  });
  await step('markup is shown as text', async () => {
    const text = unique('<img src=x onerror="window.broken=1"><b>not bold</b>');
    await b.send(text);
    const seen = await a.sees(text);
    assert(await a.message(seen).locator('img, b').count() === 0, 'the page created elements');
    assert(await a.page.evaluate(() => window.broken) === undefined, 'the page ran the markup');
  });
  await step('URLs are links, without the punctuation that ends the sentence', async () => {
    await b.send(unique(`see https://example.org/a?b=1&c=<b>, (http://example.org) or javascript:alert(1) and @${nameA}`));
    const links = a.page.locator('.content a');
    await links.nth(1).waitFor();
    const seen = await links.evaluateAll((all) => all.map((one) => [one.getAttribute('href'), one.textContent, one.rel]));
    const rel = 'noopener noreferrer';
    const wanted = ['https://example.org/a?b=1&c=', 'http://example.org'].map((url) => [url, url, rel]);
    assert(JSON.stringify(seen) === JSON.stringify(wanted), `unexpected links: ${JSON.stringify(seen)}`);
    await a.get('mention').getByText(`@${nameA}`).waitFor();
  });
  return id;
}

async function editingAndReacting(a, b) {
  const id = await step('A sends a message to edit', async () => {
    await a.send(unique('I meen it'));
    return a.sees(unique('I meen it'));
  });
  await step('A edits the message; B sees the edit on the same message', async () => {
    await b.sees(unique('I meen it'));
    await a.clickAction(id, 'edit');
    await a.send(unique('I mean it'));
    assert(await b.sees(unique('I mean it')) === id, 'the edit created another message');
    await b.message(id).getByTestId('edited').getByText('edited').waitFor();
  });
  await step('cancelling an edit restores the draft', async () => {
    await a.composer.fill('a draft');
    await a.clickAction(id, 'edit');
    await a.get('composer-context').getByText('Editing').waitFor();
    await a.composer.press('Escape');
    await a.get('composer-context').waitFor({ state: 'hidden' });
    assert(await a.composer.inputValue() === 'a draft', await a.composer.inputValue());
  });
  await step('an edit keeps the draft, and an empty edit isn’t saved', async () => {
    await a.clickAction(id, 'edit');
    await a.send('  ');
    await a.get('composer-hint').getByText('delete the message').waitFor();
    await a.send(unique('I mean it, really'));
    await b.sees(unique('I mean it, really'));
    assert(await a.composer.inputValue() === 'a draft', await a.composer.inputValue());
    await a.clickAction(id, 'edit');
    await a.send(unique('I mean it'));
    await b.sees(unique('I mean it'));
    await a.composer.fill('');
  });
  await step('the toolbar doesn’t cover the text', async () => {
    await a.message(id).locator('.bubble').hover();
    const [bar, text] = [await a.get('message-actions').boundingBox(), await a.message(id).locator('.content').boundingBox()];
    const apart = bar.x >= text.x + text.width || bar.x + bar.width <= text.x || bar.y >= text.y + text.height || bar.y + bar.height <= text.y;
    assert(apart, JSON.stringify({ bar, text }));
  });
  await step('a text that is too long is neither cut nor sent', async () => {
    await a.composer.fill('x'.repeat(3_990));
    await a.get('composer-hint').getByText('10 left', { exact: true }).waitFor();
    await a.send('x'.repeat(4_001));
    await a.get('composer-hint').getByText('1 character too long').waitFor();
    assert((await a.composer.inputValue()).length === 4_001, 'the text was cut or sent');
    await a.composer.fill('');
    await a.get('composer-hint').waitFor({ state: 'hidden' });
  });
  await step('B can’t edit or delete A’s message', async () => {
    await b.message(id).locator('.bubble').hover();
    await b.message(id).getByTestId('reply').waitFor();
    assert(!await b.message(id).getByTestId('edit').isVisible(), 'B can edit it');
    assert(!await b.message(id).getByTestId('delete').isVisible(), 'B can delete it');
  });
  await step('B reacts, A joins, and both count two', async () => {
    await b.clickAction(id, 'react', '[data-emoji="👍"]');
    await a.reaction(id, '👍').filter({ hasText: '1' }).click();
    for (const person of [a, b]) await person.reaction(id, '👍').filter({ hasText: '2' }).waitFor();
    assert(await a.reaction(id, '👍').getAttribute('aria-pressed') === 'true', 'A’s reaction isn’t marked as A’s own');
  });
  await step('both remove their reactions', async () => {
    await a.reaction(id, '👍').click();
    await b.reaction(id, '👍').filter({ hasText: '1' }).click();
    for (const person of [a, b]) await person.reaction(id, '👍').waitFor({ state: 'detached' });
  });
  await step('A confirms the deletion of the message; both see that it is deleted', async () => {
    await a.clickAction(id, 'delete');
    await a.page.getByRole('button', { name: 'Cancel' }).locator('visible=true').click();
    assert(await b.withText(unique('I mean it')).count() === 1, 'the message was deleted without confirmation');
    await a.clickAction(id, 'delete');
    await a.get('delete-confirm').click();
    for (const person of [a, b]) await person.message(id).getByText('This message was deleted.').waitFor();
    assert(await b.withText(unique('I mean it')).count() === 0, 'B still sees its text');
  });
}

async function replying(a, b, id) {
  await step('A replies to a message; B jumps from the reply to it', async () => {
    await a.clickAction(id, 'reply');
    await a.get('composer-context').getByText(`Replying to ${nameB}`).waitFor();
    await a.send(unique('that is nice'));
    const reply = await b.sees(unique('that is nice'));
    const quote = b.message(reply).getByTestId('quote');
    await quote.getByText(unique('hi there')).waitFor();
    await quote.click();
    await until('the message has the focus', () => b.page.evaluate(() => document.activeElement?.dataset.id ?? '').then((it) => it === id || it));
    await b.message(id).locator('visible=true').waitFor();
  });
}

async function groups(a, b) {
  const title = unique('Group');
  const id = await step('A starts a group with a title; B sees it without a reload', async () => {
    const id = await a.startConversation(`${nameB}, carol`, title);
    await a.get('title').getByText(title).waitFor();
    await b.inList(id).getByText(title).waitFor();
    return id;
  });
  await step('a click shows the participants', async () => {
    await a.get('participants').click();
    const member = (name) => a.get('participant').filter({ hasText: name });
    await member(`${nameA} (you)`).waitFor();
    await member('carol').getByText('offline').waitFor();
    await member(nameB).getByText('online', { exact: true }).waitFor();
    await a.get('participants-close').click();
    await a.get('participants-dialog').waitFor({ state: 'hidden' });
  });
  await step('A mentions B with the completion', async () => {
    await a.composer.pressSequentially(`${runId} ask @`);
    await a.get('mention-option').nth(1).waitFor();
    assert(await a.get('mention-option').count() === 2, 'the list contains others than B and carol');
    await a.composer.pressSequentially(nameB.slice(0, 2));
    await until('only B matches', async () => await a.get('mention-option').count() === 1 || await a.get('mention-option').count());
    await a.get('mention-option').click();
    assert(await a.composer.inputValue() === `${runId} ask @${nameB} `, await a.composer.inputValue());
    await a.composer.press('Enter');
  });
  await step('B sees the mention highlighted', async () => {
    await b.open(id);
    const message = await b.sees(`${runId} ask @${nameB}`);
    await b.message(message).locator('[data-testid="mention"].me').getByText(`@${nameB}`, { exact: true }).waitFor();
  });
  await step('A sees who in the group has read the message', () => a.get('receipt').getByText(`Read by ${nameB}`).waitFor());
  await step('a reload opens the same conversation, with a divider before the unread messages', async () => {
    await a.startConversation(nameB);
    await b.page.goto('about:blank');
    await a.inList(id).click();
    await a.send(unique('while B was away'));
    await a.page.locator('[data-testid="message"][data-pending=""]').filter({ hasText: unique('while B was away') }).waitFor();
    await b.page.goto(`${base}/#/${id}`);
    await b.page.evaluate(() => { window.neverReloaded = true; });
    await b.sees(unique('while B was away'));
    await b.page.locator('li.unread-divider + .message').getByText(unique('while B was away')).waitFor();
    await until('the composer has the focus', async () => b.composer.evaluate((field) => field === document.activeElement));
  });
  await step('the dialog shows why a conversation can’t be started', async () => {
    await b.get('new-conversation').click();
    await b.get('new-conversation-participants').fill(nameB);
    await b.get('new-conversation-submit').click();
    await b.get('new-conversation-participants-error').getByText('at least one person').waitFor();
    await b.page.keyboard.press('Escape');
  });
}

async function longHistory(a, b) {
  const id = await step('A sends 90 messages to a group', async () => {
    const id = await a.startConversation(nameB, unique('Long'));
    for (let i = 1; i <= 90; i += 1) {
      await a.composer.fill(`line ${i}`);
      await a.composer.press('Enter');
    }
    await until('all messages are sent', async () => (await a.get('message').count() === 90
      && await a.page.locator('[data-pending="sending"]').count() === 0) || a.get('message').count());
    return id;
  });
  const reload = async () => {
    await b.page.reload();
    await b.page.locator('[data-testid="connection"][data-state="live"]').waitFor();
    await b.page.evaluate(() => { window.neverReloaded = true; });
  };
  await step('B opens it at the first unread message, although it is far up', async () => {
    await reload();
    await b.open(id);
    await b.page.locator('li.unread-divider + .message').getByText('line 1', { exact: true }).waitFor();
    await until('the divider is visible', () => b.page.locator('li.unread-divider').evaluate((line) => {
      const [at, { top, bottom }] = [line.getBoundingClientRect(), document.querySelector('#timeline-scroll').getBoundingClientRect()];
      return at.top >= top && at.bottom <= bottom;
    }));
    await b.get('jump-to-newest').getByText('90 new').waitFor();
    assert(await a.get('receipt').getByText('Read').count() === 0, 'B has read messages that B hasn’t seen');
    await b.get('jump-to-newest').click();
    await a.get('receipt').getByText('Read').waitFor();
  });
  await step('after a reload, B loads the newest messages first, and older ones while scrolling up', async () => {
    await b.page.evaluate(() => history.replaceState(null, '', '/'));
    await reload();
    await b.open(id);
    await b.sees('line 90');
    assert(await b.get('message').count() < 90, 'all messages were loaded at once');
  });
  await step('the visible message stays in place while older ones are loaded', async () => {
    const [before, after] = await b.page.locator('#timeline-scroll').evaluate(async (scroll) => {
      const count = () => scroll.querySelectorAll('.message').length;
      scroll.scrollTop = 0;
      const first = scroll.querySelector('.message');
      const measure = () => ({ y: Math.round(first.getBoundingClientRect().top), count: count() });
      const before = measure();
      for (let i = 0; i < 200 && count() === before.count; i += 1) await new Promise((done) => { setTimeout(done, 25); });
      return [before, measure()];
    });
    assert(after.count > before.count, 'no older messages were loaded');
    assert(Math.abs(after.y - before.y) <= 2, `${JSON.stringify(before)} became ${JSON.stringify(after)}`);
  });
  await step('B ends with all messages, each once and in order', async () => {
    await until('all messages are loaded', async () => {
      await b.page.locator('#timeline-scroll').evaluate((scroll) => { scroll.scrollTop = 0; });
      const texts = await b.texts();
      return texts.length === 90 || texts.length;
    });
    const texts = await b.texts();
    texts.forEach((text, i) => assert(text === `line ${i + 1}`, `${text} at ${i + 1}`));
    await b.get('history-status').getByText('This is the beginning').waitFor();
  });
  await step('B, who is far up, sees how many messages are new, and jumps to them', async () => {
    await b.page.locator('#timeline-scroll').evaluate((scroll) => { scroll.scrollTop = 0; });
    await b.get('jump-to-newest').waitFor();
    await a.send('line 91');
    await b.get('jump-to-newest').getByText('1 new').waitFor();
    assert(await b.page.locator('#timeline-scroll').evaluate((scroll) => scroll.scrollTop) < 50, 'the scroll position changed');
    await b.get('jump-to-newest').click();
    await b.get('jump-to-newest').waitFor({ state: 'hidden' });
    await b.withText('line 91').locator('visible=true').waitFor();
    await a.get('receipt').getByText('Read').waitFor();
  });
}

async function story(browser) {
  const a = await step('A opens the page', () => Person.enter(browser, base, 'A', tokenA));
  const b = await step('B opens the page', () => Person.enter(browser, base, 'B', tokenB));
  await step('each is signed in as the token’s user', async () => {
    await a.get('me').getByText(nameA, { exact: true }).waitFor();
    await b.get('me').getByText(nameB, { exact: true }).waitFor();
    assert(!a.page.url().includes('token'), 'the address still contains the token');
    const kept = await a.page.evaluate(() => Object.keys(localStorage).length);
    assert(kept === 0, 'the page stored something outside the tab');
  });
  await firstMessages(a, b);
  const id = await receiving(a, b);
  await editingAndReacting(a, b);
  await replying(a, b, id);
  await groups(a, b);
  await longHistory(a, b);
  await step('nobody had to reload, and the consoles have no errors', () => assertUndisturbed());
  await step('signing out removes the token', async () => {
    await a.get('sign-out').click();
    await a.page.locator('#sign-in').waitFor();
    await a.page.reload();
    await a.page.locator('#sign-in').waitFor();
    assert(await a.page.evaluate(() => sessionStorage.length) === 0, 'the tab still stores something');
  });
}

await run(story, [tokenA, tokenB]);
