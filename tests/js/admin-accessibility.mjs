// Accessibility of the admin page: with only a keyboard, on a phone, and checked by axe in both themes.
//
// node admin-accessibility.mjs BASE_URL ADMIN_TOKEN POSITION
// POSITION is that of an open dead letter. page.mjs describes the output.

import { assertAccessible, focused, overflow, tabTo } from './accessibility.mjs';
import * as data from './admin-data.mjs';
import { Mock } from './admin-mock.mjs';
import { DESK, PHONE } from './browser.mjs';
import { Person, arguments_, assert, assertUndisturbed, run, step, until } from './page.mjs';

const [base, adminToken, position] = arguments_('admin-accessibility.mjs BASE_URL ADMIN_TOKEN POSITION', 3);
const MIN_TARGET = 44;

/** What each section shows once it is loaded, by its address. */
const SECTIONS = {
  overview: (person) => person.get('plot-rates-summary').getByText('at most').first(),
  jobs: (person) => person.get('job').first(),
  'dead-letters': (person) => person.get('dead-letters').getByText(position, { exact: true }),
  [`dead-letters/${position}`]: (person) => person.get('dead-letter-record'),
  [`conversation/${data.CONVERSATION}`]: (person) => person.get('event').first(),
  audit: (person) => person.get('audit').locator('tbody tr').first(),
  limits: (person) => person.get('limits').first(),
};

async function open(person, section) {
  await person.page.evaluate((hash) => { location.hash = hash; }, section);
  await SECTIONS[section](person).waitFor();
}

async function enter(browser, name, options) {
  const person = await Person.enter(browser, `${base}/admin`, name, null, options);
  const mock = new Mock();
  mock.jobs.unshift(data.job(4, { status: 'running', endedAt: null, step: { name: 'reading the log', unit: 'records', done: 1, total: 2 } }));
  await mock.answer(person.page);
  await assertAccessible(person, `the sign-in form, ${name}`);
  await person.get('token').fill(adminToken);
  await person.get('token-submit').click();
  await person.get('lag').waitFor();
  return { person, mock };
}

async function byKeyboard(a) {
  const { keyboard } = a.page;
  await step('the first Tab offers to skip the navigation', async () => {
    await a.page.evaluate(() => document.activeElement?.blur());
    await tabTo(a, 'skip-link');
    await keyboard.press('Enter');
    assert(await focused(a) === 'content', await focused(a));
  });
  await step('a link of the navigation moves the focus to the heading of its section', async () => {
    await tabTo(a, 'nav-dead-letters', 'Shift+Tab');
    await keyboard.press('Enter');
    await until('the heading has the focus', async () => await focused(a) === 'heading-dead-letters' || focused(a));
  });
  await step('arrows choose which dead letters are listed', async () => {
    await tabTo(a, 'dead-letters-open');
    await keyboard.press('ArrowRight');
    assert(await focused(a) === 'dead-letters-all', await focused(a));
    await keyboard.press('ArrowLeft');
  });
  await step('a dead letter is discarded', async () => {
    await a.get('dead-letters').getByText(position, { exact: true }).waitFor();
    await tabTo(a, 'dead-letters-open');
    await keyboard.press('Tab');
    await keyboard.press('Enter');
    await a.get('discard-dead-letter').waitFor();
    await tabTo(a, 'discard-dead-letter');
    await keyboard.press('Enter');
    await a.get('confirmation').waitFor();
    await keyboard.press('Escape');
    assert(await focused(a) === 'discard-dead-letter', `Escape moves the focus to ${await focused(a)}`);
    await keyboard.press('Enter');
    await tabTo(a, 'confirmation-text');
    await keyboard.type('by keyboard');
    await tabTo(a, 'confirmation-submit');
    await keyboard.press('Enter');
    await a.get('dead-letter-status').getByText('discarded').waitFor();
    await until('the heading has the focus', async () => await focused(a) === 'heading-dead-letter' || focused(a));
  });
}

/** The targets that are smaller than a finger. */
const smallTargets = (person) => person.page.evaluate((minimum) => {
  const targets = [...document.querySelectorAll('a, button, summary, input, textarea')];
  return targets.filter((target) => target.checkVisibility() && target.id !== 'skip-link').map((target) => {
    const { height } = (target.closest('label') ?? target).getBoundingClientRect();
    return height < minimum - .5 ? `${target.dataset.testid ?? target.textContent}: ${height}` : '';
  }).filter(Boolean);
}, MIN_TARGET);

async function story(browser) {
  const { person: a } = await step('an admin opens the page', () => enter(browser, 'A', { ...DESK, colorScheme: 'light' }));
  await byKeyboard(a);
  const { person: phone } = await step('an admin opens it on a phone', () => enter(browser, 'P', PHONE));
  for (const section of Object.keys(SECTIONS)) {
    for (const person of [a, phone]) {
      await step(`${section} is accessible to ${person.name}`, async () => {
        if (section === 'dead-letters') await person.get('nav-dead-letters').click();
        if (section === 'dead-letters') await person.get('dead-letters-all').check();
        await open(person, section);
        for (const colorScheme of ['light', 'dark']) {
          await person.page.emulateMedia({ colorScheme, reducedMotion: 'reduce' });
          await assertAccessible(person, `${section}, ${person.name}, ${colorScheme}`);
        }
      });
    }
    await step(`${section} fits on a phone`, async () => {
      assert(await overflow(phone) === 0, `it is ${await overflow(phone)} pixels wider than the screen`);
      const small = await smallTargets(phone);
      assert(small.length === 0, `too small for a finger: ${small.join(', ')}`);
    });
  }
  await step('the dialog is accessible', async () => {
    await open(phone, `dead-letters/${position}`);
    await phone.get('retry-dead-letter').waitFor();
    await open(phone, `conversation/${data.CONVERSATION}`);
    await phone.get('rebuild-conversation').tap();
    await assertAccessible(phone, 'the dialog');
    assert(await overflow(phone) === 0, 'the dialog is wider than the screen');
  });
  await step('the consoles have no errors', () => assertUndisturbed());
}

await run(story, [adminToken]);
