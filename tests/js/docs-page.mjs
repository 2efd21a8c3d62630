// The API documentation page in a browser: it lists every operation, and can call one.
//
// node docs-page.mjs BASE_URL TOKEN
// Prints {"ok":true, operations, status}, or {"ok":false, error, console} and exits with 1.
// CHROMIUM names the browser (default /usr/bin/chromium).

import { chromium } from 'playwright-core';

const WAIT_MS = 20_000;
const [base, token] = process.argv.slice(2);
const lines = [];
const browser = await chromium.launch({
  executablePath: process.env.CHROMIUM ?? '/usr/bin/chromium',
  args: process.getuid?.() === 0 ? ['--no-sandbox'] : [],
});
try {
  const page = await browser.newPage();
  page.setDefaultTimeout(WAIT_MS);
  page.on('console', (line) => { if (line.type() === 'error') lines.push(line.text()); });
  page.on('pageerror', (error) => lines.push(error.message));
  await page.goto(`${base}/docs/`);
  await page.locator('.opblock').first().waitFor();
  const operations = await page.locator('.opblock').count();

  await page.locator('button.authorize').first().click();
  const user = page.locator('.modal-ux .auth-container').filter({ has: page.locator('h4 code', { hasText: /^user/ }) });
  await user.locator('input').first().fill(token);
  await user.locator('button.authorize').first().click();
  await page.locator('.modal-ux .close-modal').click();

  const sync = page.locator('#operations-queries-sync');
  await sync.locator('.opblock-summary-control').first().click();
  await sync.locator('.try-out__btn').click();
  await sync.locator('button.execute').click();
  const status = await sync.locator('.live-responses-table tbody .response-col_status').first().textContent();
  if (lines.length) throw new Error('the console has errors');
  console.log(JSON.stringify({ ok: true, operations, status: status.trim() }));
} catch (error) {
  console.log(JSON.stringify({ ok: false, error: error.message, console: lines }));
  process.exitCode = 1;
} finally {
  await browser.close();
}
