//! Delivers the tail to one socket, until the relay delivers to it.
//!
//! It must never overfill the socket's queue: the client would come again, and get the same tail.

use std::sync::Arc;

use domain::event::EventData;
use domain::{Event, UserId};
use socketioxide::extract::SocketRef;
use uuid::Uuid;

use super::events::Frame;
use super::frame_sender::FrameSender;
use super::recipients::tail_frames_of;
use super::relayed_record::RelayedRecord;
use super::tail::{TailPart, TailReader};
use crate::rooms::{Membership, Rooms};

/// How many records a task looks at before it yields to the others.
const RECORDS_PER_TURN: usize = 16;

/// Delivers the tail to sockets.
#[derive(Clone)]
pub(crate) struct TailDelivery {
    pub(crate) rooms: Arc<Rooms>,
    pub(crate) frames: FrameSender,
    pub(crate) partitions: usize,
}

impl TailDelivery {
    /// The conversations that these records create with a user.
    pub(crate) async fn created_with(&self, user: &UserId, creations: &[Arc<RelayedRecord>]) -> Vec<Membership> {
        let mut created = Vec::new();
        for records in creations.chunks(RECORDS_PER_TURN) {
            created.extend(
                records.iter().filter_map(|record| created_with(record.event(self.partitions).as_ref().ok()?, user)),
            );
            tokio::task::yield_now().await;
        }
        created
    }

    /// Delivers the tail to a socket of a user who is in all rooms. Returns once the relay delivers to the socket, or
    /// the socket has ended, or its client has to come again.
    pub(crate) async fn deliver(&self, reader: TailReader, user: &UserId, session: Uuid, socket: &SocketRef) {
        loop {
            match reader.read(|from| self.rooms.go_live(user, session, from)) {
                TailPart::Records(records) => {
                    for part in records.chunks(RECORDS_PER_TURN) {
                        for record in part {
                            if !self.deliver_record(record, user, socket).await {
                                return;
                            }
                        }
                        tokio::task::yield_now().await;
                    }
                }
                TailPart::End => return,
                TailPart::Lost => {
                    tracing::info!(%user, "a socket fell behind the tail; closing it to make its client reconnect and sync");
                    self.frames.close(socket);
                    return;
                }
            }
        }
    }

    /// Sends the frames of a record that are for this user. Returns false if the socket has ended.
    async fn deliver_record(&self, record: &RelayedRecord, user: &UserId, socket: &SocketRef) -> bool {
        for (Frame { name, payload, .. }, sequence) in tail_frames_of(&self.rooms, record, user, self.partitions) {
            let taken = match sequence {
                Some(sequence) => self.frames.send_patiently(socket, name, &(&payload, sequence)).await,
                None => self.frames.send_patiently(socket, name, &(&payload,)).await,
            };
            if !taken {
                return false;
            }
        }
        true
    }
}

/// The membership of a user in the conversation that an event creates; none if it creates none with the user.
pub(super) fn created_with(event: &Event, user: &UserId) -> Option<Membership> {
    let EventData::ConversationCreated { participant_ids, .. } = &event.data else { return None };
    participant_ids.contains(user).then(|| Membership {
        conversation_id: event.conversation_id,
        participant_count: i64::try_from(participant_ids.len()).unwrap_or(i64::MAX),
    })
}
