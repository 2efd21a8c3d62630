// What deliveries change in a message, without a server.

import assert from 'node:assert/strict';
import { test } from 'node:test';
import { isSameEmoji } from '../dist/index.js';
import { reactionDifferences, reduceMessage } from '../dist/reducers.js';

const [RED_HEART, HEART, HEART_AS_TEXT] = ['❤\uFE0F', '❤', '❤\uFE0E'];

const withReactions = (...reactions) => ({ id: 'message-1', deletedAt: null, reactions });
const added = (userId, emoji, label = null) => ({ name: 'reaction:added', payload: { userId, emoji, label } });
const removed = (userId, emoji) => ({ name: 'reaction:removed', payload: { userId, emoji, label: null } });
const reduce = (message, ...changes) => changes.reduce((before, change) => reduceMessage(before, change).value, message);

test('emoji that differ only in variation selectors are the same', () => {
  for (const [one, other] of [
    [RED_HEART, HEART], [HEART, HEART_AS_TEXT], ['🏳️‍🌈', '🏳‍🌈'], ['👁️‍🗨️', '👁‍🗨'], ['1️⃣', '1⃣'], ['❤️‍🔥', '❤‍🔥'], ['👍', '👍'],
  ]) assert.ok(isSameEmoji(one, other), `${one} ${other}`);
  for (const [one, other] of [['👍', '👍🏽'], ['❤️', '🖤'], ['👩‍❤️‍👩', '👩‍❤️‍👨'], ['🏳️‍🌈', '🏳️']]) {
    assert.ok(!isSameEmoji(one, other), `${one} ${other}`);
  }
});

test('reactions with two forms of an emoji are one group, shown as it was first given', () => {
  const both = reduce(withReactions(), added('alice', HEART), added('bob', RED_HEART, 'love'));
  assert.deepEqual(both.reactions, [{ emoji: HEART, label: 'love', count: 2, userIds: ['alice', 'bob'] }]);
  const one = reduce(withReactions(), added('alice', RED_HEART), added('alice', HEART), added('alice', HEART_AS_TEXT));
  assert.deepEqual(one.reactions, [{ emoji: RED_HEART, label: null, count: 1, userIds: ['alice'] }]);
});

test('a reaction is removed by any form of its emoji', () => {
  const before = withReactions({ emoji: RED_HEART, label: null, count: 2, userIds: ['alice', 'bob'] });
  const after = reduce(before, removed('alice', HEART));
  assert.deepEqual(after.reactions, [{ emoji: RED_HEART, label: null, count: 1, userIds: ['bob'] }]);
  assert.deepEqual(reduce(after, removed('bob', HEART_AS_TEXT)).reactions, []);
});

test('a group that the server shows in another form emits nothing', () => {
  const group = { label: null, count: 1, userIds: ['alice'] };
  const [before, after] = [HEART, RED_HEART].map((emoji) => withReactions({ emoji, ...group }));
  assert.deepEqual(reactionDifferences(before, after), []);
  assert.deepEqual(reactionDifferences(before, withReactions()).map(({ name }) => name), ['reaction:removed']);
});
