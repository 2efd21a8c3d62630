// A frontend that is as brief as it can be: what alice does on her page arrives in the handlers of bob's. Then the client
// library, on a page of the same origin with the same cookie.
//
// node brief-frontend.mjs BASE_URL TOKEN_A TOKEN_B USER_A USER_B CONVERSATION
// page.mjs describes the output.

import { isDeepStrictEqual } from 'node:util';
import { openFrontend, signIn } from './brief-page.mjs';
import { DESK } from './browser.mjs';
import { arguments_, assert, run, step, until } from './page.mjs';

const [base, tokenA, tokenB, nameA, nameB, conversationId] =
  arguments_('brief-frontend.mjs BASE_URL TOKEN_A TOKEN_B USER_A USER_B CONVERSATION', 6);

function assertEqual(actual, expected) {
  assert(isDeepStrictEqual(actual, expected), `${JSON.stringify(actual)} isn’t ${JSON.stringify(expected)}`);
}

/** Lets a page call the API; returns `data` where the status is the expected one. */
async function call(page, status, ...request) {
  const response = await page.evaluate((given) => call(...given), request);
  assert(response.status === status, `${request[1]}: ${JSON.stringify(response)}`);
  return response.body.data;
}

/** Takes the next event of a page's handlers, which must have this name; returns its payload. */
async function next(page, name) {
  await until(`the handler of ${name} was called`, () => page.evaluate(() => received.length > 0));
  const event = await page.evaluate(() => received.shift());
  assertEqual(event.name, name);
  return event.payload;
}

async function fiveCalls(alice, bob) {
  await step('alice starts to type, and bob learns it', async () => {
    await call(alice, 202, '/api/messages', 'POST', { action: 'typing_start', conversationId });
    assertEqual(await next(bob, 'typing:start'), { userId: nameA, conversationId });
  });
  const { id } = await step('alice sends a message, and bob gets it', async () => {
    const content = 'a brief „é“ 👍';
    const sent = await call(alice, 201, '/api/messages', 'POST', { conversationId, content, messageType: 'TEXT' });
    assertEqual([sent.content, sent.messageType, sent.senderId], [content, 'TEXT', nameA]);
    const { position, ...message } = await next(bob, 'message:new');
    assertEqual(message, sent);
    assert(/^\d+:\d+$/.test(position), position);
    return sent;
  });
  await step('alice adds a reaction', async () => {
    const body = { action: 'reaction', messageId: id, emoji: '👍', reaction: 'add' };
    assertEqual(await call(alice, 201, '/api/messages', 'POST', body), { messageId: id, emoji: '👍', label: null });
  });
  await step('alice edits the message, and bob gets the edit', async () => {
    const edit = await call(alice, 200, `/api/messages/${id}`, 'PATCH', { content: 'edited' });
    assertEqual(edit, { id, conversationId, content: 'edited', mentions: [], editedAt: edit.editedAt });
    assertEqual(await next(bob, 'message:edited'), edit);
  });
  await step('alice deletes the message, and bob gets the deletion', async () => {
    const { deletedAt } = await call(alice, 200, `/api/messages/${id}`, 'DELETE');
    assertEqual(await next(bob, 'message:deleted'), { messageId: id, conversationId, deletedAt });
  });
}

/** The client library on the chat page's own origin, which has its files. */
async function withLibrary(context, bob) {
  const page = await context.newPage();
  await page.goto(base);
  await step('the library signs in by the cookie, and learns who the user is', async () => {
    const me = await page.evaluate(async () => {
      const { connect } = await import('/web/client/index.js');
      window.client = connect({ url: location.origin });
      await window.client.ready;
      return window.client.me;
    });
    assertEqual(me, nameA);
  });
  await step('a message of the library arrives', async () => {
    await page.evaluate((id) => window.client.send(id, 'from the library'), conversationId);
    assertEqual((await next(bob, 'message:new')).content, 'from the library');
  });
  await step('without the cookie, the library ends as with a refused token', async () => {
    await context.clearCookies();
    const code = await page.evaluate(async () => {
      await window.client.close();
      const { connect } = await import('/web/client/index.js');
      return connect({ url: location.origin }).ready.catch((error) => `${error.status} ${error.code}`);
    });
    assertEqual(code, '401 missing_token');
  });
}

async function story(browser) {
  const requests = [];
  const [alice, bob] = await step('alice and bob open their pages', async () => {
    const pages = [];
    for (const [token, name] of [[tokenA, nameA], [tokenB, nameB]]) {
      const context = await browser.newContext(DESK);
      await signIn(context, base, token);
      const page = await openFrontend(context, base);
      page.on('request', (request) => requests.push(request));
      assertEqual(await page.evaluate(() => listen()), name);
      assertEqual(await page.evaluate(() => document.cookie), '');
      pages.push(page);
    }
    return pages;
  });
  await fiveCalls(alice, bob);
  await step('the pages sent no header of their own', async () => {
    const calls = requests.filter((request) => request.url().includes('/api/'));
    const types = await Promise.all(calls.map(async (request) => {
      const { authorization, 'content-type': type } = await request.allHeaders();
      return [request.method(), authorization, type];
    }));
    const text = 'text/plain;charset=UTF-8';
    assertEqual(types, ['POST', 'POST', 'POST', 'PATCH', 'DELETE'].map(
      (method) => [method, undefined, method === 'DELETE' ? undefined : text]));
  });
  await withLibrary(alice.context(), bob);
}

await run(story, [tokenA, tokenB]);
