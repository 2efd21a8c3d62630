// Accessibility: the page with only a keyboard, on a phone, and checked by axe in both themes.
//
// node page-accessibility.mjs BASE_URL TOKEN_A TOKEN_B USER_A USER_B
// page.mjs describes the output.

import { assertAccessible, focused, overflow, tabTo } from './accessibility.mjs';
import { DESK, PHONE } from './browser.mjs';
import { Person, arguments_, assert, assertUndisturbed, run, step, until } from './page.mjs';

const [base, tokenA, tokenB, nameA, nameB] = arguments_('page-accessibility.mjs BASE_URL TOKEN_A TOKEN_B USER_A USER_B', 5);

async function byKeyboard(a, b) {
  const { keyboard } = a.page;
  const id = await step('a group is started', async () => {
    await a.page.evaluate(() => document.activeElement?.blur());
    await tabTo(a, 'new-conversation');
    await keyboard.press('Enter');
    await until('the dialog has the focus', async () => await focused(a) === 'new-conversation-participants' || focused(a));
    await keyboard.type(`${nameB}, barbara, carol`);
    await tabTo(a, 'new-conversation-title');
    await keyboard.type('By keyboard');
    await keyboard.press('Enter');
    await until('the composer has the focus', async () => await focused(a) === 'composer' || focused(a));
    return new URL(a.page.url()).hash.slice('#/'.length);
  });
  await step('a mention is completed with arrows and Enter', async () => {
    const isListOpen = () => a.get('mention-options').isVisible();
    await keyboard.type('hi @b');
    await until('the list is open', isListOpen);
    const options = a.get('mention-option');
    await options.nth(1).waitFor();
    const active = async () => {
      const of = await a.composer.getAttribute('aria-activedescendant');
      const option = a.page.locator(`#${of}`);
      assert(await option.getAttribute('aria-selected') === 'true', 'the active option isn’t selected');
      return option.getAttribute('data-user');
    };
    const names = [await options.nth(0).getAttribute('data-user'), await options.nth(1).getAttribute('data-user')];
    assert(await active() === names[0], 'the first option isn’t active');
    await keyboard.press('ArrowDown');
    assert(await active() === names[1], 'the arrow doesn’t move down');
    await keyboard.press('ArrowDown');
    await keyboard.press('ArrowUp');
    await keyboard.press('ArrowUp');
    assert(await active() === names[0], 'the arrow doesn’t move up');
    await keyboard.press('Enter');
    assert(await a.composer.inputValue() === `hi @${names[0]} `, await a.composer.inputValue());
    assert(!await isListOpen(), 'the list stays open');
    await keyboard.type('and @car');
    await a.get('mention-option').filter({ hasText: 'carol' }).waitFor();
    await keyboard.press('Tab');
    assert(await a.composer.inputValue() === `hi @${names[0]} and @carol `, await a.composer.inputValue());
    await keyboard.type('@');
    await options.first().waitFor();
    await keyboard.press('Escape');
    assert(!await isListOpen(), 'Escape doesn’t close the list');
    assert(await focused(a) === 'composer', 'Escape loses the focus');
    await keyboard.press('Backspace');
    await keyboard.press('Enter');
    await until('the message is sent', async () => await a.composer.inputValue() === '');
    await a.get('mention').nth(1).waitFor();
  });
  await step('Shift+Enter starts a new line', async () => {
    await keyboard.type('one');
    await keyboard.press('Shift+Enter');
    await keyboard.type('two');
    await keyboard.press('Enter');
    await until('the message has two lines', async () => (await a.texts()).at(-1) === 'one\ntwo' || a.texts());
  });
  await step('arrow up edits the user’s newest message', async () => {
    // While the message is on its way, the key does nothing.
    await until('the composer edits', async () => {
      await keyboard.press('ArrowUp');
      return await a.get('composer-context').getByText('Editing').isVisible();
    });
    assert(await a.composer.inputValue() === 'one\ntwo', await a.composer.inputValue());
    await keyboard.type('!');
    await keyboard.press('Enter');
    await until('the message is edited', async () => (await a.texts()).at(-1) === 'one\ntwo!' || a.texts());
  });
  await step('a message of B can be reached, reacted to and replied to', async () => {
    await b.open(id);
    await b.send('press me');
    const message = await a.sees('press me');
    await tabTo(a, 'message', 'Shift+Tab');
    for (let i = 0; i < 5 && await a.page.evaluate(() => document.activeElement.dataset.id) !== message; i += 1) await keyboard.press('ArrowDown');
    assert(await a.page.evaluate(() => document.activeElement.dataset.id) === message, 'the arrows don’t reach the message');
    await tabTo(a, 'react');
    await keyboard.press('ArrowRight');
    await keyboard.press('Enter');
    await b.reaction(message, '❤️').filter({ hasText: '1' }).waitFor();
    await tabTo(a, 'reply', 'ArrowRight');
    await keyboard.press('Enter');
    assert(await focused(a) === 'composer', 'the composer doesn’t have the focus');
    await keyboard.type('pressed');
    await keyboard.press('Enter');
    await b.message(await b.sees('pressed')).getByTestId('quote').getByText('press me').waitFor();
  });
  await step('Escape moves the focus from the timeline to the composer', async () => {
    await tabTo(a, 'message', 'Shift+Tab');
    await keyboard.press('Escape');
    assert(await focused(a) === 'composer', await focused(a));
  });
  return id;
}

async function onThePhone(browser, b, id) {
  const p = await step('A opens the page on a phone', () => Person.enter(browser, base, 'P', tokenA, { ...PHONE, colorScheme: 'dark' }));
  await step('the list and the conversation fill the screen in turn', async () => {
    await p.inList(id).waitFor();
    assert(!await p.composer.isVisible(), 'both are visible');
    assert(await overflow(p) === 0, 'the list is wider than the screen');
    await assertAccessible(p, 'the list on a phone');
    await p.inList(id).tap();
    await p.composer.waitFor();
    assert(!await p.inList(id).isVisible(), 'both are visible');
    assert(await overflow(p) === 0, 'the conversation is wider than the screen');
    assert(await p.composer.evaluate((field) => parseFloat(getComputedStyle(field).fontSize)) >= 16, 'the phone would zoom');
  });
  await step('a long word stays inside its bubble', async () => {
    await b.send('w'.repeat(400));
    const bubble = p.message(await p.sees('w'.repeat(400))).locator('.bubble');
    assert(await bubble.evaluate((box) => box.scrollWidth <= box.clientWidth), 'the word is wider than its bubble');
    assert(await overflow(p) === 0, 'the conversation is wider than the screen');
  });
  await step('a tap shows the actions of a message, within the screen', async () => {
    const message = await p.sees('press me');
    await p.message(message).locator('.bubble').tap();
    const box = await p.message(message).getByTestId('message-actions').boundingBox();
    assert(box.x >= 0 && box.x + box.width <= 390, `the toolbar is at ${box.x}, ${box.width} wide`);
    await p.message(message).locator('[data-testid="react"][data-emoji="🎉"]').tap();
    await b.reaction(message, '🎉').filter({ hasText: '1' }).waitFor();
  });
  await step('the button sends a message, and Enter starts a new line', async () => {
    await p.composer.tap();
    await p.composer.pressSequentially('from');
    await p.page.keyboard.press('Enter');
    await p.composer.pressSequentially('a phone');
    await p.get('send').tap();
    await until('B has the message', async () => (await b.texts()).at(-1) === 'from\na phone' || b.texts());
  });
  await step('the page’s and the browser’s back button show the list', async () => {
    await assertAccessible(p, 'a conversation on a phone');
    await p.get('back').tap();
    await p.inList(id).waitFor();
    assert(!await p.composer.isVisible(), 'the conversation is still visible');
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
  const light = await step('the sign-in form is accessible', async () => {
    const visitor = await Person.enter(browser, base, 'V', null);
    await visitor.page.locator('#sign-in').waitFor();
    await assertAccessible(visitor, 'the sign-in form');
    return { ...DESK, colorScheme: 'light' };
  });
  const a = await step('A opens the page', () => Person.enter(browser, base, 'A', tokenA, light));
  await step('the empty page is accessible', async () => {
    await a.get('empty-state').waitFor();
    await assertAccessible(a, 'the empty page');
  });
  const b = await step('B opens the page', () => Person.enter(browser, base, 'B', tokenB));
  const id = await byKeyboard(a, b);
  for (const colorScheme of ['light', 'dark']) {
    await step(`a conversation is accessible (${colorScheme})`, async () => {
      for (const person of [a, b]) {
        await person.page.emulateMedia({ colorScheme, reducedMotion: 'reduce' });
        await person.message(await person.sees('press me')).locator('.bubble').hover();
        await assertAccessible(person, `${person.name}, ${colorScheme}`);
      }
      await a.get('new-conversation').click();
      await assertAccessible(a, `the dialog, ${colorScheme}`);
      await a.page.keyboard.press('Escape');
      await a.get('participants').click();
      await a.get('participant').first().waitFor();
      await assertAccessible(a, `the participants, ${colorScheme}`);
      await a.page.keyboard.press('Escape');
      await a.composer.fill('@');
      await a.get('mention-option').first().waitFor();
      await assertAccessible(a, `the mention list, ${colorScheme}`);
      await a.composer.fill('');
    });
  }
  await onThePhone(browser, b, id);
  await step('the consoles have no errors', () => assertUndisturbed());
  assert(nameA !== nameB, 'the test needs two users');
}

await run(story, [tokenA, tokenB]);
