// The page of a brief frontend: it calls with fetch, a method and a body alone, opens a socket without options, and has
// four handlers. It is signed in by a session cookie, which it can't read.

import { readFileSync } from 'node:fs';
import { createRequire } from 'node:module';
import { WAIT_MS } from './browser.mjs';

const SOCKET_IO = readFileSync(createRequire(import.meta.url).resolve('socket.io-client/dist/socket.io.js'), 'utf8');
const HTML = `<!doctype html>
<title>A frontend</title>
<script src="/frontend/socket.io.js"></script>
<script>
  const received = [];
  const sockets = [];
  function listen() {
    const socket = io();
    sockets.push(socket);
    socket.on('message:new', (message) => received.push({ name: 'message:new', payload: message }));
    socket.on('message:edited', (edit) => received.push({ name: 'message:edited', payload: edit }));
    socket.on('message:deleted', (deletion) => received.push({ name: 'message:deleted', payload: deletion }));
    socket.on('typing:start', (typing) => received.push({ name: 'typing:start', payload: typing }));
    // For the test alone: from here on, nothing is missed.
    return new Promise((ready) => { socket.on('connection:ready', ({ userId }) => ready(userId)); });
  }
  async function call(url, method, body) {
    const response = await fetch(url, { method, body: JSON.stringify(body) });
    return { status: response.status, body: await response.json() };
  }
</script>`;

/** Gives a browser context the session cookie of a user at `base`. */
export async function signIn(context, base, token, attributes = { sameSite: 'Lax' }) {
  context.setDefaultTimeout(WAIT_MS);
  const domain = new URL(base).hostname;
  await context.addCookies([{ name: 'session', value: token, domain, path: '/', httpOnly: true, ...attributes }]);
}

/** Opens the page at an origin, where nothing else needs to listen. */
export async function openFrontend(context, origin) {
  await context.route(`${origin}/frontend/**`, (route) => route.fulfill(
    route.request().url().endsWith('.js')
      ? { contentType: 'text/javascript', body: SOCKET_IO }
      : { contentType: 'text/html; charset=utf-8', body: HTML },
  ));
  const page = await context.newPage();
  await page.goto(`${origin}/frontend/`);
  return page;
}
