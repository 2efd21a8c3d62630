// A client that follows the documented rule of docs/realtime.md with the official Socket.IO client, and nothing else.

import { randomUUID } from 'node:crypto';
import { io } from 'socket.io-client';
import { bare } from './answers.mjs';
import { plainEmoji } from './fold.mjs';
import { request } from './http-user.mjs';

const DELIVERIES = ['message:new', 'message:edited', 'message:deleted', 'reaction:added', 'reaction:removed',
  'messages:read', 'conversation:created'];
/** Now and then the client syncs without a reason, so that it has little to catch up with after an absence. */
const SYNC_INTERVAL_MS = 15_000;
const wait = (ms) => new Promise((done) => { setTimeout(done, ms); });
const offset = (position) => (position ? Number(position.split(':')[1]) : -1);

export class SocketReplica {
  conversations = new Set();
  messages = new Map();
  frames = 0;
  /** The last offset that is known of each conversation. */
  #known = new Map();
  #queue = [];
  #unready = true;
  #syncs = 0;
  #syncing = Promise.resolve();
  #login;
  #token;
  #onViolation;

  /** Starts with an empty store at the user's present sync token. */
  constructor(login, since, onViolation) {
    this.#login = login;
    this.#token = since;
    this.#onViolation = onViolation;
    this.socket = io(login.url, {
      auth: { token: login.token }, transports: ['websocket'], forceNew: true, query: { client: randomUUID() },
      reconnectionDelay: 200, reconnectionDelayMax: 2_000, timeout: 10_000,
    });
    this.socket.on('connection:ready', ({ position }) => {
      this.#unready = false;
      this.#sync(position);
    });
    this.socket.on('disconnect', (reason) => {
      this.#unready = true;
      // Socket.IO doesn't reconnect by itself after the server has closed the socket.
      if (reason === 'io server disconnect') this.socket.connect();
    });
    for (const name of DELIVERIES) this.socket.on(name, (payload, meta) => this.#deliver({ name, payload, meta }));
    setInterval(() => { if (this.ready) this.#sync(); }, SYNC_INTERVAL_MS * (0.5 + Math.random()));
  }

  /** Whether the client is connected and has caught up. */
  get ready() {
    return this.socket.connected && !this.#unready && this.#syncs === 0;
  }

  dump() {
    const messages = [...this.messages.values()].map((message) => {
      const reactions = [...message.reactions].map(([emoji, users]) => ({ emoji, users: [...users] }));
      return bare({ ...message, reactions });
    });
    return { user: this.#login.user, kind: 'socket', conversations: [...this.conversations].sort(), messages };
  }

  #deliver(delivery) {
    this.frames += 1;
    this.#queue.push(delivery);
    this.#applyQueue();
  }

  #applyQueue() {
    while (this.#queue.length && !this.#unready && this.#syncs === 0) this.#apply(this.#queue.shift());
  }

  #apply({ name, payload, meta }) {
    const id = payload.conversationId ?? payload.id;
    const known = this.#known.get(id) ?? -1;
    const at = offset(meta.position);
    if (at <= known) return;
    if (offset(meta.previous) > known) {
      this.#sync(meta.position);
      return;
    }
    this.#known.set(id, at);
    this.#frame(name, payload, at);
  }

  #frame(name, payload, at) {
    if (name === 'conversation:created') this.conversations.add(payload.id);
    if (name === 'message:new' && !this.messages.has(payload.id)) this.#put({ ...payload, reactions: new Map() }, at);
    const message = this.messages.get(payload.messageId ?? payload.id);
    if (!message || message.deletedAt || at <= message.at) return;
    const { content, mentions, editedAt, deletedAt, userId } = payload;
    const emoji = payload.emoji && plainEmoji(payload.emoji);
    if (name === 'message:edited') Object.assign(message, { content, mentions, editedAt, at });
    if (name === 'message:deleted') Object.assign(message, { content: null, mentions: [], reactions: new Map(), deletedAt, at });
    if (name === 'reaction:added') {
      const users = message.reactions.get(emoji) ?? new Set();
      message.reactions.set(emoji, users.add(userId));
      message.at = at;
    }
    if (name === 'reaction:removed') {
      message.reactions.get(emoji)?.delete(userId);
      message.at = at;
    }
  }

  #put({ id, conversationId, senderId, content, mentions, editedAt, deletedAt, reactions }, at) {
    this.messages.set(id, { id, conversationId, senderId, content, mentions, editedAt, deletedAt, reactions, at });
  }

  #item({ kind, position, value }) {
    const id = value.conversationId ?? value.id;
    const at = offset(position);
    this.#known.set(id, Math.max(at, this.#known.get(id) ?? -1));
    if (kind === 'conversation') this.conversations.add(value.id);
    if (kind !== 'message' || at < (this.messages.get(value.id)?.at ?? -1)) return;
    const groups = value.reactions.map((group) => [plainEmoji(group.emoji), new Set(group.userIds)]);
    this.#put({ ...value, reactions: new Map(groups) }, at);
  }

  /** Syncs from the own token until at least this position, if there is one, after the syncs before. */
  #sync(position) {
    this.#syncs += 1;
    this.#syncing = this.#syncing.then(async () => {
      for (let more = true; more;) {
        const { data, next, more: goesOn } = await this.#page(position);
        data.forEach((item) => this.#item(item));
        this.#token = next;
        more = goesOn;
      }
      this.#syncs -= 1;
      this.#applyQueue();
    });
  }

  async #page(position) {
    for (;;) {
      const path = `/api/messages/sync?limit=500&since=${encodeURIComponent(this.#token)}`;
      const { status, code, body, headers } = await request(this.#login, 'GET', path, { position });
      if (status === 200) return body;
      if (status !== 0 && status < 500 && status !== 429) this.#onViolation('wrong answer to a sync', { status, code });
      const seconds = Math.min(Number(headers.get('Retry-After')) || 0.5, 2);
      await wait(1000 * seconds * (0.5 + Math.random() / 2));
    }
  }
}
