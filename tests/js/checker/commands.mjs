// Compares what was answered with the log: every acknowledged command is on it, as it was answered, and had its effect
// once; no refused one is; and nobody else wrote.

import { derivedId, eventOf } from './fold.mjs';
import { difference } from './difference.mjs';

/** How many participants the response to a creation names. */
const PARTICIPANTS_SHOWN = 50;

/** Yields the differences. The client library chooses the keys of its users, so theirs aren't known beforehand. */
export function* commandDifferences(run, fold) {
  for (const violation of run.violations) yield `while it ran: ${JSON.stringify(violation)}`;
  const byKey = new Map();
  for (const record of run.log) {
    const event = eventOf(record);
    if (!event) {
      yield `the record at ${record.partition}:${record.offset} is no event`;
      continue;
    }
    if (record.key !== event.conversationId) yield `the record at ${record.partition}:${record.offset} has the key ${record.key}`;
    if (!event.idempotencyKey) continue;
    const use = `${event.actorId} ${event.idempotencyKey}`;
    const uses = byKey.get(use) ?? [];
    byKey.set(use, uses);
    uses.push({ event, position: `${record.partition}:${record.offset}` });
  }
  const library = new Set(run.users.filter(({ kind }) => kind === 'library').map(({ user }) => user));
  const sent = new Set();
  for (const command of run.commands) {
    const use = `${command.user} ${command.key}`;
    sent.add(use);
    const wrong = commandDifference(command, byKey.get(use) ?? [], fold);
    if (wrong) yield `${command.user}'s ${command.kind} with the key ${command.key}: ${wrong}`;
  }
  for (const [use, [{ event, position }]] of byKey) {
    if (!sent.has(use) && !library.has(event.actorId)) yield `nobody sent the ${event.type} of ${use} at ${position}`;
  }
  yield* copyDifferences(byKey);
  yield* repeatedContents(fold);
  for (const { user, id } of run.libraryMessages) {
    if (![...fold.conversations.keys()].some((conversation) => fold.message(conversation, id)?.senderId === user)) {
      yield `${user}'s library sent the message ${id}, which isn't on the log`;
    }
  }
}

function commandDifference(command, uses, fold) {
  if (command.outcome === 'refused') return uses.length > 0 ? `it was refused (${command.code}) and is on the log at ${uses[0].position}` : undefined;
  if (command.outcome !== 'acknowledged') return undefined;
  if (uses.length === 0) return `it was acknowledged at ${command.position} and isn't on the log`;
  const { event, position } = uses[0];
  const id = derivedId(event.conversationId, command.user, command.key, event.type);
  if (event.eventId !== id) return `its event is ${event.eventId} instead of ${id}`;
  if (!fold.applied.has(`${event.conversationId} ${id}`)) return `its event at ${position} doesn't count`;
  const wrong = difference(command.data, answerOf(event));
  if (wrong) return `the answer isn't that of its event at ${position}: ${wrong}`;
  return positionDifference(command, uses);
}

/** The first answer names the position of one of its records; a repeated one names one where the effect is visible. */
function positionDifference({ position, replayed }, uses) {
  if (uses.some((use) => use.position === position)) return undefined;
  const [partition, offset] = position.split(':').map(Number);
  const [first, firstOffset] = uses[0].position.split(':').map(Number);
  if (replayed && partition === first && offset >= firstOffset) return undefined;
  return `it was acknowledged at ${position}, but is at ${uses.map((use) => use.position)}`;
}

/** The response's data, which depends on the event alone. */
function answerOf({ type, actorId, conversationId, occurredAt, data }) {
  const { messageId, content, mentions, emoji } = data;
  switch (type) {
    case 'CONVERSATION_CREATED': {
      const { participantIds, title } = data;
      const shown = participantIds.slice(0, PARTICIPANTS_SHOWN);
      return { id: conversationId, type: data.type, title: title ?? null, participantCount: participantIds.length, participantIds: shown };
    }
    case 'MESSAGE_SENT':
      return {
        id: messageId, conversationId, senderId: actorId, content, messageType: data.messageType ?? 'TEXT',
        attachments: data.attachments ?? [], mentions: mentions ?? [], replyToId: data.replyToId ?? null, reactions: [],
        createdAt: occurredAt, editedAt: null, deletedAt: null,
      };
    case 'MESSAGE_EDITED': return { id: messageId, conversationId, content, mentions: mentions ?? [], editedAt: occurredAt };
    case 'MESSAGE_DELETED': return { id: messageId, conversationId, deletedAt: occurredAt };
    case 'REACTION_ADDED': return { messageId, emoji, label: data.label ?? null };
    case 'REACTION_REMOVED': return { messageId, emoji, label: null };
    case 'MESSAGES_READ': return { conversationId, messageId: messageId ?? null };
    default: return `no command appends ${type}`;
  }
}

/** Copies of an event say the same, though a retry without Redis may have decided it again, at another time. */
function* copyDifferences(byKey) {
  for (const [use, uses] of byKey) {
    const said = ({ event: { eventId, type, data } }) => ({ eventId, type, data });
    const other = uses.find((one) => difference(said(one), said(uses[0])));
    if (other) yield `${use} has two events: at ${uses[0].position} and at ${other.position}`;
  }
}

/** Every message of a run has a text of its own. */
function* repeatedContents(fold) {
  const seen = new Map();
  for (const { id, content, senderId, editedAt } of fold.messages.values()) {
    if (content === null || editedAt) continue;
    const before = seen.get(content);
    if (before) yield `${senderId}'s message "${content}" is there twice: ${before} and ${id}`;
    seen.set(content, id);
  }
}
