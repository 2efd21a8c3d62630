// The admin page while somebody writes and the process dies that serves the page and runs the rebuild.
//
// node admin-rebuild.mjs BASE_URL ADMIN_TOKEN POSITION
// POSITION is that of an open dead letter. The script prints {"please":"kill"} when another process is to take over from the
// one that serves, and {"please":"release"} when rebuilds needn't wait any longer; it reads a line afterwards. page.mjs
// describes the rest of the output.

import { createInterface } from 'node:readline';
import { Person, arguments_, assert, run, step, until } from './page.mjs';

const [base, adminToken, position] = arguments_('admin-rebuild.mjs BASE_URL ADMIN_TOKEN POSITION', 3);

const lines = createInterface({ input: process.stdin })[Symbol.asyncIterator]();
async function please(order) {
  console.log(JSON.stringify({ please: order }));
  await lines.next();
}

const audited = (a, action, target) =>
  a.get('audit').locator('tbody tr').filter({ hasText: action }).filter({ hasText: target }).filter({ hasText: 'done' });

async function story(browser) {
  const a = await step('an admin signs in', () => Person.enter(browser, `${base}/admin`, 'A', adminToken));
  await step('they find the dead letter, and have it retried', async () => {
    await a.get('nav-dead-letters').click();
    await a.get('dead-letters').getByRole('link', { name: position, exact: true }).click();
    await a.get('retry-dead-letter').click();
    await a.get('nav-audit').click();
    await audited(a, 'retry-dead-letter', position).waitFor();
  });
  await step('they start a rebuild', async () => {
    await a.get('nav-jobs').click();
    await a.get('start-rebuild').click();
    await a.get('confirmation-submit').click();
  });
  const job = a.page.locator('[data-testid="job"][data-number="1"]');
  await step('they watch it run', () => job.getByTestId('job-step').filter({ hasText: /\d/ }).waitFor());
  await step('the process dies, and the page goes on at another one', async () => {
    await please('kill');
    await a.get('nav-overview').click();
    await until('the page is live', () => a.page.locator('[data-testid="connection"][data-state="live"]').isVisible());
    await a.get('nav-jobs').click();
    await job.getByTestId('job-progress').waitFor();
    await please('release');
  });
  await step('the rebuild comes to its proven end', async () => {
    await job.getByTestId('job-outcome').filter({ hasText: 'in use' }).waitFor();
    await a.get('nav-overview').click();
    await a.get('figures').getByText('2', { exact: true }).first().waitFor();
  });
  await step('the audit says who started it', async () => {
    await a.get('nav-audit').click();
    await audited(a, 'start-job', 'rebuild').waitFor();
  });
  assert(await a.page.evaluate(() => window.neverReloaded), 'the page was loaded again');
}

await run(story, [adminToken]);
