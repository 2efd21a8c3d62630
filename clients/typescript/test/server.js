// What the tests need of a server: where it is, tokens for anyone, and a way to it that can be cut.
//
// MESSAGES_URL says where it is, MESSAGES_SECRET its AUTH_JWT_SECRET.

import { createHmac, randomUUID } from 'node:crypto';
import { connect as dial, createServer } from 'node:net';
import { connect } from '../dist/index.js';

export const URL_OF_SERVER = process.env.MESSAGES_URL ?? 'http://127.0.0.1:8080';
const SECRET = process.env.MESSAGES_SECRET ?? '';

/** A token for a user, good for so many seconds. */
export function token(user, seconds = 3600) {
  const encode = (value) => Buffer.from(JSON.stringify(value)).toString('base64url');
  const signed = `${encode({ alg: 'HS256', typ: 'JWT' })}.${encode({ sub: user, exp: Math.floor(Date.now() / 1000) + seconds })}`;
  return `${signed}.${createHmac('sha256', SECRET).update(signed).digest('base64url')}`;
}

/** A user whom nobody had before. */
export const someone = (name) => `${name}-${randomUUID().slice(0, 8)}`;

/** A client that is ready; closed when the test ends. */
export async function ready(test, user, url = URL_OF_SERVER) {
  const client = connect({ url, token: token(user) });
  test.after(() => client.close());
  await client.ready;
  return client;
}

/** Waits until something holds, ten seconds at most, and gives it. */
export async function until(what, holds) {
  for (const deadline = Date.now() + 10_000; ;) {
    const value = holds();
    if (value) return value;
    if (Date.now() > deadline) throw new Error(`not within ten seconds: ${what}`);
    await new Promise((done) => { setTimeout(done, 20); });
  }
}

/** A way to the server that can be cut: nothing gets through, and what was open ends. */
export async function way(test) {
  const { hostname, port } = new URL(URL_OF_SERVER);
  const open = new Set();
  let down = false;
  const server = createServer((near) => {
    if (down) {
      near.destroy();
      return;
    }
    const far = dial(Number(port), hostname);
    for (const [from, to] of [[near, far], [far, near]]) {
      open.add(from);
      from.pipe(to);
      from.on('error', () => to.destroy());
      from.on('close', () => {
        open.delete(from);
        to.destroy();
      });
    }
  });
  await new Promise((listening) => { server.listen(0, '127.0.0.1', listening); });
  test.after(() => {
    server.close();
    for (const socket of open) socket.destroy();
  });
  return {
    url: `http://127.0.0.1:${server.address().port}`,
    cut() {
      down = true;
      for (const socket of open) socket.destroy();
    },
    mend() { down = false; },
  };
}
