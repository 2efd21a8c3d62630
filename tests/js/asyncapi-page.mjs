// The page of the AsyncAPI document in a browser: it shows every message, loads nothing else, and is accessible.
//
// node asyncapi-page.mjs BASE_URL
// Prints {"ok":true}, or {"ok":false, error} and exits with 1.
// CHROMIUM names the browser (default /usr/bin/chromium).

import { readFileSync } from 'node:fs';
import { createRequire } from 'node:module';
import { launch } from './browser.mjs';

const AXE = readFileSync(createRequire(import.meta.url).resolve('axe-core/axe.min.js'), 'utf8');
const [base] = process.argv.slice(2);
const requests = [];
const errors = [];
const browser = await launch();
try {
  const { components, operations } = await (await fetch(`${base}/asyncapi.json`)).json();
  const page = await browser.newPage();
  page.on('request', (request) => requests.push(request.url()));
  page.on('console', (line) => { if (line.type() === 'error') errors.push(line.text()); });
  await page.goto(`${base}/asyncapi`);

  const shown = await page.locator('article h4').allTextContents();
  const missing = Object.values(components.messages).map(({ name }) => name).filter((name) => !shown.includes(name));
  if (missing.length) throw new Error(`the page doesn't show ${missing.join(', ')}`);
  const titles = await page.locator('h3').allTextContents();
  const untitled = Object.values(operations).map(({ title }) => title).filter((title) => !titles.includes(title));
  if (untitled.length) throw new Error(`the page doesn't show ${untitled.join(', ')}`);
  const fields = await page.locator('article', { hasText: 'MESSAGE_SENT' }).locator('td code').allTextContents();
  if (!fields.includes('data.attachments[].url')) throw new Error(`a field within another is missing: ${fields}`);

  const foreign = requests.filter((url) => url !== `${base}/asyncapi` && !url.startsWith('data:'));
  if (foreign.length) throw new Error(`the page loads ${foreign.join(', ')}`);
  await page.evaluate(AXE);
  const { violations } = await page.evaluate(() => window.axe.run(document, { resultTypes: ['violations'] }));
  if (violations.length) throw new Error(violations.map(({ id, help }) => `${id}: ${help}`).join('\n'));
  if (errors.length) throw new Error(`the console has errors: ${errors.join('\n')}`);
  console.log(JSON.stringify({ ok: true }));
} catch (error) {
  console.log(JSON.stringify({ ok: false, error: error.message }));
  process.exitCode = 1;
} finally {
  await browser.close();
}
