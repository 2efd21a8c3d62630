// Takes the pictures of the admin page in docs/pictures, in both sizes and both themes, from a system that runs in
// development mode. The figures are those of admin-data.mjs: a system that just began has no hour to plot.
//
// node admin-pictures.mjs BASE_URL [FOLDER]

import { mkdirSync } from 'node:fs';
import { join } from 'node:path';
import { endedJobs, job, swapped } from './admin-data.mjs';
import { Mock } from './admin-mock.mjs';
import { DESK, PHONE as PHONE_SIZE, launch } from './browser.mjs';

const [base = 'http://127.0.0.1:8080', folder = join(import.meta.dirname, '../../docs/pictures')] = process.argv.slice(2);

/** A compromise between a sharp picture and a small file. */
const PHONE = { ...PHONE_SIZE, deviceScaleFactor: 1.5 };

const minutesAgo = (minutes) => new Date(Date.now() - minutes * 60_000).toISOString();

/** A rebuild under way, after one that swapped. */
function jobs() {
  const running = job(5, {
    status: 'running', requestedBy: 'mira', requestedAt: minutesAgo(1), startedAt: minutesAgo(1), endedAt: null,
    step: { name: 'reading the log', unit: 'records', done: 611_830, total: 960_112 },
  });
  return [running, job(4, { outcome: { ...swapped, generation: 4 } }), ...endedJobs()];
}

async function takePicture(browser, section, name, size, colorScheme) {
  const consoleErrors = [];
  const context = await browser.newContext({ ...size, colorScheme, locale: 'en-GB' });
  const page = await context.newPage();
  page.on('console', (line) => { if (line.type() === 'error') consoleErrors.push(line.text()); });
  const mock = new Mock();
  mock.jobs = jobs();
  await mock.answer(page);
  await page.goto(`${base}/admin#${section}`);
  await page.getByTestId('continue-as-admin').click();
  await page.locator('[data-testid="connection"][data-state="live"]').waitFor({ state: 'attached' });
  await page.mouse.move(5, 5);
  await page.waitForTimeout(1_000);
  await page.screenshot({ path: join(folder, `${name}-${colorScheme}.png`) });
  await context.close();
  if (consoleErrors.length > 0) throw new Error(consoleErrors.join('\n'));
}

mkdirSync(folder, { recursive: true });
const browser = await launch();
try {
  for (const colorScheme of ['light', 'dark']) {
    await takePicture(browser, 'overview', 'admin-desk', DESK, colorScheme);
    await takePicture(browser, 'overview', 'admin-phone', PHONE, colorScheme);
    await takePicture(browser, 'jobs', 'admin-jobs', DESK, colorScheme);
  }
} finally {
  await browser.close();
}
