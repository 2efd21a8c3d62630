//! Describes what clients and the server send each other over sockets, for `/asyncapi.json`. The schemas come from the
//! types that realtime encodes and decodes.

use domain::schema;
use schemars::generate::Contract;
use schemars::{Schema, json_schema};

use crate::presence::{PRESENCE_GET, PresenceAcknowledgement, PresenceRequest};
use crate::rooms::FrameSequence;
use crate::server_events::{self, MESSAGE_REDIRECT, ServerEventSchema};
use crate::session::OPERATIONS;
use crate::transport::PATH;

/// What clients and the server send each other over a socket.
#[derive(Debug)]
pub struct SocketProtocol {
    /// The path at which clients connect.
    pub path: &'static str,
    /// The events that the server sends.
    pub server_events: Vec<ServerEventSchema>,
    /// The JSON Schema of the second argument of events to a whole conversation.
    pub sequence: Schema,
    /// The events that clients may emit.
    pub client_events: Vec<ClientEventSchema>,
}

/// An event that a client may emit.
#[derive(Debug)]
pub struct ClientEventSchema {
    /// The name that the client emits.
    pub name: &'static str,
    /// What the server does with it, in a sentence or two.
    pub description: String,
    /// The JSON Schema of its argument.
    pub payload: Schema,
    /// What the client gets for it.
    pub response: ClientEventResponse,
}

/// What a client gets for an event that it emitted.
#[derive(Debug)]
pub enum ClientEventResponse {
    /// An acknowledgement with this JSON Schema.
    Acknowledgement(Schema),
    /// The server event of this name.
    Event(&'static str),
}

/// The events of sockets with the schemas of their arguments.
pub fn socket_protocol() -> SocketProtocol {
    let operations = OPERATIONS.into_iter().map(|operation| ClientEventSchema {
        name: operation.event,
        description: format!("Sockets don't execute this. The response names the HTTP request to make: {operation}."),
        payload: json_schema!({
            "type": "object",
            "description": "The fields of the body of that request, and `messageId` if its path has one.",
        }),
        response: ClientEventResponse::Event(MESSAGE_REDIRECT.name),
    });
    let presence = ClientEventSchema {
        name: PRESENCE_GET,
        description: "Asks for the presence of users with whom you share a conversation.".to_owned(),
        payload: schema::complete::<PresenceRequest>(Contract::Deserialize),
        response: ClientEventResponse::Acknowledgement(schema::complete::<PresenceAcknowledgement>(
            Contract::Serialize,
        )),
    };
    SocketProtocol {
        path: PATH,
        client_events: [presence].into_iter().chain(operations).collect(),
        sequence: schema::complete::<FrameSequence>(Contract::Serialize),
        server_events: server_events::describe(),
    }
}
