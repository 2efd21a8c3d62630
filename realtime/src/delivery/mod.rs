//! Delivery: from the records on the log to frames on the sockets of this node.
//!
//! Every node reads the whole topic, and decodes only the records that have a room here. Delivery doesn't wait for the
//! projector. It must never deliver an event twice, and never drop a frame that a client would miss without closing
//! that client's connection.
//!
//! # The timeline of an event
//!
//! | When | What happens |
//! |---|---|
//! | read | [`Relay`] reads the record. |
//! | dedup | If the record's event is a duplicate ([`dedup`]), delivery ends after the next step. |
//! | tail | [`RelayTail`] passes the record, and keeps it until the projector has folded it. The room of a conversation that the record creates opens at the same moment. A socket that becomes ready from now on gets the event's frames, or a token that includes the event. |
//! | select | If no room on this node needs the event, delivery ends here. |
//! | frames | [`events`] turns the event into [`Frame`](events::Frame)s, each with an audience. |
//! | sequence | A frame to a whole room gets its own `position`, and the position `previous` of the frame before it. |
//! | send | [`FrameSender`] encodes the frame once, and puts a reference to it into the queue of each socket. |
//! | overflow | If too much waits for a socket, the frame is dropped. The node closes the connection, unless the frame was about typing or presence. |
//!
//! # How a client notices a missing frame
//!
//! An example, with a conversation on partition 3:
//!
//! 1. Alice sends a message, and the node delivers `message:new` with `{position: "3:7", previous: null}`: it is the
//!    first frame since the node opened the room.
//! 2. Bob reacts. The node delivers `reaction:added` with `{position: "3:9", previous: "3:7"}`. The record at 3:8
//!    belongs to another conversation.
//! 3. A client that has only seen 3:5 finds that `previous` is later. It has missed a frame, and syncs up to 3:9.
//!
//! A retried command may append its event a second time. To a client that copy would look like a new event, so the relay
//! drops it. It remembers each event as long as the command API may append it again ([`dedup`]), also those that no room
//! here needs, and begins to read some way before the log's end: a user may come between an event and its copy.

mod dedup;
mod events;
mod frame_sender;
mod lag;
mod passage;
mod recipients;
mod relay;
mod relayed_record;
#[cfg(test)]
mod simulation;
mod tail;
mod tail_delivery;
mod typing;

pub(crate) use dedup::LIMIT_ROWS as DEDUP_LIMITS;
pub(crate) use frame_sender::FrameSender;
pub(crate) use lag::{LagMonitor, RelayHealth};
pub(crate) use relay::Relay;
pub(crate) use tail::{LIMIT_ROWS as TAIL_LIMITS, RelayTail, TailReader};
pub(crate) use tail_delivery::TailDelivery;
pub(crate) use typing::{LIMIT_ROWS as TYPING_LIMITS, TypingTimeouts};
