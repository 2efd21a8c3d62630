//! The repairs that every cache knows (see [`domain::repair`]). Projectors publish them, and every process reads them each
//! second. What a process reads afterwards, from Redis or from Postgres, includes them.

use domain::repair::ToldRepairs;
use serde::{Deserialize, Serialize};
use tokio::sync::watch;

use crate::connection::{Cache, CacheError};

/// What a projector publishes.
#[derive(Serialize, Deserialize)]
pub(crate) struct PublishedRepairs {
    /// A generation that includes them.
    generation: i64,
    repairs: ToldRepairs,
}

impl Cache {
    /// Publishes repairs, and a generation that includes them.
    ///
    /// # Errors
    /// When Redis doesn't answer.
    pub async fn publish_repairs(&self, generation: i64, repairs: ToldRepairs) -> Result<(), CacheError> {
        let mut set = redis::cmd("SET");
        // Numbers and ids always have a JSON form.
        let published = serde_json::to_string(&PublishedRepairs { generation, repairs }).unwrap_or_default();
        set.arg(self.keys().repairs()).arg(published);
        Ok(set.query_async(&mut self.evictable_connection("publish_repairs")).await?)
    }

    /// The number of the last repair that is in everything that this process reads from now on.
    pub fn last_repair(&self) -> i64 {
        self.repairs().borrow().number
    }

    /// Follows the repairs, as this process learns of them.
    pub fn follow_repairs(&self) -> watch::Receiver<ToldRepairs> {
        self.repairs().subscribe()
    }

    /// Takes note of what was published, unless this process may still read from an older generation. The next read finds
    /// it again.
    pub(crate) fn learn_of_repairs(&self, published: &str) {
        // Another release may write another form.
        let Ok(PublishedRepairs { generation, repairs }) = serde_json::from_str(published) else { return };
        if generation <= self.generation() {
            self.repairs().send_if_modified(|known| {
                let is_newer = known.number < repairs.number;
                if is_newer {
                    // A repair may change who is in a conversation.
                    self.local().clear();
                    *known = repairs;
                }
                is_newer
            });
        }
    }
}
