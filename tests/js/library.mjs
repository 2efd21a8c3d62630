// Clients of the library in clients/typescript, who chat at random, remember what they were told, and say what they
// have.
//
// First line: {"users":[{"user":"alice","token":"…","url":"http://…"}]}
// Then: {"do":"chat","conversations":["…"],"seed":1,"steps":100}: everyone acts at random in conversations of theirs
//       {"do":"status"} → {"at":"status", live, busy, failures}: how many are live, still acting, and what failed
//       {"do":"dump"} → {"at":"dump", user, conversations, messages, wrong} each: all they have, and what they were told wrongly
//       {"do":"exit"}

import { createInterface } from 'node:readline';
import { connect } from '../../clients/typescript/dist/index.js';

const EMOJI = ['👍', '❤️', '🎉', '👎'];

/** Numbers that look random, and are the same for a seed (mulberry32). */
function random(seed) {
  let state = seed >>> 0;
  return (below) => {
    state = (state + 0x6d2b79f5) >>> 0;
    let mixed = Math.imul(state ^ (state >>> 15), 1 | state);
    mixed = (mixed + Math.imul(mixed ^ (mixed >>> 7), 61 | mixed)) ^ mixed;
    return ((mixed ^ (mixed >>> 14)) >>> 0) % below;
  };
}

/** What one user was told, held against what they have. */
class Told {
  news = new Map();
  created = new Map();
  edits = new Map();
  deletions = new Map();
  reactions = new Map();
  wrong = [];

  constructor(client) {
    const once = (map, key, what) => {
      map.set(key, (map.get(key) ?? 0) + 1);
      if (map.get(key) > 1) this.wrong.push(`${what} ${key} was told ${map.get(key)} times`);
    };
    client.on('message:new', ({ id }) => once(this.news, id, 'message:new'));
    client.on('conversation:created', ({ id }) => once(this.created, id, 'conversation:created'));
    client.on('message:edited', ({ id, content }) => once(this.edits, `${id} ${content}`, 'message:edited'));
    client.on('message:deleted', ({ id }) => once(this.deletions, id, 'message:deleted'));
    const reacted = (by) => ({ messageId, userId, emoji }) => {
      const key = `${messageId} ${userId} ${emoji}`;
      const now = (this.reactions.get(key) ?? 0) + by;
      if (now < 0 || now > 1) this.wrong.push(`reaction ${key} came to ${now}`);
      this.reactions.set(key, now);
    };
    client.on('reaction:added', reacted(1));
    client.on('reaction:removed', reacted(-1));
  }

  /** What is wrong with all that was told, given what is there: everything here began after the client. */
  check(conversations, messages) {
    const wrong = [...this.wrong];
    for (const { id } of conversations) if (!this.created.has(id)) wrong.push(`conversation ${id} was never told`);
    for (const { id, content, editedAt, deletedAt, reactions } of messages) {
      if (!this.news.has(id) && !this.deletions.has(id)) wrong.push(`message ${id} was never told`);
      if (Boolean(deletedAt) !== this.deletions.has(id)) wrong.push(`deletion of ${id} was told wrongly`);
      if (editedAt && !deletedAt && !this.edits.has(`${id} ${content}`) && !this.whole.has(id)) wrong.push(`edit of ${id} was never told`);
      for (const { emoji, userIds } of reactions) {
        for (const user of userIds) if (!this.reacted(id, user, emoji)) wrong.push(`reaction ${emoji} of ${user} to ${id} was never told`);
      }
    }
    const told = new Set([...this.news.keys(), ...this.deletions.keys()]);
    if (told.size !== messages.length) wrong.push(`${told.size} messages were told of ${messages.length}`);
    return wrong;
  }

  /** Messages that came with an edit: those that were sent while one was away come with all that happened to them. */
  whole = new Set();

  reacted = (id, user, emoji) => this.reactions.get(`${id} ${user} ${emoji}`) === 1;
}

class User {
  busy = false;
  failures = [];

  constructor({ user, token, url }) {
    this.user = user;
    this.client = connect({ url, token: () => token });
    this.told = new Told(this.client);
    this.client.on('message:new', (message) => {
      if (message.editedAt) this.told.whole.add(message.id);
      for (const { emoji, userIds } of message.reactions) {
        for (const user of userIds) this.told.reactions.set(`${message.id} ${user} ${emoji}`, 1);
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
      if (id) running.push(this.act(id, pick, step).catch((error) => this.note(error)));
      await new Promise((done) => { setTimeout(done, 20 + pick(60)); });
    }
    await Promise.all(running);
    this.busy = false;
  }

  /** What somebody else has deleted meanwhile, or this user on another step, is refused. */
  note(error) {
    if (!['message_deleted', 'append_unknown', 'no_answer'].includes(error.code)) this.failures.push(`${this.user}: ${error.code} ${error.message}`);
  }

  act(id, pick, step) {
    const { client } = this;
    const there = client.messages(id).filter((message) => !message.pending && !message.deletedAt);
    const any = there[pick(there.length || 1)];
    const own = there.filter((message) => message.senderId === this.user);
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
    return { at: 'dump', user: this.user, conversations, messages, wrong: this.told.check(conversations, messages) };
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
