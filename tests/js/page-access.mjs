// The page for everyone: with nothing but a keyboard, on a phone, and by the rules of accessibility in both themes.
//
// node page-access.mjs BASE_URL TOKEN_A TOKEN_B USER_A USER_B
// See page.mjs for what it prints.

import { readFileSync } from 'node:fs';
import { createRequire } from 'node:module';
import { DESK, PHONE } from './browser.mjs';
import { Person, arguments_, assert, step, tell, undisturbed, until } from './page.mjs';

const [base, tokenA, tokenB, nameA, nameB] = arguments_('page-access.mjs BASE_URL TOKEN_A TOKEN_B USER_A USER_B', 5);
const AXE = readFileSync(createRequire(import.meta.url).resolve('axe-core/axe.min.js'), 'utf8');
/** What axe finds that keeps somebody out. */
const GRAVE = new Set(['serious', 'critical']);
/** What else isn't to be found. */
const ALSO = new Set(['aria-allowed-role']);

/** Looks for what is wrong by the rules. */
async function rules(person, where) {
  // Evaluated, not loaded: the page's policy would refuse a script of somebody else's.
  await person.page.evaluate(AXE);
  const { violations } = await person.page.evaluate(() => window.axe.run(document, { resultTypes: ['violations'] }));
  const grave = violations.filter(({ id, impact }) => GRAVE.has(impact) || ALSO.has(id));
  const told = grave.map(({ id, help, nodes }) => `${id}: ${help}: ${nodes.map((node) => node.html).slice(0, 3).join(' ')}`);
  assert(grave.length === 0, `${where}: ${told.join('\n')}`);
}

const focused = (person) => person.page.evaluate(() => {
  const { dataset, id, className } = document.activeElement;
  return dataset.testid ?? (id || className);
});

/** Presses a key until something has the focus. */
async function tabTo(person, what, key = 'Tab') {
  const seen = [];
  for (let i = 0; i < 40; i += 1) {
    if (await focused(person) === what) return;
    await person.page.keyboard.press(key);
    seen.push(await focused(person));
  }
  throw new Error(`${key} never led to ${what}, but to ${seen.join(', ')}`);
}

async function byKeyboard(a, b) {
  const { keyboard } = a.page;
  const id = await step('a group is begun', async () => {
    await a.page.evaluate(() => document.activeElement?.blur());
    await tabTo(a, 'new-conversation');
    await keyboard.press('Enter');
    await until('the dialog has the focus', async () => await focused(a) === 'begin-people' || focused(a));
    await keyboard.type(`${nameB}, barbara, carol`);
    await tabTo(a, 'begin-title');
    await keyboard.type('By keyboard');
    await keyboard.press('Enter');
    await until('one can write', async () => await focused(a) === 'composer' || focused(a));
    return new URL(a.page.url()).hash.slice('#/'.length);
  });
  await step('a mention is completed with arrows and Enter', async () => {
    const listed = () => a.get('mention-list').isVisible();
    await keyboard.type('hi @b');
    await until('the list is open', listed);
    const options = a.get('mention-option');
    await options.nth(1).waitFor();
    const active = async () => {
      const of = await a.composer.getAttribute('aria-activedescendant');
      const option = a.page.locator(`#${of}`);
      assert(await option.getAttribute('aria-selected') === 'true', 'the active option isn’t selected');
      return option.getAttribute('data-user');
    };
    const names = [await options.nth(0).getAttribute('data-user'), await options.nth(1).getAttribute('data-user')];
    assert(await active() === names[0], 'the first isn’t active');
    await keyboard.press('ArrowDown');
    assert(await active() === names[1], 'the arrow doesn’t move');
    await keyboard.press('ArrowDown');
    await keyboard.press('ArrowUp');
    await keyboard.press('ArrowUp');
    assert(await active() === names[0], 'the arrow doesn’t move back');
    await keyboard.press('Enter');
    assert(await a.composer.inputValue() === `hi @${names[0]} `, await a.composer.inputValue());
    assert(!await listed(), 'the list stays open');
    await keyboard.type('and @car');
    await a.get('mention-option').filter({ hasText: 'carol' }).waitFor();
    await keyboard.press('Tab');
    assert(await a.composer.inputValue() === `hi @${names[0]} and @carol `, await a.composer.inputValue());
    await keyboard.type('@');
    await options.first().waitFor();
    await keyboard.press('Escape');
    assert(!await listed(), 'Escape doesn’t close the list');
    assert(await focused(a) === 'composer', 'Escape loses the focus');
    await keyboard.press('Backspace');
    await keyboard.press('Enter');
    await until('it is sent', async () => await a.composer.inputValue() === '');
    await a.get('mention').nth(1).waitFor();
  });
  await step('Shift and Enter make a line', async () => {
    await keyboard.type('one');
    await keyboard.press('Shift+Enter');
    await keyboard.type('two');
    await keyboard.press('Enter');
    await until('it has two lines', async () => (await a.texts()).at(-1) === 'one\ntwo' || a.texts());
  });
  await step('the newest of one’s own is edited with the arrow up', async () => {
    await a.page.locator('[data-pending=""]').nth(1).waitFor();
    await keyboard.press('ArrowUp');
    await a.get('context').getByText('Editing').waitFor();
    await keyboard.type('!');
    await keyboard.press('Enter');
    await until('it is edited', async () => (await a.texts()).at(-1) === 'one\ntwo!' || a.texts());
  });
  await step('a message of B is reached, reacted to and answered', async () => {
    await b.open(id);
    await b.send('press me');
    const message = await a.sees('press me');
    await tabTo(a, 'message', 'Shift+Tab');
    for (let i = 0; i < 5 && await a.page.evaluate(() => document.activeElement.dataset.id) !== message; i += 1) await keyboard.press('ArrowDown');
    assert(await a.page.evaluate(() => document.activeElement.dataset.id) === message, 'the arrows don’t lead there');
    await tabTo(a, 'react');
    await keyboard.press('ArrowRight');
    await keyboard.press('Enter');
    await b.reaction(message, '❤️').filter({ hasText: '1' }).waitFor();
    await tabTo(a, 'reply', 'ArrowRight');
    await keyboard.press('Enter');
    assert(await focused(a) === 'composer', 'one can’t write an answer at once');
    await keyboard.type('pressed');
    await keyboard.press('Enter');
    await b.message(await b.sees('pressed')).getByTestId('quote').getByText('press me').waitFor();
  });
  await step('Escape leads from the messages to the text', async () => {
    await tabTo(a, 'message', 'Shift+Tab');
    await keyboard.press('Escape');
    assert(await focused(a) === 'composer', await focused(a));
  });
  return id;
}

async function onThePhone(browser, b, id) {
  const p = await step('A opens the page on a phone', () => Person.enter(browser, base, 'P', tokenA, { ...PHONE, colorScheme: 'dark' }));
  const wide = () => p.page.evaluate(() => document.documentElement.scrollWidth - document.documentElement.clientWidth);
  await step('the list is one screen, a conversation another', async () => {
    await p.inList(id).waitFor();
    assert(!await p.composer.isVisible(), 'both are shown');
    assert(await wide() === 0, 'the list is wider than the screen');
    await rules(p, 'the list on a phone');
    await p.inList(id).tap();
    await p.composer.waitFor();
    assert(!await p.inList(id).isVisible(), 'both are shown');
    assert(await wide() === 0, 'the conversation is wider than the screen');
    assert(await p.composer.evaluate((field) => parseFloat(getComputedStyle(field).fontSize)) >= 16, 'the phone would zoom');
  });
  await step('a long word doesn’t break out', async () => {
    await b.send('w'.repeat(400));
    const bubble = p.message(await p.sees('w'.repeat(400))).locator('.bubble');
    assert(await bubble.evaluate((box) => box.scrollWidth <= box.clientWidth), 'it is wider than its bubble');
    assert(await wide() === 0, 'the conversation is wider than the screen');
  });
  await step('a tap shows what can be done with a message, within the screen', async () => {
    const message = await p.sees('press me');
    await p.message(message).locator('.bubble').tap();
    const box = await p.message(message).getByTestId('tools').boundingBox();
    assert(box.x >= 0 && box.x + box.width <= 390, `the buttons are at ${box.x}, ${box.width} wide`);
    await p.message(message).locator('[data-testid="react"][data-emoji="🎉"]').tap();
    await b.reaction(message, '🎉').filter({ hasText: '1' }).waitFor();
  });
  await step('it is sent with the button, and Enter makes a line', async () => {
    await p.composer.tap();
    await p.composer.pressSequentially('from');
    await p.page.keyboard.press('Enter');
    await p.composer.pressSequentially('a phone');
    await p.get('send').tap();
    await until('it is there', async () => (await b.texts()).at(-1) === 'from\na phone' || b.texts());
  });
  await step('the way back leads to the list, by the page and by the phone', async () => {
    await rules(p, 'a conversation on a phone');
    await p.get('back').tap();
    await p.inList(id).waitFor();
    assert(!await p.composer.isVisible(), 'the conversation is still shown');
    await p.inList(id).tap();
    await p.composer.waitFor();
    await p.page.goBack();
    await p.inList(id).waitFor();
    await p.page.goto(`${base}/#/01990000-0000-7000-8000-000000000000`);
    await p.page.reload();
    await p.inList(id).waitFor();
    await p.page.evaluate(() => { window.neverReloaded = true; });
  });
}

async function story(browser) {
  const light = await step('the form to sign in keeps the rules', async () => {
    const visitor = await Person.enter(browser, base, 'V', null);
    await visitor.page.locator('#sign-in').waitFor();
    await rules(visitor, 'signing in');
    return { ...DESK, colorScheme: 'light' };
  });
  const a = await step('A opens the page', () => Person.enter(browser, base, 'A', tokenA, light));
  await step('the empty page keeps the rules', async () => {
    await a.get('empty').waitFor();
    await rules(a, 'nothing open');
  });
  const b = await step('B opens the page', () => Person.enter(browser, base, 'B', tokenB));
  const id = await byKeyboard(a, b);
  for (const colorScheme of ['light', 'dark']) {
    await step(`a conversation keeps the rules (${colorScheme})`, async () => {
      for (const person of [a, b]) {
        await person.page.emulateMedia({ colorScheme, reducedMotion: 'reduce' });
        await person.message(await person.sees('press me')).locator('.bubble').hover();
        await rules(person, `${person.name}, ${colorScheme}`);
      }
      await a.get('new-conversation').click();
      await rules(a, `the dialog, ${colorScheme}`);
      await a.page.keyboard.press('Escape');
      await a.get('members').click();
      await a.get('member').first().waitFor();
      await rules(a, `the people, ${colorScheme}`);
      await a.page.keyboard.press('Escape');
      await a.composer.fill('@');
      await a.get('mention-option').first().waitFor();
      await rules(a, `the list of people, ${colorScheme}`);
      await a.composer.fill('');
    });
  }
  await onThePhone(browser, b, id);
  await step('the consoles are clean', () => undisturbed());
  assert(nameA !== nameB, 'two people are needed');
}

await tell(story, [tokenA, tokenB]);
