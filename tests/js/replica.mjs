// Clients that implement only the documented rule of docs/realtime.md. Each must end with the server's state.
//
// First line: {"urls":["http://…"],"users":[{"user":"alice","token":"…","since":"…"}],"transports":["websocket"]}
//   "since": the token from which a user's first sync continues; "urls": the addresses, the next one after a failure.
//   The HTTP requests go to the same addresses, or to "api" if it is present.
// Then:       {"do":"status"}, {"do":"dump"}, {"do":"exit"}
// Output:     {"at":"status", …} the sums over all users; {"at":"dump","user":…,"conversations":[…],"messages":[…]} each

import { randomUUID } from 'node:crypto';
import { createInterface } from 'node:readline';
import { io } from 'socket.io-client';

const FRAMES = ['message:new', 'message:edited', 'message:deleted', 'reaction:added', 'reaction:removed',
  'messages:read', 'conversation:created'];
const wait = (ms) => new Promise((done) => { setTimeout(done, ms); });
const offset = (position) => (position ? Number(position.split(':')[1]) : -1);

/** An emoji without variation selectors: equal for two emoji that are the same. */
const plainEmoji = (emoji) => emoji.replace(/[\uFE0E\uFE0F]/g, '');

/** The state of one user. Each message has the offset of its last change: an older value never replaces a newer one. */
class Store {
  conversations = new Set();
  messages = new Map();
  known = new Map(); // by conversation: the last known offset

  know(conversationId, position) {
    this.known.set(conversationId, Math.max(offset(position), this.known.get(conversationId) ?? -1));
  }

  item({ kind, position, value }) {
    this.know(value.conversationId ?? value.id, position);
    if (kind === 'conversation') this.conversations.add(value.id);
    if (kind !== 'message' || offset(position) < (this.messages.get(value.id)?.offset ?? -1)) return;
    const reactions = new Map(value.reactions.map((group) => [plainEmoji(group.emoji), new Set(group.userIds)]));
    this.messages.set(value.id, { ...value, reactions, offset: offset(position) });
  }

  frame(name, payload, { position }) {
    const at = offset(position);
    if (name === 'conversation:created') this.conversations.add(payload.id);
    if (name === 'message:new' && !this.messages.has(payload.id)) {
      this.messages.set(payload.id, { ...payload, reactions: new Map(), offset: at });
    }
    const message = this.messages.get(payload.messageId ?? payload.id);
    if (!message || message.deletedAt || at <= message.offset) return;
    const { userId } = payload;
    const emoji = payload.emoji && plainEmoji(payload.emoji);
    const changes = {
      'message:edited': () => Object.assign(message, { content: payload.content, editedAt: payload.editedAt }),
      'message:deleted': () => Object.assign(message, { content: null, deletedAt: payload.deletedAt, reactions: new Map() }),
      'reaction:added': () => message.reactions.set(emoji, (message.reactions.get(emoji) ?? new Set()).add(userId)),
      'reaction:removed': () => message.reactions.get(emoji)?.delete(userId),
    };
    if (!changes[name]) return;
    changes[name]();
    message.offset = at;
  }

  dump() {
    const messages = [...this.messages.values()].map((one) => ({
      id: one.id, content: one.content, editedAt: one.editedAt, deletedAt: one.deletedAt,
      reactions: [...one.reactions].map(([emoji, users]) => [emoji, [...users].sort()]).filter(([, users]) => users.length).sort(),
    }));
    return { conversations: [...this.conversations].sort(), messages: messages.sort((a, b) => (a.id < b.id ? -1 : 1)) };
  }
}

class Replica {
  store = new Store();
  stats = { ready: 0, readies: 0, frames: 0, again: 0, gaps: 0, syncs: 0, dismissed: 0 };
  applied = new Set(); // the ids of the applied events: none may be applied twice
  syncing = Promise.resolve();
  unready = true; // from a disconnection until the next `connection:ready`
  syncs = 0; // how many syncs are running or waiting
  queue = []; // the deliveries that wait until this client has caught up

  constructor({ user, token, since }, config, index) {
    Object.assign(this, { user, bearer: token, since, config, at: index % config.urls.length });
    this.socket = io(this.url(), {
      auth: { token }, transports: config.transports ?? ['websocket'], forceNew: true,
      reconnectionDelay: 100, reconnectionDelayMax: 2000, timeout: 20_000, query: { client: randomUUID() },
    });
    this.socket.on('connection:ready', ({ position }) => {
      this.stats.readies += 1;
      this.unready = false;
      this.sync(position).then(() => { this.stats.ready = this.socket.connected ? 1 : 0; });
    });
    this.socket.on('disconnect', (reason) => {
      this.stats.ready = 0;
      this.unready = true;
      this.useNextUrl();
      if (reason !== 'io server disconnect') return;
      this.stats.dismissed += 1; // the server closed it, after which Socket.IO doesn't reconnect by itself
      this.socket.connect();
    });
    this.socket.on('connect_error', () => this.useNextUrl());
    for (const name of FRAMES) this.socket.on(name, (payload, meta) => this.deliver(name, payload, meta));
  }

  url = () => this.config.urls[this.at];

  useNextUrl() {
    this.at = (this.at + 1) % this.config.urls.length;
    this.socket.io.uri = this.url();
  }

  deliver(name, payload, meta) {
    this.stats.frames += 1;
    this.queue.push({ name, payload, meta });
    this.applyQueue();
  }

  /**
   * Applies the queue in order, but nothing while something is missing: a value that lacks an earlier change would look
   * newer than the one that the sync returns.
   */
  applyQueue() {
    while (this.queue.length && !this.unready && !this.syncs) {
      const { name, payload, meta } = this.queue.shift();
      this.apply(name, payload, meta);
    }
  }

  apply(name, payload, meta) {
    const id = payload.conversationId ?? payload.id;
    const known = this.store.known.get(id) ?? -1;
    if (offset(meta.position) <= known) return;
    if (offset(meta.previous) > known) {
      this.stats.gaps += 1;
      this.store.know(id, meta.position); // the sync returns this delivery, too
      this.sync(meta.position);
      return;
    }
    if (this.applied.has(meta.eventId)) this.stats.again += 1;
    this.applied.add(meta.eventId);
    this.store.frame(name, payload, meta);
    this.store.know(id, meta.position);
  }

  /** Syncs from the last token until at least a position, after the sync before. */
  sync(position) {
    this.syncs += 1;
    this.syncing = this.syncing.then(async () => {
      for (let more = true; more;) {
        const page = await this.page(position);
        await wait(200 * Math.random()); // simulates a slow network, in which deliveries overtake the response
        page.data.forEach((item) => this.store.item(item));
        this.since = page.next;
        more = page.more;
      }
      this.stats.syncs += 1;
      this.syncs -= 1;
      this.applyQueue();
    });
    return this.syncing;
  }

  async page(position) {
    for (;;) {
      try {
        const answer = await fetch(`${this.config.api ?? this.url()}/api/messages/sync?limit=500&since=${this.since}`, {
          headers: { Authorization: `Bearer ${this.bearer}`, 'Messages-Position': position },
          signal: AbortSignal.timeout(20_000),
        });
        if (answer.ok) return await answer.json();
        if (answer.status !== 503) throw new Error(`sync: ${answer.status} ${await answer.text()}`);
        await wait(1000 * (Number(answer.headers.get('Retry-After')) || 1) * (0.5 + Math.random()));
      } catch (error) {
        if (error.message?.startsWith('sync:')) console.log(JSON.stringify({ at: 'bad_line', message: error.message }));
        await wait(200 + 300 * Math.random());
      }
    }
  }
}

function status(replicas) {
  const sums = { at: 'status', users: replicas.length };
  for (const { stats } of replicas) for (const [name, n] of Object.entries(stats)) sums[name] = (sums[name] ?? 0) + n;
  return sums;
}

let replicas = null;
const lines = createInterface({ input: process.stdin });
lines.on('line', (line) => {
  const order = JSON.parse(line);
  if (!replicas) replicas = order.users.map((user, index) => new Replica(user, order, index));
  else if (order.do === 'status') console.log(JSON.stringify(status(replicas)));
  else if (order.do === 'dump') for (const one of replicas) console.log(JSON.stringify({ at: 'dump', user: one.user, ...one.store.dump() }));
  else process.exit(0);
});
lines.on('close', () => process.exit(0));
