//! The events that the server sends to sockets: their names and their payloads, which clients rely on. An event may come,
//! and so may an optional field of a payload; none may go or change.
//!
//! The doc comments of events and payloads are what `/asyncapi.json` says about them.

use std::marker::PhantomData;

use domain::view::{ConversationView, MessageView};
use domain::{ConversationId, MessageId, Timestamp, UserId, schema};
use schemars::generate::Contract;
use schemars::{JsonSchema, Schema};
use serde::Serialize;
use serde_json::Value;
use serde_json::value::{RawValue, to_raw_value};

/// An event with a payload of the type `P`.
pub(crate) struct ServerEvent<P> {
    pub(crate) name: &'static str,
    payload: PhantomData<fn() -> P>,
}

impl<P: Serialize> ServerEvent<P> {
    /// Encodes the payload of this event.
    pub(crate) fn encode(&self, payload: &P) -> Box<RawValue> {
        encode_payload(payload)
    }
}

/// Encodes a payload. All of its keys are texts, all of its values plain, so this can't fail.
pub(crate) fn encode_payload(payload: &impl Serialize) -> Box<RawValue> {
    to_raw_value(payload).unwrap_or_default()
}

/// The sockets that get an event.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Recipients {
    /// The one socket that the event is about.
    Socket,
    /// The sockets of everyone in a conversation. Only these events have a second argument.
    Conversation,
    /// The sockets of everyone in a conversation, except those of the user whom the event is about.
    Others,
    /// The sockets of the user whom the event is about.
    User,
    /// The sockets of everyone who shares a conversation of up to 50 participants with the user whom the event is about.
    Acquaintances,
}

/// What an event says and who gets it.
#[derive(Debug)]
pub struct ServerEventSchema {
    /// The name under which clients listen for the event.
    pub name: &'static str,
    /// When the server sends it, in a sentence or two.
    pub description: &'static str,
    /// The sockets that get it.
    pub recipients: Recipients,
    /// The JSON Schema of its first argument.
    pub payload: Schema,
}

/// Defines the events, and a function that describes all of them.
macro_rules! server_events {
    ($($(#[doc = $line:literal])+ $event:ident $name:literal $payload:ty => $recipients:ident;)+) => {
        $(
            $(#[doc = $line])+
            pub(crate) const $event: ServerEvent<$payload> = ServerEvent { name: $name, payload: PhantomData };
        )+

        /// Describes every event.
        pub(crate) fn describe() -> Vec<ServerEventSchema> {
            vec![$(
                ServerEventSchema {
                    name: $name,
                    description: concat!($($line),+).trim_ascii_start(),
                    recipients: Recipients::$recipients,
                    payload: schema::complete::<$payload>(Contract::Serialize),
                }
            ),+]
        }
    };
}

server_events! {
    /// The socket is in all conversations of its user. The server delivers everything after `position` to it.
    CONNECTION_READY "connection:ready" ConnectionReady<'static> => Socket;
    /// A participant sent a message. The message has no `seq`, which only the read model knows.
    MESSAGE_NEW "message:new" MessageView => Conversation;
    /// The author edited a message.
    MESSAGE_EDITED "message:edited" MessageEdited<'static> => Conversation;
    /// The author deleted a message.
    MESSAGE_DELETED "message:deleted" MessageDeleted => Conversation;
    /// A participant reacted to a message.
    REACTION_ADDED "reaction:added" ReactionChange<'static> => Conversation;
    /// A participant removed their reaction. The label is null.
    REACTION_REMOVED "reaction:removed" ReactionChange<'static> => Conversation;
    /// A participant read a conversation of up to 50 participants.
    MESSAGES_READ "messages:read" MessagesRead<'static> => Conversation;
    /// A participant created a conversation.
    CONVERSATION_CREATED "conversation:created" ConversationView => Conversation;
    /// A message mentions the user.
    MENTION_NEW "mention:new" Mention<'static> => User;
    /// A participant started typing. A client may miss it.
    TYPING_START "typing:start" Typing<'static> => Others;
    /// A participant stopped typing, or sent no other start for 5 s. A client may miss it.
    TYPING_STOP "typing:stop" Typing<'static> => Others;
    /// A user came or left. A client may miss it.
    PRESENCE_UPDATE "presence:update" Presence => Acquaintances;
    /// The socket emitted an operation, which sockets don't execute. The payload is the HTTP request to make instead.
    MESSAGE_REDIRECT "message:redirect_to_api" Redirect => Socket;
}

/// From where on the server delivers everything.
#[derive(Serialize, JsonSchema)]
#[serde(rename_all = "camelCase")]
pub(crate) struct ConnectionReady<'a> {
    /// The user whom the socket's token names.
    pub(crate) user_id: &'a UserId,
    /// A position token. Call `sync` from your own token until your token includes this one.
    pub(crate) position: String,
}

/// The new content of a message.
#[derive(Serialize, JsonSchema)]
#[serde(rename_all = "camelCase")]
pub(crate) struct MessageEdited<'a> {
    /// The edited message.
    pub(crate) id: MessageId,
    /// The conversation of the message.
    pub(crate) conversation_id: ConversationId,
    /// The new content. It replaces the old content.
    pub(crate) content: &'a str,
    /// The participants whom the new content mentions.
    pub(crate) mentions: &'a [UserId],
    /// When the author edited the message.
    pub(crate) edited_at: Timestamp,
}

/// The deletion of a message. It is final.
#[derive(Serialize, JsonSchema)]
#[serde(rename_all = "camelCase")]
pub(crate) struct MessageDeleted {
    /// The deleted message.
    pub(crate) message_id: MessageId,
    /// The conversation of the message.
    pub(crate) conversation_id: ConversationId,
    /// When the author deleted the message.
    pub(crate) deleted_at: Timestamp,
}

/// A user's reaction to a message.
#[derive(Serialize, JsonSchema)]
#[serde(rename_all = "camelCase")]
pub(crate) struct ReactionChange<'a> {
    /// The message with the reaction.
    pub(crate) message_id: MessageId,
    /// The conversation of the message.
    pub(crate) conversation_id: ConversationId,
    /// The user who reacted.
    pub(crate) user_id: &'a UserId,
    /// The emoji in the spelling that this user gave. Compare it without variation selectors (U+FE0E, U+FE0F).
    pub(crate) emoji: &'a str,
    /// A label for the emoji. With null, the emoji keeps the label that it has.
    pub(crate) label: Option<&'a str>,
}

/// How far a participant has read a conversation.
#[derive(Serialize, JsonSchema)]
#[serde(rename_all = "camelCase")]
pub(crate) struct MessagesRead<'a> {
    /// The conversation that the participant has read.
    pub(crate) conversation_id: ConversationId,
    /// The participant's user id.
    pub(crate) user_id: &'a UserId,
    /// The last message that the participant has read. Null means everything before this event.
    pub(crate) message_id: Option<MessageId>,
}

/// A mention of the user who gets the event.
#[derive(Serialize, JsonSchema)]
#[serde(rename_all = "camelCase")]
pub(crate) struct Mention<'a> {
    /// The message with the mention.
    pub(crate) message_id: MessageId,
    /// The conversation of the message.
    pub(crate) conversation_id: ConversationId,
    /// The mentioned user.
    pub(crate) user_id: &'a UserId,
    /// The author of the message.
    pub(crate) by: &'a UserId,
}

/// A user who types, or no longer does.
#[derive(Serialize, JsonSchema)]
#[serde(rename_all = "camelCase")]
pub(crate) struct Typing<'a> {
    /// The user who types.
    pub(crate) user_id: &'a UserId,
    /// The conversation in which they type.
    pub(crate) conversation_id: ConversationId,
}

/// Whether a user is online.
#[derive(Debug, PartialEq, Serialize, JsonSchema)]
#[serde(rename_all = "camelCase")]
pub(crate) struct Presence {
    /// The user who is online or not.
    pub(crate) user_id: UserId,
    /// Online while the user has a socket on any node.
    pub(crate) status: PresenceStatus,
    /// When the server last saw the user. Null if it never did.
    pub(crate) last_seen_at: Option<Timestamp>,
}

/// The words for presence.
#[derive(Debug, PartialEq, Serialize, JsonSchema)]
#[serde(rename_all = "lowercase")]
pub(crate) enum PresenceStatus {
    Online,
    Offline,
}

impl PresenceStatus {
    /// The word for a user who is online, or isn't.
    pub(crate) fn of(is_online: bool) -> Self {
        if is_online { Self::Online } else { Self::Offline }
    }
}

/// The HTTP request that does what an emitted operation asks for.
#[derive(Debug, PartialEq, Serialize, JsonSchema)]
#[serde(rename_all = "camelCase")]
pub(crate) struct Redirect {
    /// The operation that the client emitted.
    pub(crate) event: &'static str,
    /// The method of the request.
    pub(crate) method: &'static str,
    /// The path of the request. It contains `{messageId}` if the operation named no message.
    pub(crate) path: String,
    /// The body of the request. Null if it has none.
    pub(crate) body: Option<serde_json::Map<String, Value>>,
}
