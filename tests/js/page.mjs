// What the tests of the chat page have together: steps with names, people who do things in windows, and a result.
//
// A script prints {"ok":true}, or {"ok":false, step, error, console, screenshots} and exits with 1.

import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { DESK, WAIT_MS, launch, openWindow } from './browser.mjs';

let current = 'start the browser';
const people = [];

/** One thing that has to succeed; its name is in the result where it doesn't. */
export async function step(name, work) {
  current = name;
  return work();
}

export function assert(holds, why) {
  if (!holds) throw new Error(why);
}

/** Waits until something holds in Node; says what was seen last where it never does. */
export async function until(what, look) {
  const deadline = Date.now() + WAIT_MS;
  for (;;) {
    const seen = await look();
    if (seen === true) return;
    if (Date.now() > deadline) throw new Error(`never: ${what}; at last ${JSON.stringify(seen)}`);
    await new Promise((done) => { setTimeout(done, 50); });
  }
}

/** Somebody in a window. */
export class Person {
  constructor(name, page, trouble) {
    Object.assign(this, { name, page, trouble });
  }

  static async enter(browser, base, name, token, options = DESK) {
    const trouble = [];
    const page = await openWindow(browser, base, token, trouble, options);
    await page.evaluate(() => { window.neverReloaded = true; });
    const person = new Person(name, page, trouble);
    people.push(person);
    return person;
  }

  get(testId) {
    return this.page.getByTestId(testId);
  }

  get composer() {
    return this.get('composer');
  }

  /** Begins a conversation with the dialog, and gives its id. */
  async begin(others, title = '') {
    await this.get('new-conversation').click();
    await this.get('begin-people').fill(others);
    await this.get('begin-title').fill(title);
    await this.get('begin-submit').click();
    await this.page.locator('#begin').waitFor({ state: 'hidden' });
    await this.composer.waitFor();
    return new URL(this.page.url()).hash.slice('#/'.length);
  }

  inList(id) {
    return this.page.locator(`[data-testid="conversation"][data-id="${id}"]`);
  }

  async open(id) {
    await this.inList(id).click();
    await this.composer.waitFor();
  }

  async send(text) {
    await this.composer.fill(text);
    await this.get('send').click();
  }

  /** The messages with exactly this text. */
  withText(text) {
    return this.get('message').filter({ has: this.page.locator('.content').getByText(text, { exact: true }) });
  }

  message(id) {
    return this.page.locator(`[data-testid="message"][data-id="${id}"]`);
  }

  /** Waits for a message and gives its id. */
  async sees(text) {
    const message = this.withText(text);
    await message.waitFor();
    return message.getAttribute('data-id');
  }

  /** Clicks one of the buttons that come where one points at a message. */
  async tool(id, testId, more = '') {
    await this.message(id).locator('.bubble').hover();
    await this.message(id).locator(`[data-testid="${testId}"]${more}`).click();
  }

  reaction(id, emoji) {
    return this.message(id).locator(`[data-testid="reaction"][data-emoji="${emoji}"]`);
  }

  /** The texts of all messages, in order. */
  texts() {
    return this.page.locator('[data-testid="message"] .content').allTextContents();
  }
}

/** Tokens and colours don't belong in a log. */
const clean = (text, secrets) => secrets.reduce((left, secret) => left.replaceAll(secret, '[token]'), text)
  .replace(/\u001b\[\d+m/g, '');

async function screenshots() {
  const paths = [];
  for (const { name, page } of people) {
    const path = join(tmpdir(), `messages-page-${process.pid}-${name}.png`);
    try {
      await page.screenshot({ path, timeout: WAIT_MS });
      paths.push(path);
    } catch {
      // a page that is gone has no picture
    }
  }
  return paths;
}

/** Nobody's page was loaded again, and no console has an error but those that belong to what was done. */
export async function undisturbed(expected = []) {
  for (const { name, page, trouble } of people) {
    assert(await page.evaluate(() => window.neverReloaded === true), `the page of ${name} was loaded again`);
    const odd = trouble.filter((line) => !expected.some((known) => known.test(line)));
    assert(odd.length === 0, `the console of ${name}: ${odd.join('\n')}`);
  }
}

/** Runs a story and says how it ended; `secrets` are kept out of that. */
export async function tell(story, secrets) {
  let browser = null;
  try {
    browser = await launch();
    await story(browser);
    console.log(JSON.stringify({ ok: true }));
  } catch (error) {
    const lines = Object.fromEntries(people.map(({ name, trouble }) => [name, trouble]));
    const failed = { ok: false, step: current, error: error.stack ?? String(error), console: lines, screenshots: await screenshots() };
    console.log(JSON.stringify(failed, (_, value) => (typeof value === 'string' ? clean(value, secrets) : value)));
    process.exitCode = 1;
  } finally {
    await browser?.close();
  }
}

/** The arguments, all of which are needed. */
export function arguments_(usage, count) {
  const given = process.argv.slice(2);
  if (given.length < count) {
    console.error(`usage: node ${usage}`);
    process.exit(2);
  }
  return given;
}
