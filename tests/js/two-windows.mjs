// Two people in two real browser windows: what one does, the other sees, without a reload.
//
// node two-windows.mjs BASE_URL TOKEN_A TOKEN_B USER_A USER_B
// See page.mjs for what it prints.

import { randomBytes } from 'node:crypto';
import { Person, arguments_, assert, step, tell, undisturbed, until } from './page.mjs';

const [base, tokenA, tokenB, nameA, nameB] = arguments_('two-windows.mjs BASE_URL TOKEN_A TOKEN_B USER_A USER_B', 5);
const run = randomBytes(3).toString('hex'); // a pair has one conversation, ever: earlier runs may have left messages
const say = (text) => `${text} (${run})`;

async function meeting(a, b) {
  const id = await step('A starts a conversation with B', () => a.begin(nameB));
  await step('both see that the other is there', async () => {
    for (const person of [a, b]) await person.inList(id).locator('[data-testid="presence"][data-state="online"]').waitFor();
    await a.get('members').getByText('online', { exact: true }).waitFor();
  });
  await step('A sends while B looks elsewhere, and B sees that something is unread', async () => {
    await a.send(say('hello'));
    await b.inList(id).getByTestId('unread').filter({ hasText: '1' }).waitFor();
    await b.inList(id).getByTestId('preview').getByText(say('hello')).waitFor();
    await until('the title says so', async () => (await b.page.title()).startsWith('(1)'));
    await a.get('receipt').getByText('Sent').waitFor();
  });
  await step('B opens it: it is read there, and A sees that', async () => {
    await b.open(id);
    await b.page.locator('li.unread').getByText('New').waitFor();
    await b.inList(id).getByTestId('unread').waitFor({ state: 'hidden' });
    await a.get('receipt').getByText('Read').waitFor();
    const [text, row] = [await b.inList(id).getByTestId('preview').boundingBox(), await b.inList(id).boundingBox()];
    assert(row.x + row.width - text.x - text.width < 20, 'the preview leaves room for a count that isn’t there');
  });
  await step('both have the same message', async () => {
    assert(await a.sees(say('hello')) === await b.sees(say('hello')), 'two ids for one message');
  });
  return id;
}

async function writing(a, b) {
  await step('A sees that B types, and no longer once it is sent', async () => {
    await b.composer.pressSequentially(say('hi there'));
    await a.get('typing').getByText(`${nameB} is typing…`).waitFor();
    await b.composer.press('Enter');
    await a.sees(say('hi there'));
    await a.get('typing').getByText('typing').waitFor({ state: 'detached' });
  });
  const id = await step('what is sent has its day, its time and its author', async () => {
    const id = await a.sees(say('hi there'));
    await a.page.locator('[data-testid="day"]').getByText('Today').waitFor();
    await a.message(id).locator('.author').getByText(nameB, { exact: true }).waitFor();
    await a.message(id).locator('time[datetime]').waitFor();
    return id;
  });
  await step('a screen reader is told of what is new, once', async () => {
    await a.get('announcer').getByText(`${nameB}: ${say('hi there')}`).waitFor();
  });
  await step('markup is only text', async () => {
    const text = say('<img src=x onerror="window.broken=1"><b>not bold</b>');
    await b.send(text);
    const seen = await a.sees(text);
    assert(await a.message(seen).locator('img, b').count() === 0, 'markup became elements');
    assert(await a.page.evaluate(() => window.broken) === undefined, 'markup ran');
  });
  await step('addresses are links, without what ends the sentence', async () => {
    await b.send(say(`see https://example.org/a?b=1&c=<b>, (http://example.org) or javascript:alert(1) and @${nameA}`));
    const links = a.page.locator('.content a');
    await links.nth(1).waitFor();
    const seen = await links.evaluateAll((all) => all.map((one) => [one.getAttribute('href'), one.textContent, one.rel]));
    const rel = 'noopener noreferrer';
    const wanted = ['https://example.org/a?b=1&c=', 'http://example.org'].map((url) => [url, url, rel]);
    assert(JSON.stringify(seen) === JSON.stringify(wanted), `other links: ${JSON.stringify(seen)}`);
    await a.get('mention').getByText(`@${nameA}`).waitFor();
  });
  return id;
}

async function changing(a, b) {
  const id = await step('A sends something to change', async () => {
    await a.send(say('I meen it'));
    return a.sees(say('I meen it'));
  });
  await step('A edits it; B sees the edit on the same message', async () => {
    await b.sees(say('I meen it'));
    await a.tool(id, 'edit');
    await a.send(say('I mean it'));
    assert(await b.sees(say('I mean it')) === id, 'the edit is another message');
    await b.message(id).getByTestId('edited').getByText('edited').waitFor();
  });
  await step('an edit can be called off, and what was being written is there again', async () => {
    await a.composer.fill('a draft');
    await a.tool(id, 'edit');
    await a.get('context').getByText('Editing').waitFor();
    await a.composer.press('Escape');
    await a.get('context').waitFor({ state: 'hidden' });
    assert(await a.composer.inputValue() === 'a draft', await a.composer.inputValue());
  });
  await step('an edit leaves the draft alone, and doesn’t save nothing', async () => {
    await a.tool(id, 'edit');
    await a.send('  ');
    await a.get('remark').getByText('delete the message').waitFor();
    await a.send(say('I mean it, really'));
    await b.sees(say('I mean it, really'));
    assert(await a.composer.inputValue() === 'a draft', await a.composer.inputValue());
    await a.tool(id, 'edit');
    await a.send(say('I mean it'));
    await b.sees(say('I mean it'));
    await a.composer.fill('');
  });
  await step('the buttons don’t lie on the text', async () => {
    await a.message(id).locator('.bubble').hover();
    const [bar, text] = [await a.get('tools').boundingBox(), await a.message(id).locator('.content').boundingBox()];
    const apart = bar.x >= text.x + text.width || bar.x + bar.width <= text.x || bar.y >= text.y + text.height || bar.y + bar.height <= text.y;
    assert(apart, JSON.stringify({ bar, text }));
  });
  await step('what is too long isn’t cut, but not sent either', async () => {
    await a.composer.fill('x'.repeat(3_990));
    await a.get('remark').getByText('10 left', { exact: true }).waitFor();
    await a.send('x'.repeat(4_001));
    await a.get('remark').getByText('1 character too long').waitFor();
    assert((await a.composer.inputValue()).length === 4_001, 'it was cut, or sent');
    await a.composer.fill('');
    await a.get('remark').waitFor({ state: 'hidden' });
  });
  await step('B can’t change what A wrote', async () => {
    await b.message(id).locator('.bubble').hover();
    await b.message(id).getByTestId('reply').waitFor();
    assert(!await b.message(id).getByTestId('edit').isVisible(), 'B may edit');
    assert(!await b.message(id).getByTestId('delete').isVisible(), 'B may delete');
  });
  await step('B reacts, A joins, and both count two', async () => {
    await b.tool(id, 'react', '[data-emoji="👍"]');
    await a.reaction(id, '👍').filter({ hasText: '1' }).click();
    for (const person of [a, b]) await person.reaction(id, '👍').filter({ hasText: '2' }).waitFor();
    assert(await a.reaction(id, '👍').getAttribute('aria-pressed') === 'true', 'A’s own isn’t marked');
  });
  await step('both take it back', async () => {
    await a.reaction(id, '👍').click();
    await b.reaction(id, '👍').filter({ hasText: '1' }).click();
    for (const person of [a, b]) await person.reaction(id, '👍').waitFor({ state: 'detached' });
  });
  await step('A deletes it, after being asked; both see that it is gone', async () => {
    await a.tool(id, 'delete');
    await a.page.getByRole('button', { name: 'Cancel' }).locator('visible=true').click();
    assert(await b.withText(say('I mean it')).count() === 1, 'it was deleted without being asked');
    await a.tool(id, 'delete');
    await a.get('erase-confirm').click();
    for (const person of [a, b]) await person.message(id).getByText('This message was deleted.').waitFor();
    assert(await b.withText(say('I mean it')).count() === 0, 'its text is still there');
  });
}

async function answering(a, b, id) {
  await step('A answers a message; B sees which one, and goes there', async () => {
    await a.tool(id, 'reply');
    await a.get('context').getByText(`Answering ${nameB}`).waitFor();
    await a.send(say('that is nice'));
    const answer = await b.sees(say('that is nice'));
    const quote = b.message(answer).getByTestId('quote');
    await quote.getByText(say('hi there')).waitFor();
    await quote.click();
    await until('the message has the focus', () => b.page.evaluate(() => document.activeElement?.dataset.id ?? '').then((it) => it === id || it));
    await b.message(id).locator('visible=true').waitFor();
  });
}

async function inAGroup(a, b) {
  const title = say('Group');
  const id = await step('A begins a group with a title; B has it without a reload', async () => {
    const id = await a.begin(`${nameB}, carol`, title);
    await a.get('title').getByText(title).waitFor();
    await b.inList(id).getByText(title).waitFor();
    return id;
  });
  await step('who takes part is a click away', async () => {
    await a.get('members').click();
    const member = (name) => a.get('member').filter({ hasText: name });
    await member(`${nameA} (you)`).waitFor();
    await member('carol').getByText('offline').waitFor();
    await member(nameB).getByText('online', { exact: true }).waitFor();
    await a.get('who-close').click();
    await a.get('who').waitFor({ state: 'hidden' });
  });
  await step('A mentions B with the help of the list', async () => {
    await a.composer.pressSequentially(`${run} ask @`);
    await a.get('mention-option').nth(1).waitFor();
    assert(await a.get('mention-option').count() === 2, 'the list has others than B and carol');
    await a.composer.pressSequentially(nameB.slice(0, 2));
    await until('only B is left', async () => await a.get('mention-option').count() === 1 || await a.get('mention-option').count());
    await a.get('mention-option').click();
    assert(await a.composer.inputValue() === `${run} ask @${nameB} `, await a.composer.inputValue());
    await a.composer.press('Enter');
  });
  await step('B sees the mention stand out', async () => {
    await b.open(id);
    const message = await b.sees(`${run} ask @${nameB}`);
    await b.message(message).locator('[data-testid="mention"].me').getByText(`@${nameB}`, { exact: true }).waitFor();
  });
  await step('A sees by whom of the group it was read', () => a.get('receipt').getByText(`Read by ${nameB}`).waitFor());
  await step('a reload leads back to what was open, with what is unread marked', async () => {
    await a.begin(nameB);
    await b.page.goto('about:blank');
    await a.inList(id).click();
    await a.send(say('while B was away'));
    await a.page.locator('[data-testid="message"][data-pending=""]').filter({ hasText: say('while B was away') }).waitFor();
    await b.page.goto(`${base}/#/${id}`);
    await b.page.evaluate(() => { window.neverReloaded = true; });
    await b.sees(say('while B was away'));
    await b.page.locator('li.unread + .message').getByText(say('while B was away')).waitFor();
    await until('B can write at once', async () => b.composer.evaluate((field) => field === document.activeElement));
  });
  await step('what can’t be begun is said in the dialog', async () => {
    await b.get('new-conversation').click();
    await b.get('begin-people').fill(nameB);
    await b.get('begin-submit').click();
    await b.get('begin-people-problem').getByText('at least one person').waitFor();
    await b.page.keyboard.press('Escape');
  });
}

async function longAgo(a, b) {
  const id = await step('A fills a group', async () => {
    const id = await a.begin(nameB, say('Long'));
    for (let i = 1; i <= 90; i += 1) {
      await a.composer.fill(`line ${i}`);
      await a.composer.press('Enter');
    }
    await until('all is sent', async () => (await a.get('message').count() === 90
      && await a.page.locator('[data-pending="sending"]').count() === 0) || a.get('message').count());
    return id;
  });
  const anew = async () => {
    await b.page.reload();
    await b.page.locator('[data-testid="connection"][data-state="live"]').waitFor();
    await b.page.evaluate(() => { window.neverReloaded = true; });
  };
  await step('B opens it where the unread begins, however far up that is', async () => {
    await anew();
    await b.open(id);
    await b.page.locator('li.unread + .message').getByText('line 1', { exact: true }).waitFor();
    await until('it is in sight', () => b.page.locator('li.unread').evaluate((line) => {
      const [at, { top, bottom }] = [line.getBoundingClientRect(), document.querySelector('#scroll').getBoundingClientRect()];
      return at.top >= top && at.bottom <= bottom;
    }));
    await b.get('newest').getByText('90 new').waitFor();
    assert(await a.get('receipt').getByText('Read').count() === 0, 'it is read unseen');
    await b.get('newest').click();
    await a.get('receipt').getByText('Read').waitFor();
  });
  await step('B reads it anew: the newest first, older ones while scrolling up', async () => {
    await b.page.evaluate(() => history.replaceState(null, '', '/'));
    await anew();
    await b.open(id);
    await b.sees('line 90');
    assert(await b.get('message').count() < 90, 'all of it was read at once');
  });
  await step('the reader’s place is kept while older ones come in', async () => {
    const [before, after] = await b.page.locator('#scroll').evaluate(async (scroll) => {
      const count = () => scroll.querySelectorAll('.message').length;
      scroll.scrollTop = 0;
      const first = scroll.querySelector('.message');
      const look = () => ({ y: Math.round(first.getBoundingClientRect().top), count: count() });
      const before = look();
      for (let i = 0; i < 200 && count() === before.count; i += 1) await new Promise((done) => { setTimeout(done, 25); });
      return [before, look()];
    });
    assert(after.count > before.count, 'no older messages came');
    assert(Math.abs(after.y - before.y) <= 2, `${JSON.stringify(before)} became ${JSON.stringify(after)}`);
  });
  await step('all of it is there in the end, each once and in order', async () => {
    await until('all is there', async () => {
      await b.page.locator('#scroll').evaluate((scroll) => { scroll.scrollTop = 0; });
      const texts = await b.texts();
      return texts.length === 90 || texts.length;
    });
    const texts = await b.texts();
    texts.forEach((text, i) => assert(text === `line ${i + 1}`, `${text} at ${i + 1}`));
    await b.get('older').getByText('where it begins').waitFor();
  });
  await step('who is far up sees how many are new, and gets there', async () => {
    await b.page.locator('#scroll').evaluate((scroll) => { scroll.scrollTop = 0; });
    await b.get('newest').waitFor();
    await a.send('line 91');
    await b.get('newest').getByText('1 new').waitFor();
    assert(await b.page.locator('#scroll').evaluate((scroll) => scroll.scrollTop) < 50, 'the place was lost');
    await b.get('newest').click();
    await b.get('newest').waitFor({ state: 'hidden' });
    await b.withText('line 91').locator('visible=true').waitFor();
    await a.get('receipt').getByText('Read').waitFor();
  });
}

async function story(browser) {
  const a = await step('A opens the page', () => Person.enter(browser, base, 'A', tokenA));
  const b = await step('B opens the page', () => Person.enter(browser, base, 'B', tokenB));
  await step('each is who the token says', async () => {
    await a.get('me').getByText(nameA, { exact: true }).waitFor();
    await b.get('me').getByText(nameB, { exact: true }).waitFor();
    assert(!a.page.url().includes('token'), 'the token is left in the address');
    const kept = await a.page.evaluate(() => Object.keys(localStorage).length);
    assert(kept === 0, 'something is kept beyond the tab');
  });
  await meeting(a, b);
  const id = await writing(a, b);
  await changing(a, b);
  await answering(a, b, id);
  await inAGroup(a, b);
  await longAgo(a, b);
  await step('nobody had to reload, and the consoles are clean', () => undisturbed());
  await step('signing out forgets who it was', async () => {
    await a.get('sign-out').click();
    await a.page.locator('#sign-in').waitFor();
    await a.page.reload();
    await a.page.locator('#sign-in').waitFor();
    assert(await a.page.evaluate(() => sessionStorage.length) === 0, 'the tab still has something');
  });
}

await tell(story, [tokenA, tokenB]);
