// Two people in two real browser windows: what one does, the other sees, without a reload.
//
// node two-windows.mjs BASE_URL TOKEN_A TOKEN_B USER_ID_OF_B
// Prints {"ok":true}, or {"ok":false, step, error, console, screenshots} and exits with 1.
// CHROMIUM names the browser (default /usr/bin/chromium).

import { randomBytes } from 'node:crypto';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { chromium } from 'playwright-core';

const WAIT_MS = 10_000;
const [base, tokenA, tokenB, nameB] = process.argv.slice(2);
if (!nameB) {
  console.error('usage: node two-windows.mjs BASE_URL TOKEN_A TOKEN_B USER_ID_OF_B');
  process.exit(2);
}

const run = randomBytes(3).toString('hex'); // a pair has one conversation, ever: earlier runs may have left messages
const consoleErrors = [];
const pages = {};
let current = 'start the browser';

async function step(name, work) {
  current = name;
  return work();
}

async function openWindow(browser, who, token) {
  const context = await browser.newContext({ viewport: { width: 1000, height: 700 } });
  context.setDefaultTimeout(WAIT_MS);
  const page = await context.newPage();
  pages[who] = page;
  page.on('console', (line) => {
    if (line.type() === 'error') consoleErrors.push(`${who}: ${line.text()}`);
  });
  page.on('pageerror', (error) => consoleErrors.push(`${who}: ${error.stack ?? error.message}`));
  await page.goto(`${base.replace(/\/$/, '')}/#token=${encodeURIComponent(token)}`);
  await page.locator('[data-testid="connection"][data-state="on"]').waitFor();
  await page.evaluate(() => { window.neverReloaded = true; });
  return page;
}

const withText = (page, text) => page.getByTestId('message').filter({ has: page.locator('.content').getByText(text, { exact: true }) });

async function send(page, text) {
  await page.getByTestId('composer').fill(text);
  await page.getByTestId('send').click();
}

async function openConversation(page, id) {
  await page.locator(`[data-testid="conversation"][data-id="${id}"]`).click();
  await page.getByTestId('composer').waitFor();
}

/** Waits for the message and gives its id. */
async function sees(page, text) {
  const message = withText(page, text);
  await message.waitFor();
  return message.getAttribute('data-id');
}

async function story(browser) {
  const a = await step('A opens the page', () => openWindow(browser, 'A', tokenA));
  const b = await step('B opens the page', () => openWindow(browser, 'B', tokenB));

  const conversation = await step('A starts a conversation with B', async () => {
    await a.getByTestId('new-conversation').fill(nameB);
    await a.getByTestId('new-conversation-submit').click();
    const open = a.locator('[data-testid="conversation"][aria-current="true"]');
    await open.waitFor();
    return open.getAttribute('data-id');
  });
  await step('B sees the conversation and opens it', () => openConversation(b, conversation));

  const hello = `hello from A (${run})`;
  await step('A sends a message', () => send(a, hello));
  const id = await step('A sees its own message', () => sees(a, hello));
  const idAtB = await step('B sees it live', () => sees(b, hello));
  await step('both have the same message', () => {
    if (id !== idAtB) throw new Error(`A has ${id}, B has ${idAtB}`);
  });

  const answer = `hello back from B (${run})`;
  await step('B answers', () => send(b, answer));
  await step('A sees the answer live', () => sees(a, answer));

  const changed = `hello again from A (${run})`;
  await step('A edits the message', async () => {
    await a.locator(`[data-testid="message"][data-id="${id}"]`).hover();
    await a.locator(`[data-testid="message"][data-id="${id}"]`).getByTestId('edit').click();
    await send(a, changed);
  });
  const idEdited = await step('B sees the edit live', () => sees(b, changed));
  await step('it is the same message still', () => {
    if (idEdited !== id) throw new Error(`B has the edit on ${idEdited}, not on ${id}`);
  });

  await step('B reacts', async () => {
    await b.locator(`[data-testid="message"][data-id="${id}"]`).hover();
    await b.locator(`[data-testid="message"][data-id="${id}"]`).getByTestId('react').first().click();
  });
  await step('A sees the reaction live', () =>
    a.locator(`[data-testid="message"][data-id="${id}"]`).getByTestId('reaction').filter({ hasText: '1' }).waitFor());

  await step('nobody had to reload', async () => {
    for (const page of [a, b]) {
      if (!await page.evaluate(() => window.neverReloaded)) throw new Error('a page was loaded again');
    }
  });
  await step('the console is clean', () => {
    if (consoleErrors.length > 0) throw new Error(consoleErrors.join('\n'));
  });
}

/** Tokens and colours don't belong in a log. */
const clean = (text) => [tokenA, tokenB].reduce((left, token) => left.replaceAll(token, '[token]'), text)
  .replace(/\u001b\[\d+m/g, '');

async function screenshots() {
  const paths = [];
  for (const [who, page] of Object.entries(pages)) {
    const path = join(tmpdir(), `two-windows-${run}-${who}.png`);
    try {
      await page.screenshot({ path, timeout: WAIT_MS });
      paths.push(path);
    } catch {
      // a page that is gone has no picture
    }
  }
  return paths;
}

let browser = null;
try {
  browser = await chromium.launch({
    executablePath: process.env.CHROMIUM || '/usr/bin/chromium',
    timeout: 3 * WAIT_MS,
    args: [
      ...(process.getuid?.() === 0 ? ['--no-sandbox'] : []),
      '--disable-gpu', '--disable-quic', '--no-first-run', '--disable-background-networking',
      '--disable-component-update', '--disable-sync',
    ],
  });
  await story(browser);
  console.log(JSON.stringify({ ok: true }));
} catch (error) {
  const failed = { ok: false, step: current, error: error.message, console: consoleErrors, screenshots: await screenshots() };
  console.log(JSON.stringify(failed, (_, value) => (typeof value === 'string' ? clean(value) : value)));
  process.exitCode = 1;
} finally {
  await browser?.close();
}
