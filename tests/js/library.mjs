// Users with the client library of clients/typescript: they chat at random, record the events of their clients, and
// report what their stores contain.
//
// First line: {"users":[{"user":"alice","token":"…","url":"http://…"}]}
// Then: {"do":"chat","conversations":["…"],"seed":1,"steps":100}: each user sends random commands to these conversations
//       {"do":"status"} → {"at":"status", live, busy, failures}: how many users are live and chatting, and what failed
//       {"do":"dump"} → {"at":"dump", user, conversations, messages, wrong} for each user: what the store contains, and
//                       which events are wrong
//       {"do":"exit"}

import { createInterface } from 'node:readline';
import { connect } from '../../clients/typescript/dist/index.js';

/** Two of them are the same. */
const EMOJI = ['👍', '❤️', '❤', '👎'];

/** What a user's reaction is known by: two emoji that differ only in variation selectors are one reaction. */
const reactionKey = (messageId, userId, emoji) => `${messageId} ${userId} ${emoji.replace(/[\uFE0E\uFE0F]/g, '')}`;

/** A generator of pseudo-random numbers, the same for each seed (mulberry32). */
function random(seed) {
  let state = seed >>> 0;
  return (below) => {
    state = (state + 0x6d2b79f5) >>> 0;
    let mixed = Math.imul(state ^ (state >>> 15), 1 | state);
    mixed = (mixed + Math.imul(mixed ^ (mixed >>> 7), 61 | mixed)) ^ mixed;
    return ((mixed ^ (mixed >>> 14)) >>> 0) % below;
  };
}

/** The events of one client, which have to agree with its store. */
class EventRecord {
  newMessages = new Map();
  created = new Map();
  edits = new Map();
  deletions = new Map();
  reactions = new Map();
  wrong = [];

  constructor(client) {
    const recordOnce = (map, key, name) => {
      map.set(key, (map.get(key) ?? 0) + 1);
      if (map.get(key) > 1) this.wrong.push(`${name} ${key} was emitted ${map.get(key)} times`);
    };
    client.on('message:new', ({ id }) => recordOnce(this.newMessages, id, 'message:new'));
    client.on('conversation:created', ({ id }) => recordOnce(this.created, id, 'conversation:created'));
    client.on('message:edited', ({ id, content }) => recordOnce(this.edits, `${id} ${content}`, 'message:edited'));
    client.on('message:deleted', ({ id }) => recordOnce(this.deletions, id, 'message:deleted'));
    const reactionChange = (difference) => ({ messageId, userId, emoji }) => {
      const key = reactionKey(messageId, userId, emoji);
      const now = (this.reactions.get(key) ?? 0) + difference;
      if (now < 0 || now > 1) this.wrong.push(`reaction ${key} was counted ${now} times`);
      this.reactions.set(key, now);
    };
    client.on('reaction:added', reactionChange(1));
    client.on('reaction:removed', reactionChange(-1));
  }

  /** Returns the errors in the events, given the store. Every conversation is newer than the client. */
  errors(conversations, messages) {
    const wrong = [...this.wrong];
    for (const { id } of conversations) if (!this.created.has(id)) wrong.push(`conversation ${id} was never emitted`);
    for (const { id, content, editedAt, deletedAt, reactions } of messages) {
      if (!this.newMessages.has(id) && !this.deletions.has(id)) wrong.push(`message ${id} was never emitted`);
      if (Boolean(deletedAt) !== this.deletions.has(id)) wrong.push(`the deletion of ${id} was emitted wrongly`);
      if (editedAt && !deletedAt && !this.edits.has(`${id} ${content}`) && !this.editedBefore.has(id)) wrong.push(`edit of ${id} was never emitted`);
      for (const { emoji, userIds } of reactions) {
        for (const user of userIds) if (!this.hasReaction(id, user, emoji)) wrong.push(`reaction ${emoji} of ${user} to ${id} was never emitted`);
      }
    }
    const emitted = new Set([...this.newMessages.keys(), ...this.deletions.keys()]);
    if (emitted.size !== messages.length) wrong.push(`${emitted.size} messages were emitted of ${messages.length}`);
    return wrong;
  }

  /** The messages that were edited before the client received them, during an absence. */
  editedBefore = new Set();

  hasReaction = (id, user, emoji) => this.reactions.get(reactionKey(id, user, emoji)) === 1;
}

class User {
  busy = false;
  failures = [];

  constructor({ user, token, url }) {
    this.user = user;
    this.client = connect({ url, token: () => token });
    this.record = new EventRecord(this.client);
    this.client.on('message:new', (message) => {
      if (message.editedAt) this.record.editedBefore.add(message.id);
      for (const { emoji, userIds } of message.reactions) {
        for (const user of userIds) this.record.reactions.set(reactionKey(message.id, user, emoji), 1);
      }
    });
    this.client.on('error', (error) => this.failures.push(`${user}: ${error.message}`));
  }

  async chat(conversations, seed, steps) {
    this.busy = true;
    const pick = random(seed);
    const running = [];
    for (let step = 0; step < steps; step += 1) {
      const mine = conversations.filter((id) => this.client.conversation(id));
      const id = mine[pick(mine.length || 1)];
      if (id) running.push(this.act(id, pick, step).catch((error) => this.recordFailure(error)));
      await new Promise((done) => { setTimeout(done, 20 + pick(60)); });
    }
    await Promise.all(running);
    this.busy = false;
  }

  /** Records an unexpected failure. Expected are lost responses, and commands to a message that was deleted meanwhile. */
  recordFailure({ code, message }) {
    if (['message_deleted', 'append_unknown', 'no_answer'].includes(code)) return;
    this.failures.push(`${this.user}: ${code} ${message}`);
  }

  act(id, pick, step) {
    const { client } = this;
    const existing = client.messages(id).filter((message) => !message.pending && !message.deletedAt);
    const any = existing[pick(existing.length || 1)];
    const own = existing.filter((message) => message.senderId === this.user);
    const kind = pick(20);
    if (kind < 3 && own.length) return client.edit(own[pick(own.length)].id, `edited ${step} by ${this.user}`);
    if (kind < 4 && own.length) return client.delete(own[pick(own.length)].id);
    if (kind < 8 && any) return client.react(any.id, EMOJI[pick(EMOJI.length)], pick(2) ? 'label' : undefined);
    if (kind < 10 && any) return client.unreact(any.id, EMOJI[pick(EMOJI.length)]);
    if (kind < 12) return client.markRead(id, pick(2) ? any?.id : undefined);
    return client.send(id, { content: `${step} by ${this.user}`, replyToId: pick(3) ? null : any?.id ?? null });
  }

  dump() {
    const conversations = this.client.conversations();
    const messages = conversations.flatMap(({ id }) => this.client.messages(id));
    return { at: 'dump', user: this.user, conversations, messages, wrong: this.record.errors(conversations, messages) };
  }
}

let users = null;
const lines = createInterface({ input: process.stdin });
lines.on('line', (line) => {
  const order = JSON.parse(line);
  const print = (what) => console.log(JSON.stringify(what));
  if (!users) users = order.users.map((user) => new User(user));
  else if (order.do === 'chat') users.forEach((user, i) => user.chat(order.conversations, order.seed * 1000 + i, order.steps));
  else if (order.do === 'status') {
    const count = (is) => users.filter(is).length;
    print({
      at: 'status', live: count(({ client }) => client.state === 'live'), busy: count(({ busy }) => busy),
      failures: users.flatMap(({ failures }) => failures),
    });
  } else if (order.do === 'dump') users.forEach((user) => print(user.dump()));
  else process.exit(0);
});
lines.on('close', () => process.exit(0));
