// The admin page shows jobs, nodes, plots and a conversation as the API tells of them, with answers of a mock.
//
// node admin-jobs.mjs BASE_URL ADMIN_TOKEN
// page.mjs describes the output.

import { readFileSync } from 'node:fs';
import * as data from './admin-data.mjs';
import { Mock } from './admin-mock.mjs';
import { Person, arguments_, assert, assertUndisturbed, run, step, until } from './page.mjs';

const [base, adminToken] = arguments_('admin-jobs.mjs BASE_URL ADMIN_TOKEN', 2);
/** How old what the page shows may be, in milliseconds. */
const MAX_AGE_MS = 2_000;

async function overview(a, mock) {
  await step('the overview shows lag, nodes, health, partitions and generations', async () => {
    await a.get('lag').getByText('3 events').waitFor();
    await a.get('nodes').getByText('812', { exact: true }).waitFor();
    await a.get('health').getByText('Everything works').waitFor();
    assert(await a.get('partitions').locator('tbody tr').count() === 8, 'a partition is missing');
    await a.get('generations').getByText('live', { exact: true }).waitFor();
  });
  await step('plots of the last hour say the same in words', async () => {
    await a.get('plot-lag-summary').getByText('now, at most').waitFor();
    assert(await a.page.locator('.plot .line').count() === 4, 'a line is missing');
  });
  await step('a change is shown within two seconds', async () => {
    const since = new Date().toISOString();
    mock.status = () => data.status({ lag: 1_234, sockets: 5_678, checks: { redis: { status: 'half_works', since, detail: 'it is full' } } });
    const startedAt = performance.now();
    await a.get('lag').getByText('1,234 events').waitFor();
    await a.get('nodes').getByText('5,678', { exact: true }).waitFor();
    await a.get('health').getByText('redis half works').waitFor();
    await a.get('checks').getByText('it is full').waitFor();
    const ageMs = performance.now() - startedAt;
    assert(ageMs <= MAX_AGE_MS, `it took ${Math.round(ageMs)} ms`);
  });
  await step('without an answer the page says so and since when, and goes on by itself', async () => {
    mock.isGone = true;
    await a.get('banner').getByText('The server hasn’t answered since').waitFor();
    assert(await a.get('lag').isVisible(), 'what was known is gone');
    mock.isGone = false;
    await a.get('banner').waitFor({ state: 'hidden' });
  });
}

async function jobs(a, mock) {
  const newest = a.get('job').first();
  await a.get('nav-jobs').click();
  await step('the history says what came of each job', async () => {
    await newest.getByText('The rows differ in 2 conversations. Nothing was changed.').waitFor();
    await newest.locator('summary').click();
    await newest.getByTestId('first-differences').getByText('content is "hallo", must be "hi"').waitFor();
    await newest.getByTestId('job-differences').getByText('reactions').waitFor();
    await a.get('job').nth(1).getByText('It failed: the topic lacks its first records').waitFor();
    await a.get('job').nth(2).getByText('It was cancelled.').waitFor();
  });
  await step('a rebuild begins after a dialog that says what will happen', async () => {
    await a.get('start-rebuild').click();
    await a.get('confirmation').getByText('projectors stand still for some milliseconds').waitFor();
    await a.get('confirmation-cancel').click();
    assert(mock.actions.length === 0, 'Cancel began it');
    await a.get('start-rebuild').click();
    await a.get('confirmation-submit').click();
    await newest.getByText('Rebuild 4', { exact: true }).waitFor();
    assert(JSON.stringify(mock.actions) === '[{"path":"jobs","body":{"kind":"rebuild"}}]', JSON.stringify(mock.actions));
  });
  await step('its progress is shown', async () => {
    mock.update({ status: 'running', startedAt: new Date().toISOString(), runner: 'node-1', attempts: 1, step: { name: 'reading the log', unit: 'records', done: 480_056, total: 960_112 } });
    await newest.getByText('Reading the log: 480,056 of 960,112 records (50 %).').waitFor();
    const progress = newest.getByTestId('job-progress');
    assert(await progress.evaluate(({ value, max }) => value / max) === 0.5, 'the bar is elsewhere');
    await a.get('announcer').getByText('reading the log').waitFor({ state: 'attached' });
  });
  await step('a second job is refused while it runs', async () => {
    await a.get('start-verify').click({ force: true }); // it is marked as disabled, but says why
    await a.get('toast').getByText('Another job waits or runs.').waitFor();
  });
  await step('its outcome says that the generation is in use, and how long projectors stood still', async () => {
    mock.update({ status: 'done', step: null, endedAt: new Date().toISOString(), outcome: data.swapped });
    await newest.getByText('Generation 5 is in use.').waitFor();
    await newest.getByText('Projectors stood still for 38 ms.').waitFor();
    await a.get('announcer').getByText('Rebuild 4 is done').waitFor({ state: 'attached' });
  });
  await step('a job that runs is cancelled', async () => {
    await a.get('start-dryRun').click();
    await a.get('confirmation-submit').click();
    await newest.getByText('Dry run 5', { exact: true }).waitFor();
    await newest.getByTestId('cancel-job').click();
    await a.get('confirmation-submit').click();
    await newest.getByTestId('job-status').getByText('cancelling').waitFor();
    mock.update({ status: 'cancelled', endedAt: new Date().toISOString() });
    await newest.getByText('It was cancelled. Nothing was changed.').waitFor();
  });
}

async function conversation(a, mock) {
  await a.get('nav-conversation').click();
  await step('an unknown id is refused in words', async () => {
    await a.get('conversation-id').fill('407160a2-0000-59a8-9416-f90f967e4c59');
    await a.get('conversation-submit').click();
    await a.get('conversation-error').getByText('No conversation has this id.').waitFor();
  });
  await step('a conversation shows its views, its state and what differs from Postgres', async () => {
    await a.get('conversation-id').fill(data.CONVERSATION);
    await a.page.keyboard.press('Enter');
    await a.get('views').getByText('.content is "hallo", must be').waitFor();
    await a.get('state-verdict').getByText('It differs from the rows in Postgres.').waitFor();
    await a.get('state-differences').getByText('messages seq=1').waitFor();
  });
  await step('its events come page by page, with their envelopes as texts', async () => {
    assert(await a.get('event').count() === 2, 'the first page has two events');
    await a.get('more-events').click();
    await until('all events are shown', async () => await a.get('event').count() === 3);
    await a.get('events-hint').getByText('3 events: all of them.').waitFor();
    await a.get('event').nth(1).locator('summary').click();
    assert((await a.get('event-envelope').textContent()).includes('<b>hi</b>'), 'the text isn’t as it was sent');
    assert(await a.page.locator('b').count() === 0, 'an event became markup');
  });
  await step('an event shows the state after it', async () => {
    await a.get('event').nth(1).getByTestId('state-here').click();
    await a.get('state-verdict').getByText('The state after 6:1.').waitFor();
  });
  await step('its rows are made again after a dialog', async () => {
    await a.get('rebuild-conversation').click();
    await a.get('confirmation-submit').click();
    await a.get('confirmation').waitFor({ state: 'hidden' });
    assert(mock.actions.at(-1).path === `conversations/${data.CONVERSATION}/rebuild`, JSON.stringify(mock.actions.at(-1)));
  });
}

async function story(browser) {
  const a = await step('an admin opens the page', () => Person.enter(browser, `${base}/admin`, 'A', null));
  const mock = new Mock();
  await mock.answer(a.page);
  await a.get('token').fill(adminToken);
  await a.get('token-submit').click();
  await overview(a, mock);
  await jobs(a, mock);
  await conversation(a, mock);
  await step('the whole audit is downloaded as JSON lines', async () => {
    await a.get('nav-audit').click();
    const [download] = await Promise.all([a.page.waitForEvent('download'), a.get('download-audit').click()]);
    assert(/^audit-\d{4}-\d\d-\d\d\.jsonl$/.test(download.suggestedFilename()), download.suggestedFilename());
    const [first] = readFileSync(await download.path(), 'utf8').split('\n');
    assert(JSON.parse(first).action === 'start-job', first);
  });
  await step('the limits in force are listed by what they are about', async () => {
    await a.get('nav-limits').click();
    await a.page.getByRole('heading', { name: 'What a command may contain' }).waitFor();
  });
  await step('the console has no other errors', () => assertUndisturbed([/status of 404/, /ERR_CONNECTION_REFUSED/]));
}

await run(story, [adminToken]);
