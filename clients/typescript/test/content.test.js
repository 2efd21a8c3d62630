// The contents that the client refuses itself.

import assert from 'node:assert/strict';
import { test } from 'node:test';
import { Emitter } from '../dist/events.js';
import { contentError } from '../dist/index.js';
import { Outbox } from '../dist/outbox.js';
import { Store } from '../dist/store.js';

test('a content without anything visible is empty, in the words of the server', () => {
  for (const content of [
    '', ' ', '\n\t', '\u00A0\u3000', '\u200B', '\u200D', '\u2060', '\uFEFF', '\u00AD', '\u034F', '\u115F', '\u2800', '\u3164',
    '\uFFA0', '\uFE0F', '\u{E0020}', '\u{1D173}', '\u202E', '\u0007', '\u009F', '\uFFF9', ' \u200B\u2800\n\u3164',
  ]) {
    const error = contentError(content);
    const detail = 'must not be empty unless the message has attachments';
    assert.deepEqual([error?.code, error?.message], ['empty', `content ${detail}`], JSON.stringify(content));
    assert.deepEqual(error.errors, [{ field: 'content', code: 'empty', detail }]);
    assert.equal(contentError(content, true), undefined);
  }
  for (const content of ['.', ' a ', '\u200Ba', '❤\uFE0F', '\u3164.', '⠁', '\u0301', '\uFFFC', '👩‍👩‍👧']) {
    assert.equal(contentError(content), undefined, JSON.stringify(content));
  }
});

test('a content counts in characters, and may have 4,000', () => {
  for (const character of ['x', 'é', '👍']) {
    assert.equal(contentError(character.repeat(4_000)), undefined);
    const error = contentError(character.repeat(4_001), true);
    assert.deepEqual([error?.code, error?.message], ['too_long', 'content must be at most 4000 characters']);
  }
});

test('a refused message is never sent: it fails, and stays until it is discarded', async () => {
  const store = new Store(new Emitter());
  store.me = 'alice';
  const requests = [];
  const http = {
    request: async (request) => {
      requests.push(request);
      return { body: { data: {} }, position: '0:1' };
    },
  };
  const outbox = new Outbox(store, http, () => undefined);
  const messages = () => store.conversationState('conversation-1').messages;
  await assert.rejects(outbox.send('conversation-1', { content: '\u200B' }), { code: 'empty', status: 0, unknown: false });
  const [failed] = messages();
  assert.deepEqual([failed.pending, failed.error.code], ['failed', 'empty']);
  await assert.rejects(outbox.retry(failed.id), { code: 'empty' });
  outbox.discard(failed.id);
  assert.deepEqual([messages(), requests], [[], []]);
  const attachments = [{ url: 'https://files.example/a.png', name: 'a.png', mimeType: 'image/png', size: 5 }];
  await outbox.send('conversation-1', { content: '', attachments });
  assert.equal(requests.length, 1);
});
