import assert from 'node:assert/strict';
import { test } from 'node:test';
import { connect, MessagesError } from '../dist/index.js';
import { ready, someone, token, until, URL_OF_SERVER, way } from './server.js';

/** Two people with a conversation. */
async function pair(context, urls = []) {
  const [alice, bob] = [someone('alice'), someone('bob')];
  const [one, other] = await Promise.all([ready(context, alice, urls[0]), ready(context, bob, urls[1])]);
  const { id } = await one.startConversation({ participantIds: [bob] });
  await until('bob has the conversation', () => other.conversation(id));
  return { alice, bob, one, other, id };
}

test('a message is shown at once, confirmed, and is the same for both', async (context) => {
  const { one, other, id, alice } = await pair(context);
  const told = [];
  one.on('message:new', (message) => told.push(message.id));
  const sent = one.send(id, 'hello');
  const [shown] = one.messages(id);
  assert.deepEqual([shown.content, shown.pending, shown.senderId], ['hello', 'sending', alice]);
  const message = await sent;
  assert.equal(message.id, shown.id, 'its id is known before it is sent');
  await until('bob has it', () => other.messages(id).length === 1);
  await until('both know its place', () => [one, other].every((client) => client.message(message.id)?.seq === 1));
  assert.deepEqual(one.message(message.id), other.message(message.id));
  assert.equal(one.message(message.id).pending, undefined);
  assert.deepEqual(told, [message.id], 'told once');
  await until('bob has it unread', () => other.conversation(id).unreadCount === 1);
});

test('edits, deletions, reactions and read marks reach the other side', async (context) => {
  const { one, other, id, bob } = await pair(context);
  const told = [];
  for (const name of ['message:edited', 'reaction:added', 'reaction:removed', 'messages:read', 'message:deleted']) {
    one.on(name, () => told.push(name));
  }
  const { id: first } = await one.send(id, 'frist');
  await one.edit(first, 'first');
  await until('bob sees the edit', () => other.message(first)?.content === 'first');
  await other.react(first, '👍', 'agreed');
  await until('alice sees the reaction', () => one.message(first).reactions[0]?.count === 1);
  assert.deepEqual(one.message(first).reactions, [{ emoji: '👍', label: 'agreed', count: 1, userIds: [bob] }]);
  await other.unreact(first, '👍');
  await until('it is taken back', () => one.message(first).reactions.length === 0);
  await other.markRead(id);
  await until('alice sees how far bob has read', () =>
    one.conversation(id).participants.find(({ userId, lastReadAt }) => userId === bob && lastReadAt)?.lastReadSeq === 1);
  assert.equal(other.conversation(id).unreadCount, 0);
  await one.delete(first);
  await until('bob sees that it is gone', () => other.message(first)?.deletedAt);
  await until('alice was told', () => told.length === 5);
  assert.deepEqual(told, ['message:edited', 'reaction:added', 'reaction:removed', 'messages:read', 'message:deleted']);
});

test('what is sent without a connection waits, and arrives once and in order', async (context) => {
  const line = await way(context);
  const { one, other, id } = await pair(context, [line.url]);
  const told = [];
  other.on('message:new', ({ content }) => told.push(content));
  line.cut();
  await until('alice is offline', () => one.state === 'offline');
  const sent = ['a', 'b', 'c'].map((content) => one.send(id, content));
  assert.deepEqual(one.messages(id).map(({ pending }) => pending), ['sending', 'sending', 'sending']);
  await other.send(id, 'from bob meanwhile');
  line.mend();
  await Promise.all(sent);
  await until('both have all', () => [one, other].every((client) =>
    client.messages(id).length === 4 && client.messages(id).every(({ seq }) => seq)));
  assert.deepEqual(one.messages(id), other.messages(id));
  assert.deepEqual(told, ['from bob meanwhile', 'a', 'b', 'c']);
  await until('alice is live again', () => one.state === 'live');
});

test('what is sent before anything was read is sent all the same', async (context) => {
  const { bob, id } = await pair(context);
  const client = connect({ url: URL_OF_SERVER, token: async () => token(bob) });
  context.after(() => client.close());
  const sent = await client.send(id, 'early');
  await client.ready;
  await until('it has its place', () => client.message(sent.id)?.seq === 1);
  assert.deepEqual(client.messages(id).map(({ content, pending }) => [content, pending]), [['early', undefined]]);
});

test('what is refused fails, stays to be seen, and can be discarded', async (context) => {
  const { one, id } = await pair(context);
  await assert.rejects(one.send(id, 'x'.repeat(4_001)), { name: 'MessagesError', code: 'too_long', status: 422 });
  const [failed] = one.messages(id);
  assert.equal(failed.pending, 'failed');
  assert.ok(failed.error instanceof MessagesError);
  assert.equal(failed.error.errors[0].field, 'content');
  await assert.rejects(one.retry(failed.id), { code: 'too_long' });
  one.discard(failed.id);
  assert.deepEqual(one.messages(id), []);
  await assert.rejects(one.edit(failed.id, 'never there'), { code: 'not_found', status: 404 });
  await assert.rejects(one.retry(failed.id), { code: 'not_failed' });
});

test('history comes in pages, and ends', async (context) => {
  const { alice, one, other, id } = await pair(context);
  for (let i = 1; i <= 27; i += 1) await one.send(id, `one ${i}`);
  for (let i = 1; i <= 27; i += 1) await other.send(id, `other ${i}`);
  await until('all is read', () => one.conversation(id).lastMessage?.seq === 54);
  const later = await ready(context, alice);
  assert.deepEqual(later.messages(id), [], 'what was there before isn’t new');
  assert.deepEqual(later.history(id), { loaded: false, complete: false, loading: false });
  const first = later.loadMessages(id);
  assert.equal(later.history(id).loading, true);
  await first;
  assert.deepEqual(later.messages(id).map(({ seq }) => seq), Array.from({ length: 50 }, (_, i) => i + 5));
  assert.deepEqual(later.history(id), { loaded: true, complete: false, loading: false });
  await later.loadMessages(id);
  assert.deepEqual(later.messages(id).map(({ seq }) => seq), Array.from({ length: 54 }, (_, i) => i + 1));
  assert.equal(later.history(id).complete, true);
  await other.send(id, 'and on');
  await until('the newest follows', () => later.messages(id).at(-1)?.content === 'and on');
});

test('a change to a message that was never loaded is told once it is known', async (context) => {
  const { alice, other, one, id } = await pair(context);
  const { id: old } = await one.send(id, 'old');
  await one.send(id, 'newer');
  await until('all is read', () => one.conversation(id).lastMessage?.seq === 2);
  const later = await ready(context, alice);
  const told = [];
  later.on('message:changed', (message) => told.push(message));
  later.on('message:new', () => told.push('new'));
  await other.react(old, '🎉');
  await until('it is told', () => told.length);
  assert.deepEqual(told.map((message) => [message.id, message.reactions[0].emoji]), [[old, '🎉']]);
  assert.deepEqual(later.messages(id), [], 'it has no place among what is here');
});

test('typing and presence are seen, and pass', async (context) => {
  const { bob, one, other, id } = await pair(context);
  await until('bob is online', () => one.presence(bob)?.status === 'online');
  other.typing(id);
  other.typing(id);
  await until('bob types', () => one.typists(id).includes(bob));
  other.stopTyping(id);
  await until('bob has stopped', () => one.typists(id).length === 0);
  other.close();
  await until('bob is gone', () => one.presence(bob)?.status === 'offline');
});

test('mentions are told to who is mentioned, and those who subscribe are told once for many changes', async (context) => {
  const { alice, bob, one, other, id } = await pair(context);
  const mentions = [];
  let notes = 0;
  other.on('mention:new', ({ senderId }) => mentions.push(senderId));
  const off = other.subscribe(() => { notes += 1; });
  await one.send(id, `hello @${bob}`);
  await until('bob is told', () => mentions.length);
  assert.deepEqual(mentions, [alice]);
  assert.ok(notes > 0);
  off();
});

test('a token that expires is renewed, and the client goes on', async (context) => {
  const user = someone('short');
  let asked = 0;
  const client = connect({
    url: URL_OF_SERVER,
    token: async () => {
      asked += 1;
      if (asked === 2) throw new Error('not at the moment');
      return token(user, asked === 1 ? 12 : 3600);
    },
  });
  context.after(() => client.close());
  await client.ready;
  assert.equal(client.me, user);
  const states = [];
  client.on('trouble', ({ code }) => states.push(code));
  client.on('state', (state) => states.push(state));
  await new Promise((done) => { client.on('state', (state) => state === 'live' && done()); });
  assert.deepEqual(states, ['offline', 'token', 'live'], 'the socket was closed when the token expired, and came back');
  assert.ok(asked > 2);
});

test('while it isn’t live it goes on trying, and says why', async (context) => {
  const user = someone('late');
  let asked = 0;
  const client = connect({
    url: URL_OF_SERVER,
    token: () => {
      asked += 1;
      if (asked < 3) throw new Error('not signed in');
      return token(user);
    },
  });
  context.after(() => client.close());
  const told = [];
  client.on('trouble', ({ code, message }) => told.push([code, message, client.trouble.message]));
  await client.ready;
  const why = 'no access token could be had: not signed in';
  assert.deepEqual(told, [['token', why, why]], 'once, while it stays the same');
  assert.equal(client.trouble, undefined);
  const nowhere = connect({ url: 'http://127.0.0.1:1', token: token(user) });
  await until('nobody is there', () => nowhere.trouble?.code === 'no_answer');
  nowhere.close();
  await assert.rejects(nowhere.ready, { code: 'closed' });
});

test('what is under way is done before it is closed', async (context) => {
  const { one, other, id } = await pair(context);
  const sent = ['and', 'goodbye'].map((content) => one.send(id, content));
  await one.close();
  assert.equal(one.state, 'closed');
  assert.deepEqual((await Promise.all(sent)).map(({ content }) => content), ['and', 'goodbye']);
  await until('bob has both', () => other.messages(id).length === 2);
  await assert.rejects(one.send(id, 'one more'), { code: 'closed', unknown: false });
});

test('what waits for the server says why, and may have been done when closing cuts it off', async (context) => {
  const line = await way(context);
  const { one, id } = await pair(context, [line.url]);
  line.cut();
  await until('alice is offline', () => one.state === 'offline');
  const sent = one.send(id, 'is anybody there?');
  await until('it says why it waits', () => one.messages(id)[0].error?.code === 'no_answer');
  assert.equal(one.messages(id)[0].pending, 'sending');
  await one.close();
  await assert.rejects(sent, { code: 'closed', unknown: true });
});

test('without a good token nothing goes, and it is said why', async () => {
  const client = connect({ url: URL_OF_SERVER, token: `${token('eve').slice(0, -4)}AAAA` });
  const errors = [];
  client.on('error', (error) => errors.push(error.code));
  await assert.rejects(client.ready, { code: 'invalid_token', status: 401 });
  assert.deepEqual([errors, client.state], [['invalid_token'], 'closed']);
  await assert.rejects(client.send('01890a5d-ac96-774b-bcce-b302099a8057', 'x'), { code: 'closed' });
  assert.throws(() => connect({ url: URL_OF_SERVER, token: 'no token' }), { code: 'token' });
});

/** Puts something between the client and the server for one test. */
function between(context, answer) {
  const real = globalThis.fetch;
  context.after(() => { globalThis.fetch = real; });
  globalThis.fetch = (url, init) => answer(() => real(url, init), String(url), init);
}

const problem = (status, code, headers = {}) =>
  new Response(JSON.stringify({ type: 'about:blank', title: code, status, code, detail: code, requestId: 'r' }), { status, headers });

test('an answer that is lost is asked for again, and makes no second message', async (context) => {
  const { one, other, id } = await pair(context);
  const keys = [];
  between(context, async (ask, url, { method, headers }) => {
    const answer = await ask();
    if (method !== 'POST') return answer;
    keys.push(headers['Idempotency-Key']);
    if (keys.length === 1) throw new TypeError('the connection broke');
    return answer;
  });
  await one.send(id, 'once');
  await other.send(id, 'after it');
  assert.equal(keys[0], keys[1], 'under the same key');
  await until('both have two', () => [one, other].every((client) =>
    client.messages(id).length === 2 && client.messages(id).every(({ seq }) => seq)));
  assert.deepEqual(one.messages(id), other.messages(id));
});

test('a server that asks to wait is given the time', async (context) => {
  const { one, id } = await pair(context);
  const at = [];
  between(context, (ask, url, { method }) => {
    if (method !== 'POST') return ask();
    at.push(Date.now());
    return at.length === 1 ? problem(429, 'rate_limited', { 'Retry-After': '1' }) : ask();
  });
  const sent = one.send(id, 'patient');
  await until('it says why it waits', () => one.messages(id)[0].error);
  const { pending, error } = one.messages(id)[0];
  assert.deepEqual([pending, error.code, error.retryAfter], ['sending', 'rate_limited', 1]);
  await sent;
  assert.equal(one.messages(id)[0].error, undefined);
  assert.ok(at[1] - at[0] >= 1_000, `${at[1] - at[0]} ms`);
});

test('where the log is another one all is read anew', async (context) => {
  const { one, other, id } = await pair(context);
  await one.send(id, 'first');
  await one.loadMessages(id);
  let refused = 0;
  const told = [];
  one.on('reset', () => told.push('reset'));
  one.on('error', () => told.push('error'));
  between(context, (ask, url) => {
    if (!url.includes('/sync') || refused) return ask();
    refused += 1;
    return problem(400, 'other_topic');
  });
  await other.send(id, 'second'); // its place is looked up, by whoever is first
  await until('somebody was refused', () => refused);
  await until('both are live', () => [one, other].every(({ state }) => state === 'live'));
  await until('both have all', () => [one, other].every((client) => client.conversation(id)?.lastMessage?.seq === 2));
  assert.ok(!told.includes('error'));
  await one.loadMessages(id);
  assert.deepEqual(one.messages(id).map(({ content }) => content), ['first', 'second']);
});

test('large groups: everyone can be read, and read marks hold', async (context) => {
  const [alice, bob] = [someone('alice'), someone('bob')];
  const others = Array.from({ length: 118 }, (_, i) => `${alice}-friend-${i}`);
  const [one, other] = await Promise.all([ready(context, alice), ready(context, bob)]);
  const group = await one.startConversation({ participantIds: [...others, bob], title: 'Everyone' });
  assert.deepEqual([group.type, group.title, group.participantCount, group.participants.length], ['GROUP', 'Everyone', 120, 50]);
  assert.deepEqual(await one.participants(group.id), [alice, ...others, bob]);
  await one.send(group.id, 'hello all');
  await until('bob has it unread', () => other.conversation(group.id)?.unreadCount === 1);
  await other.markRead(group.id);
  await until('bob has read it', () => other.conversation(group.id).unreadCount === 0);
});
