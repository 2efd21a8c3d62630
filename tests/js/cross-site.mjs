// A page of some origin tries everything that a page can do with the cookie of a user: on the server's own origin all of
// it works, from any other origin nothing does.
//
// node cross-site.mjs BASE_URL TOKEN ORIGIN CONVERSATION MESSAGE OWN|FOREIGN
// page.mjs describes the output. MESSAGE is one of the user's, which the page edits and deletes.

import { isDeepStrictEqual } from 'node:util';
import { openFrontend, signIn } from './brief-page.mjs';
import { launchPermissive } from './browser.mjs';
import { arguments_, assert, run, step } from './page.mjs';

const [base, token, origin, conversationId, messageId, kind] =
  arguments_('cross-site.mjs BASE_URL TOKEN ORIGIN CONVERSATION MESSAGE OWN|FOREIGN', 6);

/** What each attempt comes to: a status that the page can read, `opaque` where it can't, and `failed` without either. */
const EXPECTED = {
  OWN: { read: 200, send: 201, sendBlindly: 201, edit: 200, delete: 200, websocket: 'connected', polling: 'connected' },
  FOREIGN: {
    read: 'failed', send: 'failed', sendBlindly: 'opaque', edit: 'failed', delete: 'failed',
    websocket: 'websocket error', polling: 'xhr poll error',
  },
};

/** Runs in the page. */
async function attempt({ base, conversationId, messageId }) {
  const body = JSON.stringify({ conversationId, content: `from ${location.origin}`, messageType: 'TEXT' });
  const request = (path, init) => fetch(base + path, { credentials: 'include', ...init }).then(
    ({ type, status }) => (type === 'opaque' ? type : status), () => 'failed');
  const open = (transport) => new Promise((done) => {
    const options = { withCredentials: true, transports: [transport], forceNew: true, reconnection: false };
    const socket = io(base, options);
    socket.on('connect_error', ({ message }) => done(message));
    socket.on('connection:ready', () => {
      socket.disconnect();
      done('connected');
    });
  });
  return {
    read: await request('/api/messages', {}),
    send: await request('/api/messages', { method: 'POST', body }),
    sendBlindly: await request('/api/messages', { method: 'POST', body, mode: 'no-cors' }),
    edit: await request(`/api/messages/${messageId}`, { method: 'PATCH', body: '{"content":"edited"}' }),
    delete: await request(`/api/messages/${messageId}`, { method: 'DELETE' }),
    websocket: await open('websocket'),
    polling: await open('polling'),
  };
}

/** Submits a form whose body, `name=value`, is JSON. Runs in the page; returns when the response has arrived. */
function submitForm({ base, conversationId }) {
  const frame = document.createElement('iframe');
  frame.name = 'response';
  const form = document.createElement('form');
  Object.assign(form, { method: 'post', enctype: 'text/plain', target: 'response', action: `${base}/api/messages` });
  const field = document.createElement('input');
  field.name = `{"conversationId":"${conversationId}","messageType":"TEXT","content":"a form of ${location.origin}`;
  field.value = '"}';
  form.append(field);
  document.body.append(frame, form);
  form.submit();
}

async function story(context) {
  await signIn(context, base, token, { sameSite: 'None', secure: true }); // such a cookie is sent from every site
  const page = await step('a page opens', () => openFrontend(context, origin));
  await step('it tries to read, to write and to listen', async () => {
    const outcome = await page.evaluate(attempt, { base, conversationId, messageId });
    assert(isDeepStrictEqual(outcome, EXPECTED[kind]), JSON.stringify(outcome));
  });
  await step('it submits a form', async () => {
    const answered = page.waitForResponse((response) => response.request().isNavigationRequest());
    await page.evaluate(submitForm, { base, conversationId });
    const status = (await answered).status();
    assert(status === (kind === 'OWN' ? 201 : 403), `${status}`);
  });
}

await run(story, [token], launchPermissive);
