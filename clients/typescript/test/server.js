// What the tests need of a server: its address, tokens for any user, and a proxy that can cut the network.
//
// MESSAGES_URL is the server's address, MESSAGES_SECRET its AUTH_JWT_SECRET.

import { createHmac, randomUUID } from 'node:crypto';
import { connect as connectSocket, createServer } from 'node:net';
import { connect } from '../dist/index.js';

export const SERVER_URL = process.env.MESSAGES_URL ?? 'http://127.0.0.1:8080';
const SECRET = process.env.MESSAGES_SECRET ?? '';

/** A token of a user, valid for some seconds. */
export function token(user, seconds = 3600) {
  const encode = (value) => Buffer.from(JSON.stringify(value)).toString('base64url');
  const payload = { sub: user, exp: Math.floor(Date.now() / 1000) + seconds };
  const signed = `${encode({ alg: 'HS256', typ: 'JWT' })}.${encode(payload)}`;
  return `${signed}.${createHmac('sha256', SECRET).update(signed).digest('base64url')}`;
}

/** A user name that no other test uses. */
export const uniqueUser = (name) => `${name}-${randomUUID().slice(0, 8)}`;

/** A client that is ready; it is closed when the test ends. */
export async function readyClient(test, user, url = SERVER_URL) {
  const client = connect({ url, token: token(user) });
  test.after(() => client.close());
  await client.ready;
  return client;
}

/** Waits until a condition holds, up to ten seconds or as long as the test says, and returns its value. */
export async function until(description, condition, seconds = 10) {
  for (const deadline = Date.now() + seconds * 1000; ;) {
    const value = condition();
    if (value) return value;
    if (Date.now() > deadline) throw new Error(`not within ${seconds} seconds: ${description}`);
    await new Promise((resolve) => { setTimeout(resolve, 20); });
  }
}

/**
 * A proxy in front of the server. `cut` ends all connections and refuses new ones, `restore` accepts them again.
 * `deaden` lets all connections go dead: they stay open, but whatever is sent on them vanishes. New ones work.
 */
export async function proxy(test) {
  const { hostname, port } = new URL(SERVER_URL);
  const sockets = new Set();
  let down = false;
  const server = createServer((client) => {
    if (down) {
      client.destroy();
      return;
    }
    const upstream = connectSocket(Number(port), hostname);
    for (const [from, to] of [[client, upstream], [upstream, client]]) {
      sockets.add(from);
      from.pipe(to);
      from.on('error', () => to.destroy());
      from.on('close', () => {
        sockets.delete(from);
        to.destroy();
      });
    }
  });
  await new Promise((listening) => { server.listen(0, '127.0.0.1', listening); });
  test.after(() => {
    server.close();
    for (const socket of sockets) socket.destroy();
  });
  return {
    url: `http://127.0.0.1:${server.address().port}`,
    cut() {
      down = true;
      for (const socket of sockets) socket.destroy();
    },
    restore() { down = false; },
    deaden() {
      for (const socket of sockets) {
        socket.unpipe();
        socket.resume(); // reads on, and throws away what it reads
      }
    },
  };
}
