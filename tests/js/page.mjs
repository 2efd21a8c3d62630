// What the tests of the chat page share: named steps, users with a browser window each, and the output.
//
// A script prints {"ok":true}, or {"ok":false, step, error, console, screenshots} and exits with 1.

import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { DESK, WAIT_MS, launch, openWindow } from './browser.mjs';

let current = 'start the browser';
const people = [];

/** Runs a step. The output of a failure contains its name. */
export async function step(name, work) {
  current = name;
  return work();
}

export function assert(condition, message) {
  if (!condition) throw new Error(message);
}

/** Waits until `check` returns true; the error of a timeout contains what it returned last. */
export async function until(what, check) {
  const deadline = Date.now() + WAIT_MS;
  for (;;) {
    const result = await check();
    if (result === true) return;
    if (Date.now() > deadline) throw new Error(`timeout: ${what}; last result: ${JSON.stringify(result)}`);
    await new Promise((done) => { setTimeout(done, 50); });
  }
}

/** A user in a browser window. */
export class Person {
  constructor(name, page, consoleErrors) {
    Object.assign(this, { name, page, consoleErrors });
  }

  static async enter(browser, base, name, token, options = DESK) {
    const consoleErrors = [];
    const page = await openWindow(browser, base, token, consoleErrors, options);
    await page.evaluate(() => { window.neverReloaded = true; });
    const person = new Person(name, page, consoleErrors);
    people.push(person);
    return person;
  }

  get(testId) {
    return this.page.getByTestId(testId);
  }

  get composer() {
    return this.get('composer');
  }

  /** Starts a conversation with the dialog; returns its id. */
  async startConversation(others, title = '') {
    await this.get('new-conversation').click();
    await this.get('new-conversation-participants').fill(others);
    await this.get('new-conversation-title').fill(title);
    await this.get('new-conversation-submit').click();
    await this.page.locator('#new-conversation-dialog').waitFor({ state: 'hidden' });
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

  /** Waits for a message; returns its id. */
  async sees(text) {
    const message = this.withText(text);
    await message.waitFor();
    return message.getAttribute('data-id');
  }

  /** Clicks an action in the toolbar of a message. */
  async clickAction(id, testId, more = '') {
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

/** Removes secrets and terminal colours from a text. */
const redact = (text, secrets) => secrets.reduce((left, secret) => left.replaceAll(secret, '[token]'), text)
  .replace(/\u001b\[\d+m/g, '');

async function screenshots() {
  const paths = [];
  for (const { name, page } of people) {
    const path = join(tmpdir(), `messages-page-${process.pid}-${name}.png`);
    try {
      await page.screenshot({ path, timeout: WAIT_MS });
      paths.push(path);
    } catch {
      // the page is closed already
    }
  }
  return paths;
}

/** Asserts that no page was reloaded, and that no console has errors other than the expected ones. */
export async function assertUndisturbed(expected = []) {
  for (const { name, page, consoleErrors } of people) {
    assert(await page.evaluate(() => window.neverReloaded === true), `the page of ${name} was reloaded`);
    const unexpected = consoleErrors.filter((line) => !expected.some((known) => known.test(line)));
    assert(unexpected.length === 0, `the console of ${name}: ${unexpected.join('\n')}`);
  }
}

/** Runs a story in a browser and prints its outcome without the `secrets`. */
export async function run(story, secrets, open = launch) {
  let browser = null;
  try {
    browser = await open();
    await story(browser);
    console.log(JSON.stringify({ ok: true }));
  } catch (error) {
    const lines = Object.fromEntries(people.map(({ name, consoleErrors }) => [name, consoleErrors]));
    const failed = { ok: false, step: current, error: error.stack ?? String(error), console: lines, screenshots: await screenshots() };
    console.log(JSON.stringify(failed, (_, value) => (typeof value === 'string' ? redact(value, secrets) : value)));
    process.exitCode = 1;
  } finally {
    await browser?.close();
  }
}

/** The arguments of the script; exits with the usage if some are missing. */
export function arguments_(usage, count) {
  const given = process.argv.slice(2);
  if (given.length < count) {
    console.error(`usage: node ${usage}`);
    process.exit(2);
  }
  return given;
}
