// The rule by which the synchronizer applies deliveries, without a server: when it syncs, and until which position.

import assert from 'node:assert/strict';
import { test } from 'node:test';
import { Emitter } from '../dist/events.js';
import { Store } from '../dist/store.js';
import { Synchronizer } from '../dist/synchronizer.js';

const CONVERSATION = 'conversation-1';

const message = (number, position, more = {}) => ({
  id: `message-${number}`, conversationId: CONVERSATION, senderId: 'bob', content: `${number}`, messageType: 'TEXT',
  position, attachments: [], mentions: [], replyToId: null, reactions: [],
  createdAt: `2026-01-01T00:00:0${number}.000Z`, editedAt: null, deletedAt: null, ...more,
});
const newMessage = (number, position, previous) => ({
  name: 'message:new', payload: message(number, position), meta: { position, previous, eventId: `event-${position}` },
});
const edit = (number, position, previous) => ({
  name: 'message:edited',
  payload: {
    id: `message-${number}`, conversationId: CONVERSATION, content: 'edited', mentions: [],
    editedAt: '2026-01-01T00:01:00.000Z',
  },
  meta: { position, previous, eventId: `event-${position}` },
});

/**
 * A synchronizer that is current. `pages` are the server's responses to the syncs; after the first, each waits for
 * `respond`. `syncs` are the positions that the requests ask for.
 */
async function currentSynchronizer(pages) {
  const syncs = [];
  const events = [];
  const emitter = new Emitter();
  for (const name of ['message:new', 'message:edited', 'message:deleted']) {
    emitter.on(name, ({ id }) => events.push(`${name} ${id}`));
  }
  const store = new Store(emitter);
  Object.assign(store, { me: 'alice', hasAllConversations: true });
  let respond = () => undefined;
  const http = {
    request: ({ minPosition }) => {
      syncs.push(minPosition);
      return new Promise((resolve) => {
        respond = () => resolve({ body: { data: pages.shift() ?? [], next: `after ${syncs.length}`, more: false } });
        if (syncs.length === 1) respond();
      });
    },
  };
  let onCaughtUp = () => undefined;
  const caughtUp = new Promise((resolve) => { onCaughtUp = resolve; });
  const synchronizer = new Synchronizer(store, http, (error) => { throw error; }, () => onCaughtUp());
  synchronizer.start('initial');
  synchronizer.connected('connected');
  await caughtUp;
  const respondToSync = async () => {
    respond();
    await new Promise(setImmediate);
  };
  return { syncs, events, store, synchronizer, respondToSync };
}

test('deliveries without a gap are applied without a sync', async () => {
  const { syncs, events, store, synchronizer } = await currentSynchronizer([]);
  synchronizer.receive(newMessage(1, '0:1', null));
  synchronizer.receive(newMessage(2, '0:2', '0:1'));
  synchronizer.receive(newMessage(1, '0:1', null));
  assert.deepEqual(events, ['message:new message-1', 'message:new message-2']);
  assert.deepEqual(store.conversationState(CONVERSATION).messages.map(({ content }) => content), ['1', '2']);
  assert.deepEqual(syncs, ['connected']);
  synchronizer.stop();
});

test('a missing delivery is fetched, and later deliveries wait for it', async () => {
  const reactions = [{ emoji: '👍', label: null, count: 1, userIds: ['carol'] }];
  const page = [
    { kind: 'message', position: '0:2', value: message(1, '0:2', { seq: 1, reactions }) },
    { kind: 'message', position: '0:3', value: message(2, '0:3', { seq: 2 }) },
  ];
  const { syncs, events, store, synchronizer, respondToSync } = await currentSynchronizer([[], page]);
  synchronizer.receive(newMessage(1, '0:1', null));
  synchronizer.receive(newMessage(2, '0:3', '0:2')); // 0:2, the reaction, never arrived
  synchronizer.receive(edit(1, '0:4', '0:3'));
  await new Promise(setImmediate);
  assert.deepEqual(syncs, ['connected', '0:3'], 'the sync includes the delivery that revealed the gap');
  assert.deepEqual(events, ['message:new message-1'], 'an edit that is applied too early would hide the reaction');
  await respondToSync();
  assert.deepEqual(events, ['message:new message-1', 'message:new message-2', 'message:edited message-1']);
  assert.equal(store.message('message-1').content, 'edited');
  assert.equal(store.message('message-1').reactions.length, 1);
  synchronizer.stop();
});

test('a catch-up emits messages in the order in which they were sent, and a deleted one is not new', async () => {
  const deleted = { content: null, deletedAt: '2026-01-01T00:01:00.000Z' };
  const page = [ // sorted by the last change
    { kind: 'message', position: '0:5', value: message(4, '0:5', { seq: 4 }) },
    { kind: 'message', position: '0:6', value: message(2, '0:6', { seq: 2, editedAt: '2026-01-01T00:01:00.000Z' }) },
    { kind: 'message', position: '0:7', value: message(3, '0:7', { seq: 3, ...deleted }) },
    { kind: 'message', position: '0:8', value: message(1, '0:8', { seq: 1 }) },
  ];
  const { events, store, synchronizer } = await currentSynchronizer([page]);
  assert.deepEqual(events, [
    'message:new message-1', 'message:new message-2', 'message:new message-4', 'message:deleted message-3',
  ]);
  const seqs = store.conversationState(CONVERSATION).messages.map(({ seq }) => seq);
  assert.deepEqual(seqs, [1, 2, 3, 4], 'the deleted message keeps its place');
  synchronizer.stop();
});
