// The rule by which deliveries are applied, without a server: what is asked for when.

import assert from 'node:assert/strict';
import { test } from 'node:test';
import { Emitter } from '../dist/events.js';
import { Follower } from '../dist/follow.js';
import { Store } from '../dist/store.js';

const message = (number, position, more = {}) => ({
  id: `message-${number}`, conversationId: 'talk', senderId: 'bob', content: `${number}`, messageType: 'TEXT', position,
  attachments: [], mentions: [], replyToId: null, reactions: [], createdAt: `2026-01-01T00:00:0${number}.000Z`,
  editedAt: null, deletedAt: null, ...more,
});
const delivered = (number, position, previous) => ({
  name: 'message:new', payload: message(number, position), meta: { position, previous, eventId: `event-${position}` },
});
const edited = (number, position, previous) => ({
  name: 'message:edited',
  payload: { id: `message-${number}`, conversationId: 'talk', content: 'edited', mentions: [], editedAt: '2026-01-01T00:01:00.000Z' },
  meta: { position, previous, eventId: `event-${position}` },
});

/** A follower that is live; `pages` are what the server answers, one after the other. */
async function following(pages) {
  const asked = [];
  const told = [];
  const emitter = new Emitter();
  for (const name of ['message:new', 'message:edited', 'message:deleted']) emitter.on(name, ({ id }) => told.push(`${name} ${id}`));
  const store = new Store(emitter);
  Object.assign(store, { me: 'alice', whole: true });
  let answer = () => undefined;
  const http = {
    ask: ({ atLeast }) => {
      asked.push(atLeast);
      return new Promise((done) => {
        answer = () => done({ body: { data: pages.shift() ?? [], next: `after ${asked.length}`, more: false } });
        if (asked.length === 1) answer();
      });
    },
  };
  let caughtUp = () => undefined;
  const live = new Promise((done) => { caughtUp = done; });
  const follower = new Follower(store, http, (error) => { throw error; }, () => caughtUp());
  follower.begin('at first');
  follower.ready('ready');
  await live;
  return { asked, told, store, follower, answer: async () => { answer(); await new Promise(setImmediate); } };
}

test('deliveries that follow one another are applied, and nothing is asked', async () => {
  const { asked, told, store, follower } = await following([]);
  follower.deliver(delivered(1, '0:1', null));
  follower.deliver(delivered(2, '0:2', '0:1'));
  follower.deliver(delivered(1, '0:1', null));
  assert.deepEqual(told, ['message:new message-1', 'message:new message-2']);
  assert.deepEqual(store.talk('talk').messages.map(({ content }) => content), ['1', '2']);
  assert.deepEqual(asked, ['ready']);
  follower.end();
});

test('where one is missing, it is fetched, and what comes meanwhile waits', async () => {
  const missed = message(1, '0:2', { seq: 1, reactions: [{ emoji: '👍', label: null, count: 1, userIds: ['carol'] }] });
  const page = [
    { kind: 'message', position: '0:2', value: missed },
    { kind: 'message', position: '0:3', value: message(2, '0:3', { seq: 2 }) },
  ];
  const { asked, told, store, follower, answer } = await following([[], page]);
  follower.deliver(delivered(1, '0:1', null));
  follower.deliver(delivered(2, '0:3', '0:2')); // 0:2, the reaction, was dropped
  follower.deliver(edited(1, '0:4', '0:3'));
  await new Promise(setImmediate);
  assert.deepEqual(asked, ['ready', '0:3'], 'until at least what was delivered');
  assert.deepEqual(told, ['message:new message-1'], 'an edit that is applied too early would hide the reaction');
  await answer();
  assert.deepEqual(told, ['message:new message-1', 'message:new message-2', 'message:edited message-1']);
  assert.equal(store.message('message-1').content, 'edited');
  assert.equal(store.message('message-1').reactions.length, 1);
  follower.end();
});

test('what an absence brings is told in the order in which it was sent, and what is gone is not new', async () => {
  const gone = { content: null, deletedAt: '2026-01-01T00:01:00.000Z' };
  const page = [ // in the order of their last changes
    { kind: 'message', position: '0:5', value: message(4, '0:5', { seq: 4 }) },
    { kind: 'message', position: '0:6', value: message(2, '0:6', { seq: 2, editedAt: '2026-01-01T00:01:00.000Z' }) },
    { kind: 'message', position: '0:7', value: message(3, '0:7', { seq: 3, ...gone }) },
    { kind: 'message', position: '0:8', value: message(1, '0:8', { seq: 1 }) },
  ];
  const { told, store, follower } = await following([page]);
  assert.deepEqual(told, [
    'message:new message-1', 'message:new message-2', 'message:new message-4', 'message:deleted message-3',
  ]);
  assert.deepEqual(store.talk('talk').messages.map(({ seq }) => seq), [1, 2, 3, 4], 'but it has its place');
  follower.end();
});
