// Random traffic: what the users of a run do, at a steady rate.

import { randomBytes, randomUUID } from 'node:crypto';

/** Emoji whose spellings don't differ in variation selectors. */
/** Two of them are the same. */
const EMOJI = ['👍', '🎉', '❤', '❤️', '🚀'];
/** How many commands of one user may be under way: during an outage the others wait their turn. */
const UNDER_WAY_MAX = 6;
/** How many messages of a conversation the traffic may change: the newest ones. */
const CHANGEABLE = 60;

const offset = (position) => Number(position.split(':')[1]);

/** A generator of pseudo-random numbers, the same for each seed (xorshift32). */
export function randomFrom(seed) {
  let state = (seed * 2654435761 + 1) >>> 0 || 1;
  return (below) => {
    state ^= state << 13;
    state >>>= 0;
    state ^= state >>> 17;
    state ^= state << 5;
    state >>>= 0;
    return state % below;
  };
}

/** A UUID of version 7. */
export function keyOfNow() {
  const bytes = randomBytes(16);
  bytes.writeUIntBE(Date.now(), 0, 6);
  bytes[6] = (bytes[6] % 16) + 0x70;
  bytes[8] = (bytes[8] % 64) + 0x80;
  return bytes.toString('hex').replace(/^(.{8})(.{4})(.{4})(.{4})/, '$1-$2-$3-$4-');
}

export class Traffic {
  #users;
  #libraries;
  #pick;
  #counters;
  #recorder;
  #timer;
  #number = 0;
  #due = 0;
  /** {id, members, messages: [{id, author, edits}]} of each conversation that was acknowledged. */
  #conversations = [];
  /** The newest state of each conversation that each user has read: nobody may be shown less. */
  #seen = new Map();
  #running = new Set();

  constructor({ users, libraries, seed, counters, recorder }) {
    this.#users = users;
    this.#libraries = libraries;
    this.#pick = randomFrom(seed);
    this.#counters = counters;
    this.#recorder = recorder;
  }

  /** Creates the conversations of a run: pairs, groups, one of everybody, and a large one with people who never come. */
  async createConversations(groups) {
    const names = [...this.#users, ...this.#libraries].map(({ user }) => user);
    const strangers = Array.from({ length: 70 }, (_, number) => `stranger-${number}`);
    const all = [{ participantIds: names, title: 'everybody' }, { participantIds: [...names.slice(0, 6), ...strangers], title: 'large' }];
    for (let number = 0; number < groups; number += 1) {
      const size = number % 3 === 0 ? 1 : 2 + this.#pick(5);
      const participantIds = Array.from({ length: size }, () => this.#one(names));
      all.push({ participantIds, title: size === 1 ? undefined : `group ${number}` });
    }
    const creator = ({ participantIds: [first] }) => this.#one(this.#users.filter(({ user }) => user !== first));
    await Promise.all(all.map((body) => this.#createConversation(creator(body), body)));
  }

  start(rate) {
    let last = performance.now();
    this.#timer = setInterval(() => {
      const now = performance.now();
      this.#due = Math.min(this.#due + (rate * (now - last)) / 1000, rate);
      last = now;
      for (; this.#due >= 1; this.#due -= 1) this.#step();
    }, 10);
  }

  /** Stops to send, and waits until everything is decided. */
  async stop() {
    clearInterval(this.#timer);
    while (this.#running.size) await Promise.all(this.#running);
  }

  /** How many commands are under way. */
  get underWay() {
    return this.#running.size;
  }

  #one(list) {
    return list[this.#pick(list.length)];
  }

  #step() {
    const actors = [...this.#users, ...this.#libraries];
    const free = actors.filter(({ underWay }) => underWay < UNDER_WAY_MAX);
    const actor = free.length ? this.#one(free) : undefined;
    if (!actor) {
      this.#counters.heldBack += 1;
      return;
    }
    const running = this.#act(actor).catch((error) => this.#recorder.write('violations', { what: 'the checker failed', error: error.stack }));
    this.#running.add(running);
    running.finally(() => this.#running.delete(running));
  }

  async #act(actor) {
    this.#number += 1;
    const conversation = this.#one(this.#conversations.filter(({ members }) => members.has(actor.user)));
    const text = `${this.#number} by ${actor.user}`;
    if (actor.client) {
      await actor.act(conversation, this.#pick, text);
      return;
    }
    const any = this.#one(conversation.messages);
    const own = this.#one(conversation.messages.filter(({ author }) => author === actor.user));
    const kind = this.#pick(100);
    if (kind < 10 && own) await this.#edit(actor, own, text);
    else if (kind < 14 && own) await this.#delete(actor, conversation, own);
    else if (kind < 28 && any) await this.#react(actor, any);
    else if (kind < 33 && any) await this.#send(actor, 'remove_reaction', { action: 'remove_reaction', messageId: any.id, emoji: this.#one(EMOJI) });
    else if (kind < 43) await this.#markRead(actor, conversation, any);
    else if (kind < 45) await this.#createConversation(actor, { participantIds: [this.#one([...conversation.members].filter((one) => one !== actor.user))] });
    else await this.#message(actor, conversation, any, text);
  }

  #key() {
    return this.#pick(5) ? keyOfNow() : randomUUID();
  }

  #send(actor, kind, body) {
    return actor.command(kind, this.#key(), 'POST', '/api/messages', body);
  }

  async #createConversation(actor, body) {
    const done = await this.#send(actor, 'conversation', { action: 'conversation', ...body });
    const members = new Set([actor.user, ...body.participantIds]);
    if (done && !this.#conversations.some(({ id }) => id === done.data.id)) {
      this.#conversations.push({ id: done.data.id, members, messages: [] });
    }
    if (done) await this.#readConversation(actor, done.data.id, done.position);
  }

  async #message(actor, conversation, any, content) {
    const body = { conversationId: conversation.id, content };
    const other = this.#one([...conversation.members]);
    if (this.#pick(4) === 0 && !other.startsWith('stranger')) body.content += ` for @${other}`;
    if (this.#pick(5) === 0 && any) body.replyToId = any.id;
    if (this.#pick(10) === 0) body.attachments = [{ url: 'https://example.org/a.png', name: 'a.png', mimeType: 'image/png', size: 7 }];
    const done = await this.#send(actor, 'message', body);
    if (!done) return;
    conversation.messages.push({ id: done.data.id, author: actor.user });
    if (conversation.messages.length > CHANGEABLE) conversation.messages.shift();
    if (this.#pick(3) === 0) {
      const shows = ({ senderId, content: shown, editedAt, deletedAt }) => senderId === actor.user && (shown === body.content || editedAt || deletedAt);
      await this.#readMessage(actor, done.data.id, done.position, shows);
    }
    if (this.#pick(8) === 0) await this.#readConversation(actor, conversation.id, done.position);
  }

  async #edit(actor, { id }, content) {
    const done = await actor.command('edit', this.#key(), 'PATCH', `/api/messages/${id}`, { content: `edited ${content}` });
    // Of two edits at the same time, the one that comes last on the log counts, whichever was decided first.
    const shows = ({ position, editedAt, deletedAt }) => deletedAt || editedAt >= done.data.editedAt || offset(position) > offset(done.position);
    if (done) await this.#readMessage(actor, id, done.position, shows);
  }

  async #delete(actor, conversation, message) {
    const done = await actor.command('delete', this.#key(), 'DELETE', `/api/messages/${message.id}`);
    conversation.messages = conversation.messages.filter((one) => one !== message);
    if (done) await this.#readMessage(actor, message.id, done.position, ({ content, deletedAt }) => deletedAt && content === null);
  }

  async #react(actor, { id }) {
    const label = this.#pick(3) ? undefined : `label ${this.#pick(3)}`;
    await this.#send(actor, 'reaction', { action: 'reaction', messageId: id, emoji: this.#one(EMOJI), reaction: label });
  }

  async #markRead(actor, conversation, any) {
    const messageId = this.#pick(2) ? any?.id : undefined;
    const done = await this.#send(actor, 'mark_read', { action: 'mark_read', conversationId: conversation.id, messageId });
    if (done && this.#pick(3) === 0) await this.#readConversation(actor, conversation.id, done.position);
  }

  /** Reads a message from at least a position, and records a violation if it doesn't show what was acknowledged. */
  async #readMessage(actor, id, position, shows) {
    const response = await actor.read(`/api/messages/${id}`, position);
    if (response && !shows(response.body.data)) actor.violation('a read shows less than was acknowledged', { id, position, shown: response.body.data });
  }

  /** Reads a conversation from at least a position. It must not be older than what the user has seen before. */
  async #readConversation(actor, id, position) {
    const seen = `${actor.user} ${id}`;
    const before = this.#seen.get(seen);
    const path = `/api/conversations/${id}`;
    const response = await actor.read(path, before?.token ?? position);
    if (!response) return;
    const shown = offset(response.body.data.position);
    if (before && shown < before.shown) actor.violation('a read shows less than an earlier one', { id, before, shown });
    if (shown >= (this.#seen.get(seen)?.shown ?? -1)) this.#seen.set(seen, { shown, token: response.headers.get('Messages-Position') });
  }
}
