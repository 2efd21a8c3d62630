import assert from 'node:assert/strict';
import { test } from 'node:test';
import { connect, MessagesError } from '../dist/index.js';
import { proxy, readyClient, SERVER_URL, token, uniqueUser, until } from './server.js';

/** Two users with a direct conversation; `urls` are the addresses that they connect to. */
async function pair(context, urls = []) {
  const [alice, bob] = [uniqueUser('alice'), uniqueUser('bob')];
  const [aliceClient, bobClient] = await Promise.all([
    readyClient(context, alice, urls[0]), readyClient(context, bob, urls[1]),
  ]);
  const { id } = await aliceClient.startConversation({ participantIds: [bob] });
  await until('bob has the conversation', () => bobClient.conversation(id));
  return { alice, bob, aliceClient, bobClient, id };
}

test('a message is shown at once, then confirmed, and both users hold the same', async (context) => {
  const { aliceClient, bobClient, id, alice } = await pair(context);
  const events = [];
  aliceClient.on('message:new', (message) => events.push(message.id));
  const sent = aliceClient.send(id, 'hello');
  const [shown] = aliceClient.messages(id);
  assert.deepEqual([shown.content, shown.pending, shown.senderId], ['hello', 'sending', alice]);
  const message = await sent;
  assert.equal(message.id, shown.id, 'the id is known before the server confirms it');
  await until('bob has the message', () => bobClient.messages(id).length === 1);
  await until('both know its seq', () =>
    [aliceClient, bobClient].every((client) => client.message(message.id)?.seq === 1));
  assert.deepEqual(aliceClient.message(message.id), bobClient.message(message.id));
  assert.equal(aliceClient.message(message.id).pending, undefined);
  assert.deepEqual(events, [message.id], 'emitted once');
  await until('bob has an unread message', () => bobClient.conversation(id).unreadCount === 1);
});

test('edits, deletions, reactions and read marks reach the other user', async (context) => {
  const { aliceClient, bobClient, id, bob } = await pair(context);
  const events = [];
  for (const name of ['message:edited', 'reaction:added', 'reaction:removed', 'messages:read', 'message:deleted']) {
    aliceClient.on(name, () => events.push(name));
  }
  const { id: first } = await aliceClient.send(id, 'frist');
  await aliceClient.edit(first, 'first');
  await until('bob sees the edit', () => bobClient.message(first)?.content === 'first');
  await bobClient.react(first, '👍', 'agreed');
  await until('alice sees the reaction', () => aliceClient.message(first).reactions[0]?.count === 1);
  const expected = [{ emoji: '👍', label: 'agreed', count: 1, userIds: [bob] }];
  assert.deepEqual(aliceClient.message(first).reactions, expected);
  await bobClient.unreact(first, '👍');
  await until('alice sees that bob removed the reaction', () => aliceClient.message(first).reactions.length === 0);
  await bobClient.markRead(id);
  await until('alice sees bob’s read mark', () => aliceClient.conversation(id).participants
    .find(({ userId, lastReadAt }) => userId === bob && lastReadAt)?.lastReadSeq === 1);
  assert.equal(bobClient.conversation(id).unreadCount, 0);
  await aliceClient.delete(first);
  await until('bob sees the deletion', () => bobClient.message(first)?.deletedAt);
  await until('alice received all events', () => events.length === 5);
  assert.deepEqual(events, ['message:edited', 'reaction:added', 'reaction:removed', 'messages:read', 'message:deleted']);
});

test('messages sent without a connection wait, then arrive once and in order', async (context) => {
  const network = await proxy(context);
  const { aliceClient, bobClient, id } = await pair(context, [network.url]);
  const events = [];
  bobClient.on('message:new', ({ content }) => events.push(content));
  network.cut();
  await until('alice is offline', () => aliceClient.state === 'offline');
  const sent = ['a', 'b', 'c'].map((content) => aliceClient.send(id, content));
  assert.deepEqual(aliceClient.messages(id).map(({ pending }) => pending), ['sending', 'sending', 'sending']);
  await bobClient.send(id, 'from bob meanwhile');
  network.restore();
  await Promise.all(sent);
  await until('both have all messages', () => [aliceClient, bobClient].every((client) =>
    client.messages(id).length === 4 && client.messages(id).every(({ seq }) => seq)));
  assert.deepEqual(aliceClient.messages(id), bobClient.messages(id));
  assert.deepEqual(events, ['from bob meanwhile', 'a', 'b', 'c']);
  await until('alice is live again', () => aliceClient.state === 'live');
});

test('a message can be sent before anything is loaded', async (context) => {
  const { bob, id } = await pair(context);
  const client = connect({ url: SERVER_URL, token: async () => token(bob) });
  context.after(() => client.close());
  const sent = await client.send(id, 'early');
  await client.ready;
  await until('the message has its seq', () => client.message(sent.id)?.seq === 1);
  assert.deepEqual(client.messages(id).map(({ content, pending }) => [content, pending]), [['early', undefined]]);
});

test('a refused message fails, stays visible, and can be discarded', async (context) => {
  const { aliceClient, id } = await pair(context);
  const refused = { name: 'MessagesError', code: 'control_character', status: 422 };
  await assert.rejects(aliceClient.send(id, 'a \0'), refused);
  const [failed] = aliceClient.messages(id);
  assert.equal(failed.pending, 'failed');
  assert.ok(failed.error instanceof MessagesError);
  assert.equal(failed.error.errors[0].field, 'content');
  await assert.rejects(aliceClient.retry(failed.id), { code: 'control_character' });
  aliceClient.discard(failed.id);
  assert.deepEqual(aliceClient.messages(id), []);
  await assert.rejects(aliceClient.edit(failed.id, 'never there'), { code: 'not_found', status: 404 });
  await assert.rejects(aliceClient.retry(failed.id), { code: 'not_failed' });
});

test('an edit may leave nothing visible only where the message has attachments', async (context) => {
  const { aliceClient, bobClient, id } = await pair(context);
  const { id: text } = await aliceClient.send(id, 'a text');
  const requests = [];
  intercept(context, (send, url, { method }) => {
    requests.push(method);
    return send();
  });
  await assert.rejects(aliceClient.edit(text, '\u2060'), { code: 'empty', status: 0 });
  await assert.rejects(aliceClient.edit(text, 'x'.repeat(4_001)), { code: 'too_long', status: 0 });
  assert.ok(!requests.includes('PATCH'), 'the client asked the server');
  const attachments = [{ url: 'https://files.example/a.png', name: 'a.png', mimeType: 'image/png', size: 5 }];
  const { id: file } = await aliceClient.send(id, { content: 'a file', attachments });
  await aliceClient.edit(file, '');
  await until('bob sees the edit', () => bobClient.message(file)?.content === '');
});

test('history loads page by page, up to its end', async (context) => {
  const { alice, aliceClient, bobClient, id } = await pair(context);
  for (let i = 1; i <= 27; i += 1) await aliceClient.send(id, `one ${i}`);
  for (let i = 1; i <= 27; i += 1) await bobClient.send(id, `other ${i}`);
  await until('alice has the last message', () => aliceClient.conversation(id).lastMessage?.seq === 54);
  const later = await readyClient(context, alice);
  assert.deepEqual(later.messages(id), [], 'messages older than the client aren’t new');
  assert.deepEqual(later.history(id), { loaded: false, complete: false, loading: false });
  const first = later.loadMessages(id);
  assert.equal(later.history(id).loading, true);
  await first;
  assert.deepEqual(later.messages(id).map(({ seq }) => seq), Array.from({ length: 50 }, (_, i) => i + 5));
  assert.deepEqual(later.history(id), { loaded: true, complete: false, loading: false });
  await later.loadMessages(id);
  assert.deepEqual(later.messages(id).map(({ seq }) => seq), Array.from({ length: 54 }, (_, i) => i + 1));
  assert.equal(later.history(id).complete, true);
  await bobClient.send(id, 'one more');
  await until('the new message arrives', () => later.messages(id).at(-1)?.content === 'one more');
});

test('a change of a message that isn’t loaded emits message:changed', async (context) => {
  const { alice, bobClient, aliceClient, id } = await pair(context);
  const { id: old } = await aliceClient.send(id, 'old');
  await aliceClient.send(id, 'newer');
  await until('alice has the last message', () => aliceClient.conversation(id).lastMessage?.seq === 2);
  const later = await readyClient(context, alice);
  const events = [];
  later.on('message:changed', (message) => events.push(message));
  later.on('message:new', () => events.push('new'));
  await bobClient.react(old, '🎉');
  await until('the event is emitted', () => events.length);
  assert.deepEqual(events.map((message) => [message.id, message.reactions[0].emoji]), [[old, '🎉']]);
  assert.deepEqual(later.messages(id), [], 'the message isn’t listed, because the history before it isn’t loaded');
});

test('typing and presence are visible, and end', async (context) => {
  const { bob, aliceClient, bobClient, id } = await pair(context);
  await until('bob is online', () => aliceClient.presence(bob)?.status === 'online');
  bobClient.typing(id);
  bobClient.typing(id);
  await until('bob types', () => aliceClient.typists(id).includes(bob));
  bobClient.stopTyping(id);
  await until('bob has stopped', () => aliceClient.typists(id).length === 0);
  bobClient.close();
  await until('bob is offline', () => aliceClient.presence(bob)?.status === 'offline');
});

test('a mention emits mention:new to the mentioned user, and subscribers are notified', async (context) => {
  const { alice, bob, aliceClient, bobClient, id } = await pair(context);
  const mentions = [];
  let notifications = 0;
  bobClient.on('mention:new', ({ senderId }) => mentions.push(senderId));
  const unsubscribe = bobClient.subscribe(() => { notifications += 1; });
  await aliceClient.send(id, `hello @${bob}`);
  await until('bob receives the mention', () => mentions.length);
  assert.deepEqual(mentions, [alice]);
  assert.ok(notifications > 0);
  unsubscribe();
});

test('a client renews an expiring token and stays usable', async (context) => {
  const user = uniqueUser('short');
  let calls = 0;
  const client = connect({
    url: SERVER_URL,
    token: async () => {
      calls += 1;
      if (calls === 2) throw new Error('not at the moment');
      return token(user, calls === 1 ? 12 : 3600);
    },
  });
  context.after(() => client.close());
  await client.ready;
  assert.equal(client.me, user);
  const states = [];
  client.on('connectionError', ({ code }) => states.push(code));
  client.on('state', (state) => states.push(state));
  await new Promise((done) => { client.on('state', (state) => state === 'live' && done()); });
  // The server closes the socket when the token expires, and the client reconnects.
  assert.deepEqual(states, ['offline', 'token', 'live']);
  assert.ok(calls > 2);
});

test('a client that isn’t live keeps trying and reports why', async (context) => {
  const user = uniqueUser('late');
  let calls = 0;
  const client = connect({
    url: SERVER_URL,
    token: () => {
      calls += 1;
      if (calls < 3) throw new Error('not signed in');
      return token(user);
    },
  });
  context.after(() => client.close());
  const events = [];
  client.on('connectionError', ({ code, message }) => events.push([code, message, client.connectionError.message]));
  await client.ready;
  const reason = 'the token source failed: not signed in';
  assert.deepEqual(events, [['token', reason, reason]], 'emitted once while the reason stays the same');
  assert.equal(client.connectionError, undefined);
  const nowhere = connect({ url: 'http://127.0.0.1:1', token: token(user) });
  await until('the client reports that the server is unreachable', () => nowhere.connectionError?.code === 'no_answer');
  nowhere.close();
  await assert.rejects(nowhere.ready, { code: 'closed' });
});

test('close waits for messages that are being sent', async (context) => {
  const { aliceClient, bobClient, id } = await pair(context);
  const sent = ['and', 'goodbye'].map((content) => aliceClient.send(id, content));
  await aliceClient.close();
  assert.equal(aliceClient.state, 'closed');
  assert.deepEqual((await Promise.all(sent)).map(({ content }) => content), ['and', 'goodbye']);
  await until('bob has both messages', () => bobClient.messages(id).length === 2);
  await assert.rejects(aliceClient.send(id, 'one more'), { code: 'closed', unknown: false });
});

test('a waiting message says why it waits, and its outcome is unknown when close interrupts it', async (context) => {
  const network = await proxy(context);
  const { aliceClient, id } = await pair(context, [network.url]);
  network.cut();
  await until('alice is offline', () => aliceClient.state === 'offline');
  const sent = aliceClient.send(id, 'hello?');
  await until('the message says why it waits', () => aliceClient.messages(id)[0].error?.code === 'no_answer');
  assert.equal(aliceClient.messages(id)[0].pending, 'sending');
  await aliceClient.close();
  await assert.rejects(sent, { code: 'closed', unknown: true });
});

test('a refused token closes the client with the reason', async () => {
  const client = connect({ url: SERVER_URL, token: `${token('eve').slice(0, -4)}AAAA` });
  const errors = [];
  client.on('error', (error) => errors.push(error.code));
  await assert.rejects(client.ready, { code: 'invalid_token', status: 401 });
  assert.deepEqual([errors, client.state], [['invalid_token'], 'closed']);
  await assert.rejects(client.send('01890a5d-ac96-774b-bcce-b302099a8057', 'x'), { code: 'closed' });
  assert.throws(() => connect({ url: SERVER_URL, token: 'no token' }), { code: 'token' });
});

/** Intercepts the requests of the clients during one test. */
function intercept(context, handle) {
  const real = globalThis.fetch;
  context.after(() => { globalThis.fetch = real; });
  globalThis.fetch = (url, init) => handle(() => real(url, init), String(url), init);
}

function problem(status, code, headers = {}) {
  const body = { type: 'about:blank', title: code, status, code, detail: code, requestId: 'r' };
  return new Response(JSON.stringify(body), { status, headers });
}

test('a lost response is retried without a second message', async (context) => {
  const { aliceClient, bobClient, id } = await pair(context);
  const keys = [];
  intercept(context, async (send, url, { method, headers }) => {
    const response = await send();
    if (method !== 'POST') return response;
    keys.push(headers['Idempotency-Key']);
    if (keys.length === 1) throw new TypeError('the connection broke');
    return response;
  });
  await aliceClient.send(id, 'once');
  await bobClient.send(id, 'after it');
  assert.equal(keys[0], keys[1], 'the retry has the same key');
  await until('both have two messages', () => [aliceClient, bobClient].every((client) =>
    client.messages(id).length === 2 && client.messages(id).every(({ seq }) => seq)));
  assert.deepEqual(aliceClient.messages(id), bobClient.messages(id));
});

test('a retry waits as long as Retry-After says', async (context) => {
  const { aliceClient, id } = await pair(context);
  const times = [];
  intercept(context, (send, url, { method }) => {
    if (method !== 'POST') return send();
    times.push(Date.now());
    return times.length === 1 ? problem(429, 'rate_limited', { 'Retry-After': '1' }) : send();
  });
  const sent = aliceClient.send(id, 'patient');
  await until('the message says why it waits', () => aliceClient.messages(id)[0].error);
  const { pending, error } = aliceClient.messages(id)[0];
  assert.deepEqual([pending, error.code, error.retryAfter], ['sending', 'rate_limited', 1]);
  await sent;
  assert.equal(aliceClient.messages(id)[0].error, undefined);
  assert.ok(times[1] - times[0] >= 1_000, `${times[1] - times[0]} ms`);
});

test('a page that is over the limit of queries is loaded when Retry-After says so', async (context) => {
  const { aliceClient, bobClient, id } = await pair(context);
  await bobClient.send(id, 'patient');
  const times = [];
  intercept(context, (send, url) => {
    if (!url.includes('conversationId=')) return send();
    times.push(Date.now());
    return times.length === 1 ? problem(429, 'rate_limited', { 'Retry-After': '1' }) : send();
  });
  await aliceClient.loadMessages(id);
  assert.deepEqual(aliceClient.messages(id).map(({ content }) => content), ['patient']);
  assert.equal(times.length, 2);
  assert.ok(times[1] - times[0] >= 1_000, `${times[1] - times[0]} ms`);
});

test('a client loads everything again when the server has another log', async (context) => {
  const { aliceClient, bobClient, id } = await pair(context);
  await aliceClient.send(id, 'first');
  await aliceClient.loadMessages(id);
  let refused = 0;
  const events = [];
  aliceClient.on('reset', () => events.push('reset'));
  aliceClient.on('error', () => events.push('error'));
  intercept(context, (send, url) => {
    if (!url.includes('/sync') || refused) return send();
    refused += 1;
    return problem(400, 'other_topic');
  });
  await bobClient.send(id, 'second'); // the first client to look up its seq is refused
  await until('the server refused a sync', () => refused);
  await until('both are live', () => [aliceClient, bobClient].every(({ state }) => state === 'live'));
  await until('both have all messages', () =>
    [aliceClient, bobClient].every((client) => client.conversation(id)?.lastMessage?.seq === 2));
  assert.ok(!events.includes('error'));
  await aliceClient.loadMessages(id);
  assert.deepEqual(aliceClient.messages(id).map(({ content }) => content), ['first', 'second']);
});

test('in a large group, all participants can be loaded and read marks work', async (context) => {
  const [alice, bob] = [uniqueUser('alice'), uniqueUser('bob')];
  const others = Array.from({ length: 118 }, (_, i) => `${alice}-friend-${i}`);
  const [aliceClient, bobClient] = await Promise.all([readyClient(context, alice), readyClient(context, bob)]);
  const group = await aliceClient.startConversation({ participantIds: [...others, bob], title: 'Everyone' });
  const { type, title, participantCount, participants } = group;
  assert.deepEqual([type, title, participantCount, participants.length], ['GROUP', 'Everyone', 120, 50]);
  assert.deepEqual(await aliceClient.participants(group.id), [alice, ...others, bob]);
  await aliceClient.send(group.id, 'hello all');
  await until('bob has an unread message', () => bobClient.conversation(group.id)?.unreadCount === 1);
  await bobClient.markRead(group.id);
  await until('bob’s read mark is confirmed', () => bobClient.conversation(group.id).unreadCount === 0);
});

test('a client whose connections go dead without a word comes back, and loses nothing', async (context) => {
  const network = await proxy(context);
  const { aliceClient, bobClient, id } = await pair(context, [network.url]);
  await aliceClient.send(id, 'before');
  network.deaden();
  const sent = aliceClient.send(id, 'from alice');
  await bobClient.send(id, 'from bob');
  await sent;
  await until('alice has bob’s message', () => aliceClient.messages(id).some(({ content }) => content === 'from bob'), 60);
  await until('alice is live again', () => aliceClient.state === 'live', 60);
  await until('both have all messages', () => [aliceClient, bobClient].every((client) =>
    client.messages(id).length === 3 && client.messages(id).every(({ seq }) => seq)));
  assert.deepEqual(aliceClient.messages(id), bobClient.messages(id));
});
