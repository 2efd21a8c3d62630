// What the server and its clients say to one another: the HTTP API as generated from its OpenAPI document, and the
// events of the socket.

import type { components } from './openapi.js';

type Schemas = components['schemas'];

/** A message as the server shows it. `seq` is its place in the conversation: 1..n without holes. */
export type Message = Schemas['Message'];
/** A conversation as this user sees it. */
export type Conversation = Schemas['Conversation'];
/** One of a conversation's people, and how far they have read. */
export type Participant = Schemas['Participant'];
/** Everyone who reacted to a message with one emoji: the first 20 of them by name. */
export type Reactions = Schemas['Reactions'];
/** How far somebody has read. */
export type ReadMark = Schemas['ReadMark'];
/** A file that lives elsewhere. */
export type Attachment = Schemas['Attachment'];
/** What a message is. */
export type MessageType = Schemas['MessageType'];
/** An error as the server tells it (RFC 9457). */
export type Problem = Schemas['Problem'];
/** What is wrong with one field. */
export type FieldError = Schemas['FieldError'];
/** One thing that changed, as `sync` gives it. */
export type Changed = Schemas['Changed'];
/** A page of what changed. */
export type Changes = Schemas['Changes'];

/** Where in the log something is: partition and offset, such as `7:42`. */
export type Position = string;

/** Whether somebody is there. */
export interface Presence {
  userId: string;
  status: 'online' | 'offline';
  /** When they were last seen, RFC 3339; null where nobody knows. */
  lastSeenAt: string | null;
}

/** Whose reaction, to what. */
export interface ReactionChange {
  messageId: string;
  conversationId: string;
  userId: string;
  emoji: string;
  label: string | null;
}

/** Who is typing where. */
export interface Typing {
  userId: string;
  conversationId: string;
}

/** Where a delivery is in the log, and which came before it in its conversation. */
export interface Meta {
  position: Position;
  previous: Position | null;
  eventId: string;
}

/** The deliveries to whole conversations: none may be missed. */
export interface Frames {
  'message:new': Message;
  'message:edited': Pick<Message, 'id' | 'conversationId' | 'content' | 'mentions' | 'editedAt'>;
  'message:deleted': { messageId: string; conversationId: string; deletedAt: string };
  'reaction:added': ReactionChange;
  'reaction:removed': ReactionChange;
  'messages:read': { conversationId: string; userId: string; messageId: string | null };
  'conversation:created': Conversation;
}

/** A delivery with what it is about. */
export type Delivery = { [Name in keyof Frames]: { name: Name; payload: Frames[Name]; meta: Meta } }[keyof Frames];

/** What the server sends over the socket. */
export type FromServer = {
  [Name in keyof Frames]: (payload: Frames[Name], meta: Meta) => void;
} & {
  'connection:ready': (payload: { userId: string; position: string }) => void;
  'typing:start': (payload: Typing) => void;
  'typing:stop': (payload: Typing) => void;
  'presence:update': (payload: Presence) => void;
};

/** What a client asks over the socket. */
export interface ToServer {
  'presence:get': (
    question: { userIds: string[] },
    answer: (presences: Presence[] | { error: { code: string; detail: string } }) => void,
  ) => void;
}

/** The names of the deliveries to whole conversations. */
export const FRAMES: readonly (keyof Frames)[] = [
  'message:new', 'message:edited', 'message:deleted', 'reaction:added', 'reaction:removed', 'messages:read',
  'conversation:created',
];

/** A position's offset; -1 for none. One conversation lives in one partition, so its offsets compare. */
export function offset(position: Position | null | undefined): number {
  return position ? Number(position.slice(position.indexOf(':') + 1)) : -1;
}
