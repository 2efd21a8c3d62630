// Records what HTTP answers every user after a run: their list, each conversation, and each conversation's messages.

import { request } from './http-user.mjs';

const wait = (ms) => new Promise((done) => { setTimeout(done, ms); });
/** How many pages are read at a time. */
const CONCURRENT = 4;
/** How often a request is repeated that isn't answered, before its status is recorded. */
const ATTEMPTS = 60;

async function get(user, path) {
  let response;
  for (let attempt = 0; attempt < ATTEMPTS; attempt += 1) {
    response = await request(user, 'GET', path);
    if (response.status !== 0 && response.status < 500) break;
    await wait(500);
  }
  return response;
}

/** All pages of a list as one answer. */
async function allPages(user, path) {
  const data = [];
  let cursor = '';
  for (;;) {
    const { status, body } = await get(user, `${path}${cursor}`);
    if (status !== 200) return { status, cache: null, data: null };
    data.push(...body.data);
    if (!body.page.nextCursor) return { status, cache: 'pages', data };
    cursor = `&cursor=${encodeURIComponent(body.page.nextCursor)}`;
  }
}

async function one(user, path) {
  const { status, body, headers } = await get(user, path);
  return { status, cache: headers.get('X-Cache'), data: body?.data };
}

/** The first reader of a conversation reads all of its messages; each reads the first page, twice. */
export async function recordAnswers(users, recorder) {
  const whole = new Set();
  const waiting = [...users];
  const work = async () => {
    for (let user = waiting.pop(); user; user = waiting.pop()) await recordUser(user, recorder, whole);
  };
  await Promise.all(Array.from({ length: CONCURRENT }, work));
}

async function recordUser(user, recorder, whole) {
  const record = (about, id, answer) => recorder.write('answers', { user: user.user, about, id, ...answer });
  const list = await allPages(user, '/api/messages?limit=100');
  record('conversations', null, list);
  for (const attempt of ['once', 'again']) {
    record('firstConversations', null, await one(user, '/api/messages'));
    for (const { id } of list.data ?? []) {
      record('conversation', id, await one(user, `/api/conversations/${id}`));
      record('firstPage', id, await one(user, `/api/messages?conversationId=${id}`));
      if (attempt === 'again' || whole.has(id)) continue;
      whole.add(id);
      record('messages', id, await allPages(user, `/api/messages?conversationId=${id}&limit=100`));
    }
  }
}
