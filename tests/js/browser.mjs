// A real browser for the tests and pictures of the page.
//
// CHROMIUM names it (default /usr/bin/chromium).

import { chromium } from 'playwright-core';

/** How long anything that should happen may take. */
export const WAIT_MS = 30_000;

export const PHONE = { viewport: { width: 390, height: 844 }, isMobile: true, hasTouch: true, deviceScaleFactor: 2 };
export const DESK = { viewport: { width: 1200, height: 800 } };

export function launch() {
  return chromium.launch({
    executablePath: process.env.CHROMIUM || '/usr/bin/chromium',
    timeout: 3 * WAIT_MS,
    args: [
      ...(process.getuid?.() === 0 ? ['--no-sandbox'] : []),
      '--disable-gpu', '--disable-quic', '--no-first-run', '--disable-background-networking',
      '--disable-component-update', '--disable-sync',
    ],
  });
}

/** A window of its own, signed in with a token; `trouble` collects what its console says of errors. */
export async function openWindow(browser, base, token, trouble, options = DESK) {
  const context = await browser.newContext(options);
  context.setDefaultTimeout(WAIT_MS);
  const page = await context.newPage();
  page.on('console', (line) => {
    if (line.type() === 'error') trouble.push(line.text());
  });
  page.on('pageerror', (error) => trouble.push(error.stack ?? error.message));
  await page.goto(token ? `${base}/#token=${encodeURIComponent(token)}` : base);
  if (token) await live(page);
  return page;
}

/** Waits until the page has everything and hears of what is new. */
export const live = (page) => page.locator('[data-testid="connection"][data-state="live"]').waitFor({ state: 'attached' });
