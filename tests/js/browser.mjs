// The browser for the tests and the pictures of the page: CHROMIUM, by default /usr/bin/chromium.

import { mkdirSync, mkdtempSync, rmSync, writeFileSync } from 'node:fs';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { chromium } from 'playwright-core';

/** The timeout of every step in the browser, in milliseconds. */
export const WAIT_MS = 30_000;

export const PHONE = { viewport: { width: 390, height: 844 }, isMobile: true, hasTouch: true, deviceScaleFactor: 2 };
export const DESK = { viewport: { width: 1200, height: 800 } };

const OPTIONS = {
  executablePath: process.env.CHROMIUM || '/usr/bin/chromium',
  timeout: 3 * WAIT_MS,
  args: [
    ...(process.getuid?.() === 0 ? ['--no-sandbox'] : []),
    '--disable-gpu', '--disable-quic', '--no-first-run', '--disable-background-networking',
    '--disable-component-update', '--disable-sync',
  ],
};

export const launch = () => chromium.launch(OPTIONS);

/**
 * Opens a browser that protects no server: pages may send requests to this machine, and cookies of other sites with
 * them. The server has to protect itself.
 */
export function launchPermissive() {
  const profile = mkdtempSync(join(tmpdir(), 'messages-browser-'));
  process.on('exit', () => rmSync(profile, { recursive: true, force: true }));
  mkdirSync(join(profile, 'Default'));
  const preferences = { profile: { cookie_controls_mode: 0, block_third_party_cookies: false } };
  writeFileSync(join(profile, 'Default/Preferences'), JSON.stringify(preferences));
  const features = '--disable-features=LocalNetworkAccessChecks,BlockInsecurePrivateNetworkRequests';
  return chromium.launchPersistentContext(profile, { ...OPTIONS, ...DESK, args: [...OPTIONS.args, features] });
}

/** Opens a page in a window and signs in with a token; `consoleErrors` collects the errors of its console. */
export async function openWindow(browser, address, token, consoleErrors, options = DESK) {
  const context = await browser.newContext(options);
  context.setDefaultTimeout(WAIT_MS);
  const page = await context.newPage();
  page.on('console', (line) => {
    if (line.type() === 'error') consoleErrors.push(line.text());
  });
  page.on('pageerror', (error) => consoleErrors.push(error.stack ?? error.message));
  await page.goto(new URL(token ? `#token=${encodeURIComponent(token)}` : '', address).href);
  if (token) await live(page);
  return page;
}

/** Waits until the page is live. */
export const live = (page) => page.locator('[data-testid="connection"][data-state="live"]').waitFor({ state: 'attached' });
