// Compares the rows of Postgres with the fold.

import { difference } from './difference.mjs';

/** The members' rows of larger conversations don't copy its activity and its last change. */
const SMALL_CONVERSATION_MAX = 64;

const offset = (position) => Number(position.split(':')[1]);
const partition = (position) => Number(position.split(':')[0]);
const time = (text) => (text === null ? null : new Date(text).toISOString());
const TIMES = ['created_at', 'updated_at', 'last_read_at', 'recent_at', 'edited_at', 'deleted_at'];

/** Yields the differences of each table. */
export function* rowDifferences(run, fold) {
  yield* table(run, 'conversations', ({ id }) => id, conversationRows(fold));
  yield* table(run, 'members', ({ conversation_id: id, user_id: user }) => `${id} ${user}`, memberRows(fold));
  yield* table(run, 'messages', ({ conversation_id: id, seq }) => `${id} ${seq}`, messageRows(fold));
  yield* table(run, 'reactions', ({ conversation_id: id, message_id: message, ordinal }) => `${id} ${message} ${ordinal}`, reactionRows(fold));
  yield* table(run, 'applied_events', ({ conversation_id: id, event_id: event }) => `${id} ${event}`, appliedRows(fold));
  const next = new Map(Array.from(run.rows('partitions'), (row) => [row.partition, row.next_offset]));
  const last = new Map(run.log.map((record) => [record.partition, record.offset]));
  for (const [number, end] of last) {
    if (!(next.get(number) > end)) yield `Postgres: partition ${number} is folded up to ${next.get(number)}, but the log has ${end}`;
  }
}

function* table(run, name, idOf, expected) {
  const rows = new Map(Array.from(run.rows(name), (row) => [idOf(row), row]));
  for (const row of expected) {
    const id = idOf(row);
    const actual = rows.get(id);
    rows.delete(id);
    if (!actual) {
      yield `Postgres: ${name} has no row ${id}`;
      continue;
    }
    for (const column of TIMES) if (column in actual) actual[column] = time(actual[column]);
    const wrong = difference(actual, row);
    if (wrong) yield `Postgres: ${name} ${id}: ${wrong}`;
  }
  for (const id of rows.keys()) yield `Postgres: ${name} has a row ${id} that the log doesn't fold to`;
}

function* conversationRows(fold) {
  for (const { id, type, title, members, messages, createdAt, updatedAt, position } of fold.conversations.values()) {
    yield {
      id, partition: partition(position), kind: type, title, participant_count: members.size, created_at: createdAt,
      updated_at: updatedAt, last_seq: messages.length, last_message_id: messages.at(-1)?.id ?? null,
      changed: offset(position),
    };
  }
}

function* memberRows(fold) {
  for (const conversation of fold.conversations.values()) {
    const small = conversation.members.size <= SMALL_CONVERSATION_MAX;
    for (const { userId, ordinal, lastReadSeq, lastReadAt, position } of conversation.members.values()) {
      yield {
        conversation_id: conversation.id, user_id: userId, ordinal, last_read_seq: lastReadSeq, last_read_at: lastReadAt,
        position: offset(position), recent_at: small ? conversation.updatedAt : null, partition: partition(position),
        changed: small ? offset(conversation.position) : null,
      };
    }
  }
}

function* messageRows(fold) {
  for (const one of fold.messages.values()) {
    yield {
      conversation_id: one.conversationId, seq: one.seq, id: one.id, sender_id: one.senderId, content: one.content,
      message_type: one.messageType, attachments: one.attachments, mentions: one.mentions, reply_to_id: one.replyToId,
      created_at: one.createdAt, edited_at: one.editedAt, deleted_at: one.deletedAt, position: offset(one.position),
    };
  }
}

function* reactionRows(fold) {
  for (const { id, conversationId, reactions } of fold.messages.values()) {
    for (const [ordinal, { emoji, label, users }] of reactions.entries()) {
      yield { conversation_id: conversationId, message_id: id, ordinal, emoji, label, user_ids: users };
    }
  }
}

function* appliedRows(fold) {
  for (const [id, { position, actorId, idempotencyKey }] of fold.applied) {
    const [conversation, event] = id.split(' ');
    yield {
      conversation_id: conversation, event_id: event, actor_id: actorId, idempotency_key: idempotencyKey,
      partition: partition(position), position: offset(position),
    };
  }
}
