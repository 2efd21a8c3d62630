// The types of everything that the server and its clients exchange: the HTTP API, as generated from its OpenAPI
// document, and the events of the socket.

import type { operations } from './openapi.js';

// Taken from the operations, whose names are part of the API; the names of the document's schemas aren't.
type Ok<Name extends 'message' | 'conversation' | 'sync'> =
  operations[Name]['responses'][200]['content']['application/json'];

/** A message as the server shows it. `seq` is its place in the conversation: 1..n without gaps. */
export type Message = Ok<'message'>['data'];
/** A conversation as this user sees it. */
export type Conversation = Ok<'conversation'>['data'];
/** A participant of a conversation, and how far they have read. */
export type Participant = Conversation['participants'][number];
/** All reactions to a message with one emoji; `userIds` are the first 20 people. */
export type Reactions = Message['reactions'][number];
/** A file that is stored elsewhere. */
export type Attachment = Message['attachments'][number];
/** The kind of a message. */
export type MessageType = Message['messageType'];
/** An error response of the server (RFC 9457). */
export type Problem = operations['message']['responses'][404]['content']['application/problem+json'];
/** Why the server refuses a field. */
export type FieldError = Problem['errors'][number];
/** A page of changes, as `sync` returns it. */
export type SyncPage = Ok<'sync'>;
/** One changed conversation, message or read mark. */
export type SyncChange = SyncPage['data'][number];
/** How far a participant has read. */
export type ReadMark = Extract<SyncChange, { kind: 'readMark' }>['value'];

/** A place on the log: partition and offset, such as `7:42`. */
export type Position = string;

/** Whether a user is online. */
export interface Presence {
  userId: string;
  status: 'online' | 'offline';
  /** When the user was last seen (RFC 3339); null where the server doesn't know. */
  lastSeenAt: string | null;
}

/** A reaction that a user added or removed. */
export interface ReactionChange {
  messageId: string;
  conversationId: string;
  userId: string;
  emoji: string;
  label: string | null;
}

/** A user who types in a conversation. */
export interface Typing {
  userId: string;
  conversationId: string;
}

/** The position of a delivery, and the position of the one before it in its conversation. */
export interface Meta {
  position: Position;
  previous: Position | null;
  eventId: string;
}

/** The payloads of the deliveries to whole conversations: a client must not miss any of them. */
export interface Frames {
  'message:new': Message;
  'message:edited': Pick<Message, 'id' | 'conversationId' | 'content' | 'mentions' | 'editedAt'>;
  'message:deleted': { messageId: string; conversationId: string; deletedAt: string };
  'reaction:added': ReactionChange;
  'reaction:removed': ReactionChange;
  'messages:read': { conversationId: string; userId: string; messageId: string | null };
  'conversation:created': Conversation;
}

/** A delivery: its name, its payload and its position. */
export type Delivery = { [Name in keyof Frames]: { name: Name; payload: Frames[Name]; meta: Meta } }[keyof Frames];

/** The events that the server sends over the socket. */
export type ServerEvents = {
  [Name in keyof Frames]: (payload: Frames[Name], meta: Meta) => void;
} & {
  'connection:ready': (payload: { userId: string; position: string }) => void;
  'typing:start': (payload: Typing) => void;
  'typing:stop': (payload: Typing) => void;
  'presence:update': (payload: Presence) => void;
};

/** The requests that a client sends over the socket. */
export interface ClientEvents {
  'presence:get': (
    request: { userIds: string[] },
    acknowledge: (presences: Presence[] | { error: { code: string; detail: string } }) => void,
  ) => void;
}

/** The names of the deliveries to whole conversations. */
export const FRAME_NAMES: readonly (keyof Frames)[] = [
  'message:new', 'message:edited', 'message:deleted', 'reaction:added', 'reaction:removed', 'messages:read',
  'conversation:created',
];

/** The offset of a position; -1 for none. A conversation has one partition, so its offsets can be compared. */
export function offset(position: Position | null | undefined): number {
  return position ? Number(position.slice(position.indexOf(':') + 1)) : -1;
}
