//! Redis as one request uses it, and the cache-aside pattern: look up, else load and fill.

use std::borrow::Cow;
use std::time::Duration;

use cache::{
    Admission, Cache, CacheError, CountedLookup, CurrentPartitions, Dependency, PendingEntity, RequestCounter,
    Versions, View, ViewKey, ViewLookup,
};
use domain::{ConversationId, PositionVector, UserId};
use read_model::{ReadModel, ReadModelError, Snapshot};

/// Redis for one request, or for one step of it. After its first failure the rest goes on without it, so a query waits
/// for a Redis that is down only once.
pub struct RequestCache<'a> {
    cache: Option<&'a Cache>,
    count_failure: fn(),
}

/// The result of counting a request and looking its view up.
pub struct CountedView {
    /// Whether the request may go on.
    pub admission: Admission,
    /// The view, if Redis has one that is new enough.
    pub found: Option<CachedView>,
}

/// A view that Redis has.
pub struct CachedView {
    /// The response.
    pub view: View,
    /// The position that the view includes.
    pub includes: PositionVector,
    /// The partitions of which the view is known to be recent.
    pub current: CurrentPartitions,
}

impl<'a> RequestCache<'a> {
    /// Uses `cache`, or nothing where there is none. Calls `count_failure` when Redis fails.
    pub fn new(cache: Option<&'a Cache>, count_failure: fn()) -> Self {
        Self { cache, count_failure }
    }

    /// Whether this request can still use Redis.
    pub fn is_available(&self) -> bool {
        self.cache.is_some()
    }

    /// Makes the rest of the request go on without Redis.
    pub fn give_up(&mut self) {
        self.cache = None;
    }

    /// Looks up a view that includes at least `at_least`, however old it is, with the position that it includes.
    pub async fn view(&mut self, key: &ViewKey, at_least: &PositionVector) -> Option<(View, PositionVector)> {
        self.cached_view(key, at_least).await.map(|found| (found.view, found.includes))
    }

    /// Looks up a view that includes at least `at_least`.
    pub async fn cached_view(&mut self, key: &ViewKey, at_least: &PositionVector) -> Option<CachedView> {
        let lookup = self.cache?.view(key).await;
        new_enough(self.check(lookup)?, at_least)
    }

    /// Counts the request, and looks up a view that includes at least `at_least`, in one round trip. None without Redis.
    pub async fn count_and_view(
        &mut self,
        key: &ViewKey,
        counter: RequestCounter<'_>,
        at_least: &PositionVector,
    ) -> Option<CountedView> {
        let counted = self.cache?.count_and_view(key, counter).await;
        let CountedLookup { admission, lookup } = self.check(counted)?;
        Some(CountedView { admission, found: new_enough(lookup, at_least) })
    }

    /// Counts the request. None without Redis.
    pub async fn count(&mut self, counter: RequestCounter<'_>) -> Option<Admission> {
        let counted = self.cache?.count_request(counter).await;
        self.check(counted)
    }

    /// The partitions of which the projector has folded an end of the log that is at most so old. None without Redis.
    pub async fn current_within(&mut self, max_age: Duration) -> Option<CurrentPartitions> {
        let current = self.cache?.current_within(max_age).await;
        self.check(current)
    }

    /// Reads the versions of what a view depends on. Read them before the values of the view.
    pub async fn versions(&mut self, dependencies: &[Dependency]) -> Option<Versions> {
        let versions = self.cache?.versions(dependencies).await;
        self.check(versions)
    }

    /// Stores a view. If something that it depends on has changed since its versions were read, nobody finds the view.
    pub async fn put_if_current(&mut self, key: &ViewKey, versions: &Versions, view: &View, includes: &PositionVector) {
        let Some(cache) = self.cache else { return };
        let stored = cache.put_if_current(key, versions, view, includes).await;
        self.check(stored);
    }

    /// Forgets new versions, because there is no view to store with them. Always takes a round trip: nobody learns from the
    /// time of a 404 whether others know the thing.
    async fn forget_new(&mut self, versions: &Versions) {
        let Some(cache) = self.cache else { return };
        let forgotten = cache.forget_new(versions).await;
        self.check(forgotten);
    }

    /// Loads a value that Redis doesn't have, and stores the view of it that `render` gives with what it includes.
    ///
    /// # Errors
    /// Those of `load`. A failure of Redis is none.
    pub async fn load_and_fill<T, E>(
        &mut self,
        key: &ViewKey,
        dependency: Dependency,
        load: impl Future<Output = Result<T, E>>,
        render: impl for<'v> FnOnce(&'v T) -> Option<(Cow<'v, View>, &'v PositionVector)>,
    ) -> Result<T, E> {
        let versions = self.versions(&[dependency]).await;
        let value = load.await?;
        match (render(&value), versions) {
            (Some((view, includes)), Some(versions)) => self.put_if_current(key, &versions, &view, includes).await,
            (None, Some(versions)) => self.forget_new(&versions).await,
            (_, None) => {}
        }
        Ok(value)
    }

    /// Reads a conversation or message that a command has just created.
    pub async fn pending_entity(&mut self, dependency: &Dependency) -> Option<PendingEntity> {
        let pending = self.cache?.pending_entity(dependency).await;
        self.check(pending).flatten()
    }

    /// Whether a user is in a conversation; none where Redis doesn't know.
    pub async fn is_participant(&mut self, conversation: ConversationId, user: &UserId) -> Option<bool> {
        let known = self.cache?.is_participant(conversation, user).await;
        self.check(known).flatten()
    }

    /// Loads the participants of a conversation from Postgres and stores them in Redis.
    ///
    /// # Errors
    /// When Postgres doesn't answer.
    pub async fn load_participants(
        &mut self,
        read_model: &ReadModel,
        conversation: ConversationId,
    ) -> Result<Snapshot<Option<Vec<UserId>>>, ReadModelError> {
        let snapshot = read_model.participants(conversation).await?;
        if let (Some(participants), Some(cache)) = (&snapshot.value, self.cache) {
            let stored = cache.put_participants(conversation, participants).await;
            self.check(stored);
        }
        Ok(snapshot)
    }

    /// Gives Redis up if it failed.
    fn check<T>(&mut self, outcome: Result<T, CacheError>) -> Option<T> {
        outcome
            .inspect_err(|error| {
                // Quiet, because while Redis is down every request passes here.
                tracing::debug!(%error, "Redis failed; the request goes on without it");
                (self.count_failure)();
                self.cache = None;
            })
            .ok()
    }
}

/// The view that was looked up, if it includes at least `at_least`. Redis may not know yet what a position from Postgres
/// includes.
fn new_enough(lookup: ViewLookup, at_least: &PositionVector) -> Option<CachedView> {
    let ViewLookup { progress, view, current } = lookup;
    let view = view.filter(|_| progress.covers(at_least))?;
    Some(CachedView { view, includes: progress, current })
}
