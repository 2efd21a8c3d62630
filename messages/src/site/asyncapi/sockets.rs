//! The sockets: a message is an event of Socket.IO. Its payload is the event's first argument, and its headers are the
//! second.

use realtime::{ClientEventResponse, ClientEventSchema, Recipients, ServerEventSchema, SocketProtocol};
use serde_json::{Map, Value, json};

use super::channel_part::{ChannelPart, embedded, message_references};

/// The channel's key in the document.
const KEY: &str = "sockets";

const DESCRIPTION: &str = "\
The namespace `/`, over WebSocket or polling, with any official client of Socket.IO. A message is an event. Its payload is \
the event's first argument, and its headers are the second one, if there is one.

The server puts a socket into the room of each conversation of its user, also of those that come later. Each event to a \
whole room has a second argument, from which a client learns that it missed one. `GET /api/messages/sync` then brings \
what it missed. Sockets only deliver: to change something, use the HTTP API.";

/// Who gets the events of one operation.
struct Audience {
    recipients: Recipients,
    /// The operation's key in the document.
    operation: &'static str,
    title: &'static str,
    summary: &'static str,
}

const AUDIENCES: [Audience; 5] = [
    Audience {
        recipients: Recipients::Conversation,
        operation: "sendToConversation",
        title: "To a whole conversation",
        summary: "The server sends it to all sockets of everyone in the conversation.",
    },
    Audience {
        recipients: Recipients::Others,
        operation: "sendToOthers",
        title: "To the others in a conversation",
        summary: "The server sends it to all sockets of everyone in the conversation, except those of the user.",
    },
    Audience {
        recipients: Recipients::User,
        operation: "sendToUser",
        title: "To one user",
        summary: "The server sends it to all sockets of the user.",
    },
    Audience {
        recipients: Recipients::Acquaintances,
        operation: "sendToAcquaintances",
        title: "To people who know a user",
        summary: "The server sends it to all sockets of everyone who shares a conversation of up to 50 participants \
                  with the user.",
    },
    Audience {
        recipients: Recipients::Socket,
        operation: "sendToSocket",
        title: "To one socket",
        summary: "The server sends it to one socket.",
    },
];

/// The processes that serve sockets.
pub(super) fn server() -> Value {
    json!({
        "host": "{host}",
        "pathname": realtime::socket_protocol().path,
        "protocol": "socket.io",
        "protocolVersion": "5",
        "description": "A realtime node, or the proxy in front of several.",
        "variables": {"host": {"default": "127.0.0.1:8080", "description": "The host and port of the server."}},
        "security": [{"$ref": "#/components/securitySchemes/user"}],
    })
}

/// How a client says who its user is.
pub(super) fn security_scheme() -> Value {
    json!({
        "type": "http",
        "scheme": "bearer",
        "bearerFormat": "JWT",
        "description": "The token of the HTTP API, as `auth.token` of the handshake. The server may also accept it in a \
                        cookie, whose name the operator chooses. Without a valid token the client gets a \
                        `connect_error`.",
    })
}

/// What the document says about the sockets.
pub(super) fn part() -> ChannelPart {
    let protocol = realtime::socket_protocol();
    let channel = json!({
        "address": "/",
        "title": "The sockets",
        "description": DESCRIPTION,
        "servers": [{"$ref": "#/servers/realtime"}],
    });
    let operations = AUDIENCES.iter().map(|audience| (audience.operation, sending(audience, &protocol)));
    let operations = operations.chain(receiving(&protocol)).collect();
    ChannelPart { key: KEY, channel, operations, messages: messages(protocol) }
}

/// The key of an event of the server's.
fn server_key(event: &str) -> String {
    format!("server.{}", event.replace(':', "."))
}

/// The key of an event of a client's.
fn client_key(event: &str) -> String {
    format!("client.{}", event.replace(':', "."))
}

/// The key of the acknowledgement of a client's event.
fn acknowledgement_key(event: &str) -> String {
    format!("{}.acknowledgement", client_key(event))
}

/// What the server sends to an audience.
fn sending(audience: &Audience, protocol: &SocketProtocol) -> Value {
    let own = protocol.server_events.iter().filter(|event| event.recipients == audience.recipients);
    json!({
        "action": "send",
        "channel": {"$ref": format!("#/channels/{KEY}")},
        "title": audience.title,
        "summary": audience.summary,
        "messages": message_references(KEY, own.map(|event| server_key(event.name))),
    })
}

/// What the server receives: the events that it acknowledges, and those to which it answers with another event.
fn receiving(protocol: &SocketProtocol) -> [(&'static str, Value); 2] {
    let is_acknowledged =
        |event: &&ClientEventSchema| matches!(event.response, ClientEventResponse::Acknowledgement(_));
    let (acknowledged, redirected): (Vec<_>, Vec<_>) = protocol.client_events.iter().partition(is_acknowledged);
    let operation = |title: &str, summary: &str, events: &[&ClientEventSchema], responses: Vec<String>| {
        json!({
            "action": "receive",
            "channel": {"$ref": format!("#/channels/{KEY}")},
            "title": title,
            "summary": summary,
            "messages": message_references(KEY, events.iter().map(|event| client_key(event.name))),
            "reply": {
                "channel": {"$ref": format!("#/channels/{KEY}")},
                "messages": message_references(KEY, responses),
            },
        })
    };
    let acknowledgements = acknowledged.iter().map(|event| acknowledgement_key(event.name)).collect();
    let mut answers: Vec<String> = redirected
        .iter()
        .filter_map(|event| match event.response {
            ClientEventResponse::Event(name) => Some(server_key(name)),
            ClientEventResponse::Acknowledgement(_) => None,
        })
        .collect();
    answers.dedup();
    [
        ("acknowledge", operation("Queries", "The server acknowledges it.", &acknowledged, acknowledgements)),
        ("redirect", operation("Operations", "The server executes none of these.", &redirected, answers)),
    ]
}

fn messages(protocol: SocketProtocol) -> Map<String, Value> {
    let SocketProtocol { server_events, client_events, sequence, .. } = protocol;
    let sequence = embedded(sequence);
    let mut messages = Map::new();
    for ServerEventSchema { name, description, recipients, payload } in server_events {
        let mut message = json!({"name": name, "summary": description, "payload": embedded(payload)});
        if recipients == Recipients::Conversation {
            message["headers"] = sequence.clone();
        }
        messages.insert(server_key(name), message);
    }
    for ClientEventSchema { name, description, payload, response } in client_events {
        messages.insert(client_key(name), json!({"name": name, "summary": description, "payload": embedded(payload)}));
        if let ClientEventResponse::Acknowledgement(schema) = response {
            let summary = "The acknowledgement has one argument.";
            let message = json!({"name": name, "summary": summary, "payload": embedded(schema)});
            messages.insert(acknowledgement_key(name), message);
        }
    }
    messages
}
