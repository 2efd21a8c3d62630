// How requests are retried, without a server: `fetch` is the test's own, and timers end at once.

import assert from 'node:assert/strict';
import { test } from 'node:test';
import { Auth } from '../dist/auth.js';
import { Http } from '../dist/http.js';
import { token } from './server.js';

/** Replaces a global until the test ends. */
function replace(context, object, name, value) {
  const original = object[name];
  object[name] = value;
  context.after(() => { object[name] = original; });
}

/** Records how long each timer runs, and ends it at once. */
function timers(context) {
  const pauses = [];
  replace(context, globalThis, 'setTimeout', (callback, ms) => {
    pauses.push(ms);
    queueMicrotask(callback);
  });
  return pauses;
}

const http = () => new Http('http://server', new Auth(token('alice')), new AbortController().signal, () => undefined);
const get = (retryForMs = Infinity) => ({ method: 'GET', path: '/', retryForMs });

/** Answers so many requests with 503 and these headers, and the others with 200. */
function answer(context, refusals, headers) {
  let requests = 0;
  replace(context, globalThis, 'fetch', async () => {
    requests += 1;
    if (requests > refusals) return new Response('{"data":[]}');
    return new Response('{"code":"unavailable"}', { status: 503, headers });
  });
}

const YEAR_9999 = 'Fri, 31 Dec 9999 23:59:59 GMT';

for (const value of [
  '2592000', '2147484', '1e400', '99999999999999999999', '-5', '-Infinity', '0', '0.0001', 'NaN', '', 'soon', YEAR_9999,
  'Thu, 01 Jan 1970 00:00:00 GMT',
]) {
  test(`a server that says Retry-After: ${value} neither stops nor hurries the client`, async (context) => {
    const pauses = timers(context);
    answer(context, 8, { 'Retry-After': value });
    await http().request(get());
    assert.equal(pauses.length, 8);
    const [least, most] = [Math.min(...pauses), Math.max(...pauses)];
    assert.ok(most <= 75_000 && least >= 0 && pauses.reduce((sum, pause) => sum + pause) >= 2_000, `${pauses} ms`);
    const error = await (answer(context, 1, { 'Retry-After': value }), http().request(get(0))).catch((it) => it);
    const { retryAfter = 0 } = error;
    assert.ok(retryAfter >= 0 && retryAfter <= 86_400, `${retryAfter}`);
  });
}

test('a date in Retry-After counts by the clock of the server', async (context) => {
  const pauses = timers(context);
  answer(context, 1, { 'Retry-After': 'Sun, 06 Nov 1994 08:49:40 GMT', Date: 'Sun, 06 Nov 1994 08:49:37 GMT' });
  await http().request(get());
  assert.ok(pauses[0] >= 3_000 && pauses[0] <= 3_750, `a pause of ${pauses[0]} ms`);
});

test('each attempt ends, the first ones soon: its connection may be dead', async (context) => {
  timers(context);
  const timeouts = [];
  replace(context, AbortSignal, 'timeout', (ms) => {
    timeouts.push(ms);
    return AbortSignal.abort(new Error('timed out'));
  });
  let attempts = 0;
  replace(context, globalThis, 'fetch', async (_, { signal }) => {
    attempts += 1;
    if (attempts > 8) return new Response('{"data":[]}');
    return signal.throwIfAborted();
  });
  await http().request(get());
  assert.deepEqual(timeouts, [4_000, 4_000, 4_000, 4_000, 4_000, 4_000, 8_000, 15_000, 15_000]);
});

test('a token source that never returns fails in time', async (context) => {
  timers(context);
  await assert.rejects(new Auth(() => new Promise(() => undefined)).token(), { code: 'token' });
});

test('an attempt without an answer counts as a part of the pause after it', async (context) => {
  const pauses = timers(context);
  let now = Date.now();
  replace(context, Date, 'now', () => now);
  let attempts = 0;
  replace(context, globalThis, 'fetch', async () => {
    attempts += 1;
    if (attempts > 5) return new Response('{"data":[]}');
    now += 4_000;
    throw new Error('no answer');
  });
  await http().request(get());
  assert.ok(pauses.length === 5 && pauses.every((pause) => pause <= 250), `${pauses} ms`);
});
