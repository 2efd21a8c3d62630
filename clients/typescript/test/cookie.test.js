// Signing in by a cookie, with a server of the test's own: it sees what a client without a token sends, and names the
// user of the cookie. The browser adds the cookie, which Node doesn't have.

import assert from 'node:assert/strict';
import { createServer } from 'node:http';
import { test } from 'node:test';
import { connect } from '../dist/index.js';
import { messageId } from '../dist/ids.js';
import { until } from './server.js';

const CONVERSATION = {
  id: 'conversation-1', type: 'DIRECT', title: null, participantCount: 2, position: '0:1', unreadCount: 0,
  participants: ['alice', 'bob'].map((userId) => ({ userId, lastReadSeq: 0, lastReadAt: null })),
  lastMessage: null, createdAt: '2026-01-01T00:00:00.000Z', updatedAt: '2026-01-01T00:00:00.000Z',
};
const TOKEN_PROBLEM = { type: 'about:blank', title: 'Unauthorized', status: 401, detail: 'no', errors: [], requestId: 'r' };

/** The part of a server that a client needs until it is live. `refusals` are the codes that the test sets. */
class FakeServer {
  requests = [];
  connectPackets = [];
  refusals = { http: undefined, socket: undefined };
  #packets = [];
  #poll = undefined;

  static async start(context) {
    const fake = new FakeServer();
    const server = createServer((request, response) => void fake.#answer(request, response));
    await new Promise((listening) => { server.listen(0, '127.0.0.1', listening); });
    context.after(() => {
      server.close();
      server.closeAllConnections();
    });
    fake.url = `http://127.0.0.1:${server.address().port}`;
    return fake;
  }

  async #answer(request, response) {
    let body = '';
    for await (const chunk of request) body += chunk;
    this.requests.push({ method: request.method, url: request.url, headers: request.headers, body });
    if (request.url.startsWith('/socket.io/')) this.#answerSocket(request, response, body);
    else this.#answerApi(request, response, body);
  }

  #answerApi({ method, url, headers }, response, body) {
    const code = this.refusals.http;
    response.writeHead(code ? 401 : 200, { 'Content-Type': 'application/json', 'Messages-Position': '0:2' });
    const respond = (json) => response.end(JSON.stringify(json));
    if (code) respond({ ...TOKEN_PROBLEM, code });
    else if (url.includes('/sync')) respond({ data: [], next: 'token', more: false });
    else if (method === 'GET') respond({ data: [CONVERSATION], page: { nextCursor: null } });
    else {
      const { conversationId, content } = JSON.parse(body);
      const id = messageId(conversationId, 'alice', headers['idempotency-key']);
      respond({ data: { id, conversationId, content, senderId: 'alice', mentions: [], reactions: [], createdAt: '2026', deletedAt: null } });
    }
  }

  /** Engine.IO 4 over polling: a session, then packets in both directions. */
  #answerSocket({ method, url }, response, body) {
    if (url.includes('transport=websocket')) {
      response.writeHead(400).end();
    } else if (!url.includes('sid=')) {
      const session = { sid: 'session', upgrades: [], pingInterval: 60_000, pingTimeout: 60_000, maxPayload: 100_000 };
      response.end(`0${JSON.stringify(session)}`);
    } else if (method === 'POST') {
      response.end('ok');
      body.split('\u001e').forEach((packet) => this.#receive(packet));
    } else {
      this.#poll = response;
      this.#flush();
    }
  }

  #receive(packet) {
    if (!packet.startsWith('40')) return;
    this.connectPackets.push(packet);
    const code = this.refusals.socket;
    if (code) this.send(`44${JSON.stringify({ message: code })}`);
    else this.send('40{"sid":"socket"}', '42["connection:ready",{"userId":"alice","position":"0:1"}]');
  }

  /** Sends packets over the socket. */
  send(...packets) {
    this.#packets.push(...packets);
    this.#flush();
  }

  #flush() {
    if (!this.#poll || !this.#packets.length) return;
    this.#poll.end(this.#packets.splice(0).join('\u001e'));
    this.#poll = undefined;
  }
}

/** A client without a token; it is closed when the test ends. */
function cookieClient(context, server) {
  const client = connect({ url: server.url });
  context.after(() => client.close());
  return client;
}

test('a client without a token sends none, and learns from the server who the user is', async (context) => {
  const server = await FakeServer.start(context);
  const client = cookieClient(context, server);
  assert.equal(client.me, '');
  await client.ready;
  assert.equal(client.me, 'alice');
  assert.ok(server.requests.some(({ url }) => url.startsWith('/api/messages')));
  assert.deepEqual(server.requests.filter(({ headers }) => headers.authorization !== undefined), []);
  assert.deepEqual(server.connectPackets, ['40{}'], 'the handshake has no token');
  await client.markRead(CONVERSATION.id);
  assert.deepEqual(server.requests.filter(({ url, method }) => url === '/api/messages' && method === 'POST'), [],
    'the client doesn’t know what the user of the cookie has read');
});

test('a message that is sent before the server has named the user gets its final id', async (context) => {
  const server = await FakeServer.start(context);
  const client = cookieClient(context, server);
  const sent = await client.send(CONVERSATION.id, 'early');
  assert.deepEqual(client.messages(CONVERSATION.id).map(({ id, senderId, pending }) => [id, senderId, pending]),
    [[sent.id, 'alice', undefined]]);
});

for (const code of ['missing_token', 'expired_token', 'invalid_token']) {
  test(`a cookie that the API refuses with ${code} closes the client, as a token does`, async (context) => {
    const server = await FakeServer.start(context);
    server.refusals.http = code;
    const client = cookieClient(context, server);
    const sent = client.send(CONVERSATION.id, 'never');
    await assert.rejects(client.ready, { code, status: 401 });
    await assert.rejects(sent, { code, status: 401 });
    assert.deepEqual([client.state, client.connectionError.code], ['closed', code]);
    assert.equal(server.requests.length, 1, 'the client can’t renew a cookie, so it doesn’t try again');
  });

  test(`a cookie that the socket refuses with ${code} closes the client, as a token does`, async (context) => {
    const server = await FakeServer.start(context);
    server.refusals.socket = code;
    const client = cookieClient(context, server);
    await assert.rejects(client.ready, { code, status: 401 });
    assert.equal(client.state, 'closed');
  });
}

test('a client whose cookie expires closes itself, unless there is a new cookie', async (context) => {
  const server = await FakeServer.start(context);
  const client = cookieClient(context, server);
  const errors = [];
  client.on('error', ({ code, status }) => errors.push([code, status]));
  await client.ready;
  server.send('41'); // the server disconnects the socket: its cookie has expired, and the browser has a new one
  await until('the client has connected again', () => server.connectPackets.length === 2 && client.state === 'live');
  server.refusals.socket = 'expired_token';
  server.send('41');
  await until('the client has closed itself', () => client.state === 'closed');
  assert.deepEqual(errors, [['expired_token', 401]]);
});
