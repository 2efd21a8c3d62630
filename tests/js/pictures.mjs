// Takes the pictures of the page in docs/pictures, in both sizes and both themes, from a system that runs in development
// mode and has no messages yet.
//
// node pictures.mjs BASE_URL [FOLDER]

import { mkdirSync } from 'node:fs';
import { join } from 'node:path';
import { DESK, PHONE as PHONE_SIZE, launch, live, openWindow } from './browser.mjs';

const [base = 'http://127.0.0.1:8080', folder = join(import.meta.dirname, '../../docs/pictures')] = process.argv.slice(2);

/** A compromise between a sharp picture and a small file. */
const PHONE = { ...PHONE_SIZE, deviceScaleFactor: 1.5 };

const tokens = new Map();

async function tokenOf(user) {
  if (!tokens.has(user)) {
    const headers = { 'Content-Type': 'application/json' };
    const answer = await fetch(`${base}/development/token`, { method: 'POST', headers, body: JSON.stringify({ user }) });
    tokens.set(user, (await answer.json()).data.token);
  }
  return tokens.get(user);
}

async function act(user, body) {
  const headers = { 'Content-Type': 'application/json', Authorization: `Bearer ${await tokenOf(user)}` };
  const answer = await fetch(`${base}/api/messages`, { method: 'POST', headers, body: JSON.stringify(body) });
  if (!answer.ok) throw new Error(await answer.text());
  return (await answer.json()).data;
}

const startConversation = (user, participantIds, title) => act(user, { action: 'conversation', participantIds, ...(title ? { title } : {}) });
const send = (user, conversation, content, replyTo) =>
  act(user, { conversationId: conversation.id, content, ...(replyTo ? { replyToId: replyTo.id } : {}) });
const react = (user, message, emoji) => act(user, { action: 'reaction', messageId: message.id, emoji });

/** Creates the conversations that the pictures show. */
async function createConversations() {
  const team = await startConversation('alice', ['bob', 'carol', 'ada'], 'Design crew');
  await send('ada', team, 'Slides for Thursday are in the shared folder');
  const lunch = await startConversation('carol', ['alice']);
  await send('carol', lunch, 'Lunch at the usual place?');
  await send('alice', lunch, 'Yes! Half past twelve');
  const landlord = await startConversation('erin', ['alice']);
  await send('erin', landlord, 'The parcel is with the neighbours downstairs');
  const bob = await startConversation('alice', ['bob']);
  await send('bob', bob, 'Did you see the lake is frozen over?');
  await send('alice', bob, 'No way. Skates it is');
  await send('bob', bob, 'I am already looking for mine');
  const hike = await startConversation('alice', ['bob', 'carol', 'dan'], 'Weekend hike');
  await send('bob', hike, 'The forecast changed: Saturday is dry all day, Sunday is not');
  await send('bob', hike, 'So Saturday?');
  const plan = await send('carol', hike, 'Saturday works. There is a train at 8:14 that gets us to the trailhead by half past nine');
  await react('alice', plan, '👍');
  await react('bob', plan, '👍');
  await react('dan', plan, '🎉');
  await send('alice', hike, 'Perfect, I can bring the big thermos 🫖');
  await send('alice', hike, '@dan do you still have the map from last year?');
  const map = await send('dan', hike, 'Somewhere. I will dig it out tonight');
  await send('dan', hike, 'Found it, coffee stains and all. The northern loop is 14 km, about five hours with a long break at the hut');
  const answer = await send('alice', hike, 'You are the best', map);
  await react('dan', answer, '❤️');
  await send('carol', hike, 'Then it is settled. @alice can you book the four seats?');
  const done = await send('alice', hike, 'Done, coach 7, seats 21 to 24');
  await react('carol', done, '🎉');
  await react('bob', done, '❤️');
  for (const user of ['bob', 'carol', 'dan']) await act(user, { action: 'mark_read', conversationId: hike.id, messageId: done.id });
  return hike;
}

async function takePicture(browser, hike, name, size, colorScheme) {
  const consoleErrors = [];
  const page = await openWindow(browser, base, await tokenOf('alice'), consoleErrors, { ...size, colorScheme, locale: 'en-GB' });
  await page.locator(`[data-testid="conversation"][data-id="${hike.id}"]`).click();
  await page.getByTestId('message').filter({ hasText: 'seats 21 to 24' }).waitFor();
  await page.waitForTimeout(1_500);
  await act('carol', { action: 'typing_start', conversationId: hike.id });
  await page.getByTestId('typing').getByText('typing').waitFor();
  await page.mouse.move(5, 5);
  await page.waitForTimeout(300);
  await page.screenshot({ path: join(folder, `${name}-${colorScheme}.png`) });
  await page.context().close();
  if (consoleErrors.length > 0) throw new Error(consoleErrors.join('\n'));
}

mkdirSync(folder, { recursive: true });
const browser = await launch();
try {
  const hike = await createConversations();
  const others = [];
  for (const user of ['bob', 'carol', 'dan']) others.push(await openWindow(browser, base, await tokenOf(user), []));
  await Promise.all(others.map(live));
  for (const colorScheme of ['light', 'dark']) {
    await takePicture(browser, hike, 'desk', DESK, colorScheme);
    await takePicture(browser, hike, 'phone', PHONE, colorScheme);
  }
} finally {
  await browser.close();
}
