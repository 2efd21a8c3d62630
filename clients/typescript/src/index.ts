// The client library of Messages. Start with `connect`.

export { connect, Client, type Options } from './client.js';
export { contentError } from './content.js';
export { isSameEmoji } from './emoji.js';
export { MessagesError } from './errors.js';
export type { TokenSource } from './auth.js';
export type { Events, State } from './events.js';
export type { Draft } from './outbox.js';
export type { StoredMessage } from './conversation-state.js';
export type {
  Attachment, Conversation, FieldError, Message, MessageType, Participant, Presence, ReactionChange, Reactions, Typing,
} from './types.js';
