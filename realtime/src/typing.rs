//! Typing that stops by itself.

use std::collections::{HashMap, VecDeque};
use std::sync::{Arc, Mutex, PoisonError};
use std::time::Duration;

use domain::UserId;
use tokio::time::Instant;

use crate::Shared;
use crate::deliver;
use crate::rooms::Origin;

/// How long a start lasts.
pub(crate) const LASTS: Duration = Duration::from_secs(5);
/// How often those that are over are looked for.
const LOOK_EVERY: Duration = Duration::from_millis(100);
/// How many starts are remembered; what is beyond stops when its client says so.
const STARTS: usize = 100_000;

type Typist = (domain::ConversationId, UserId);

/// Who types, and until when.
#[derive(Default)]
pub(crate) struct Typing(Mutex<Inner>);

#[derive(Default)]
struct Inner {
    until: HashMap<Typist, (Instant, Origin)>,
    /// Every start, oldest first: all last equally long, so that the first is over first.
    starts: VecDeque<(Instant, Typist)>,
}

impl Typing {
    /// A user types, from now on for [`LASTS`].
    pub(crate) fn start(&self, user: &UserId, origin: Origin) {
        let mut typing = self.0.lock().unwrap_or_else(PoisonError::into_inner);
        if typing.starts.len() < STARTS {
            let until = Instant::now() + LASTS;
            let typist = (origin.conversation, user.clone());
            typing.starts.push_back((until, typist.clone()));
            typing.until.insert(typist, (until, origin));
        }
    }

    /// A user says that they stopped.
    pub(crate) fn stop(&self, user: &UserId, origin: Origin) {
        let mut typing = self.0.lock().unwrap_or_else(PoisonError::into_inner);
        typing.until.remove(&(origin.conversation, user.clone()));
    }

    fn over(&self) -> Vec<(UserId, Origin)> {
        let mut typing = self.0.lock().unwrap_or_else(PoisonError::into_inner);
        let now = Instant::now();
        let mut over = Vec::new();
        while let Some((until, typist)) = typing.starts.pop_front_if(|(until, _)| *until <= now) {
            // Otherwise they stopped, or started again later.
            if typing.until.get(&typist).is_some_and(|(last, _)| *last == until)
                && let Some((_, origin)) = typing.until.remove(&typist)
            {
                over.push((typist.1, origin));
            }
        }
        over
    }
}

/// Stops those who said nothing for too long, until the shutdown.
pub(crate) async fn run(shared: Arc<Shared>) {
    let mut look = tokio::time::interval(LOOK_EVERY);
    while shared.shutdown.run_until_cancelled(look.tick()).await.is_some() {
        for (user, origin) in shared.typing.over() {
            shared.deliver(origin, &deliver::typing("typing:stop", &user, origin.conversation));
        }
    }
}

#[cfg(test)]
mod tests {
    use domain::{ConversationId, EventId, Position};
    use uuid::Uuid;

    use super::*;

    #[tokio::test(start_paused = true)]
    async fn the_last_start_counts_and_a_stop_ends_it() {
        let typing = Typing::default();
        let [alice, bob] = ["alice", "bob"].map(|name| name.parse::<UserId>().unwrap());
        let origin = Origin {
            conversation: ConversationId(Uuid::nil()),
            position: Position { partition: 0, offset: 0 },
            event_id: EventId(Uuid::nil()),
        };
        typing.start(&alice, origin);
        typing.start(&bob, origin);
        typing.stop(&bob, origin);
        tokio::time::advance(LASTS - Duration::from_secs(1)).await;
        typing.start(&alice, origin);
        tokio::time::advance(Duration::from_secs(2)).await;
        assert!(typing.over().is_empty(), "alice began again, bob stopped");
        tokio::time::advance(LASTS).await;
        assert_eq!(typing.over().into_iter().map(|(user, _)| user).collect::<Vec<_>>(), [alice]);
        assert!(typing.over().is_empty());
    }
}
