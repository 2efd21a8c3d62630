//! Ends typing after 5 s if its client sends no `TYPING_STOP`. It must never end typing that was started again since.

use std::collections::{HashMap, VecDeque};
use std::sync::{Arc, Mutex, PoisonError};
use std::time::Duration;

use domain::{ConversationId, UserId};
use tokio::time::Instant;
use tokio_util::sync::CancellationToken;

use super::events::typing_frame;
use super::frame_sender::FrameSender;
use crate::rooms::EventRef;
use crate::server_events::TYPING_STOP;

/// How long a user counts as typing after a `TYPING_START`.
pub(super) const TYPING_TIMEOUT: Duration = Duration::from_secs(5);
/// How often the node looks for typing that has timed out.
const CHECK_INTERVAL: Duration = Duration::from_millis(100);
/// How many starts the node remembers. Typing beyond that ends only when its client says so.
const MAX_STARTS: usize = 100_000;

domain::limit_rows! {
    Sockets, "typing that a node ends by itself", Count MAX_STARTS, "typing ends only when its client says so", "memory";
}

/// A user in a conversation.
type Typist = (ConversationId, UserId);

/// The users who are typing, and when each times out.
#[derive(Default)]
pub(crate) struct TypingTimeouts(Mutex<ActiveTyping>);

#[derive(Default)]
struct ActiveTyping {
    /// The last start of each typist: when it times out, and its event.
    by_typist: HashMap<Typist, (Instant, EventRef)>,
    /// Every start, oldest first. All have the same timeout, so the first is the next to time out.
    starts: VecDeque<(Instant, Typist)>,
}

impl TypingTimeouts {
    /// Records that a user types, and restarts their timeout.
    pub(super) fn start(&self, user: &UserId, event: EventRef) {
        let mut typing = self.0.lock().unwrap_or_else(PoisonError::into_inner);
        if typing.starts.len() < MAX_STARTS {
            let until = Instant::now() + TYPING_TIMEOUT;
            let typist = (event.conversation, user.clone());
            typing.starts.push_back((until, typist.clone()));
            typing.by_typist.insert(typist, (until, event));
        }
    }

    /// Records that a user has stopped typing.
    pub(super) fn stop(&self, user: &UserId, event: EventRef) {
        let mut typing = self.0.lock().unwrap_or_else(PoisonError::into_inner);
        typing.by_typist.remove(&(event.conversation, user.clone()));
    }

    /// Removes the users whose typing has timed out. Returns each with the event of their last start.
    fn take_expired(&self) -> Vec<(UserId, EventRef)> {
        let mut typing = self.0.lock().unwrap_or_else(PoisonError::into_inner);
        let now = Instant::now();
        let mut expired = Vec::new();
        while let Some((until, typist)) = typing.starts.pop_front_if(|(until, _)| *until <= now) {
            // Otherwise the user has stopped since, or has started again.
            if typing.by_typist.get(&typist).is_some_and(|(last, _)| *last == until)
                && let Some((_, event)) = typing.by_typist.remove(&typist)
            {
                expired.push((typist.1, event));
            }
        }
        expired
    }

    /// Sends `typing:stop` for users whose typing has timed out, until the shutdown.
    pub(crate) async fn run(self: Arc<Self>, frames: FrameSender, shutdown: CancellationToken) {
        let mut interval = tokio::time::interval(CHECK_INTERVAL);
        while shutdown.run_until_cancelled(interval.tick()).await.is_some() {
            for (user, event) in self.take_expired() {
                frames.deliver(event, typing_frame(&TYPING_STOP, &user, event.conversation));
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use domain::{ConversationId, EventId, Position};
    use uuid::Uuid;

    use super::*;

    #[tokio::test(start_paused = true)]
    async fn typing_expires_after_its_last_start_unless_it_was_stopped() {
        let typing = TypingTimeouts::default();
        let [alice, bob] = ["alice", "bob"].map(|name| name.parse::<UserId>().unwrap());
        let event = EventRef {
            conversation: ConversationId(Uuid::nil()),
            position: Position { partition: 0, offset: 0 },
            event_id: EventId(Uuid::nil()),
        };
        typing.start(&alice, event);
        typing.start(&bob, event);
        typing.stop(&bob, event);
        tokio::time::advance(TYPING_TIMEOUT - Duration::from_secs(1)).await;
        typing.start(&alice, event);
        tokio::time::advance(Duration::from_secs(2)).await;
        assert!(typing.take_expired().is_empty(), "alice has started again, and bob has stopped");
        tokio::time::advance(TYPING_TIMEOUT).await;
        assert_eq!(typing.take_expired().into_iter().map(|(user, _)| user).collect::<Vec<_>>(), [alice]);
        assert!(typing.take_expired().is_empty());
    }
}
