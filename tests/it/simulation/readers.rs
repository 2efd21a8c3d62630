//! Readers: each reads one view through the production cache, and may take long between its steps. Its steps are those
//! of `RequestCache`: look up, take the versions, load, store. It is a future that only the scheduler polls.

use std::borrow::Cow;
use std::cell::RefCell;
use std::convert::Infallible;
use std::pin::Pin;
use std::rc::Rc;
use std::task::{Context, Poll, Waker};

use cache::{Cache, Dependency, View, ViewKey};
use domain::{ConversationId, PositionVector, UserId, limits};
use read_model::{Membership, Snapshot};
use read_path::RequestCache;
use serde_json::Value;

use super::bugs::Bug;
use super::postgres_model::PostgresModel;
use super::views::ViewRequest;

/// A reader's response to its client.
#[derive(Debug)]
pub(super) struct ViewResponse {
    /// None for a 404.
    pub(super) view: Option<Value>,
    /// The position that the response claims to include.
    pub(super) includes: PositionVector,
    pub(super) is_hit: bool,
}

/// A reader on its way.
pub(super) struct Reader {
    pub(super) request: ViewRequest,
    pub(super) at_least: PositionVector,
    read: Pin<Box<dyn Future<Output = Option<ViewResponse>>>>,
}

impl Reader {
    /// Starts to read a view that includes at least some offsets.
    pub(super) fn start(
        cache: Cache,
        postgres: Rc<RefCell<PostgresModel>>,
        bug: Option<Bug>,
        request: ViewRequest,
        at_least: PositionVector,
    ) -> Self {
        let read = Read { cache, postgres, bug, request: request.clone(), at_least: at_least.clone() };
        Self { request, at_least, read: Box::pin(read.run()) }
    }

    /// Lets the reader do its next step. Returns its response when it is done: none if the read model is behind what the
    /// client demands.
    pub(super) fn step(&mut self) -> Poll<Option<ViewResponse>> {
        self.read.as_mut().poll(&mut Context::from_waker(Waker::noop()))
    }
}

/// Ends a step of a reader.
async fn end_step() {
    let mut has_ended = false;
    std::future::poll_fn(|_| if std::mem::replace(&mut has_ended, true) { Poll::Ready(()) } else { Poll::Pending })
        .await;
}

struct Read {
    cache: Cache,
    postgres: Rc<RefCell<PostgresModel>>,
    bug: Option<Bug>,
    request: ViewRequest,
    at_least: PositionVector,
}

impl Read {
    async fn run(mut self) -> Option<ViewResponse> {
        let cache = self.cache.clone();
        let mut request_cache = RequestCache::new(Some(&cache), || {});
        let nothing = PositionVector::default();
        let at_least = if self.bug == Some(Bug::IgnoresDemand) { &nothing } else { &self.at_least };
        if let Some((view, includes)) = request_cache.view(&self.request.key(), at_least).await {
            return Some(ViewResponse { view: Some(parse(&view)), includes, is_hit: true });
        }
        end_step().await;
        let snapshot = match (&self.request, self.bug) {
            (ViewRequest::Conversations(user), _) => self.load_list(&mut request_cache, &user.clone()).await,
            (_, Some(Bug::VersionsAfterValues | Bug::OffsetsAfterValues)) => {
                self.load_and_fill_wrongly(&mut request_cache).await
            }
            _ => self.load_and_fill(&mut request_cache).await,
        };
        let Snapshot { value, offsets } = snapshot;
        if !offsets.covers(&self.at_least) && self.bug != Some(Bug::ConcludesTooEarly) {
            return None;
        }
        Some(ViewResponse { view: value, includes: offsets, is_hit: false })
    }

    async fn load_and_fill(&mut self, cache: &mut RequestCache<'_>) -> Snapshot<Option<Value>> {
        let (key, dependency) = (self.request.key(), self.request.dependency());
        let Self { postgres, request, .. } = self;
        let load = async {
            end_step().await;
            let snapshot = request.load(&postgres.borrow());
            end_step().await;
            Ok::<_, Infallible>(snapshot)
        };
        let Ok(snapshot) = cache.load_and_fill(&key, dependency, load, render).await;
        snapshot
    }

    /// As [`Self::load_and_fill`], with a planted bug.
    async fn load_and_fill_wrongly(&mut self, cache: &mut RequestCache<'_>) -> Snapshot<Option<Value>> {
        let dependencies = [self.request.dependency()];
        let is_late = self.bug == Some(Bug::VersionsAfterValues);
        let mut versions = if is_late { None } else { cache.versions(&dependencies).await };
        let mut snapshot = self.request.load(&self.postgres.borrow());
        end_step().await;
        let offsets = self.postgres.borrow().offsets();
        if is_late {
            versions = cache.versions(&dependencies).await;
        } else {
            snapshot.offsets.clone_from(&offsets);
        }
        if let (Some((view, _)), Some(versions)) = (render(&snapshot), versions) {
            cache.put_if_current(&self.request.key(), &versions, &view, &offsets).await;
        }
        snapshot
    }

    /// Loads a list of conversations, which depends on the user's large conversations, too.
    async fn load_list(&mut self, cache: &mut RequestCache<'_>, user: &UserId) -> Snapshot<Option<Value>> {
        let memberships = ViewRequest::Memberships(user.clone());
        let cached = cache.view(&memberships.key(), &self.at_least).await;
        let large = match cached {
            Some((view, _)) => large_in(&view),
            None => {
                let load = async { Ok::<_, Infallible>(memberships.load(&self.postgres.borrow())) };
                let (key, dependency) = (memberships.key(), memberships.dependency());
                let Ok(loaded) = cache.load_and_fill(&key, dependency, load, render).await;
                large_in(&render(&loaded).expect("there is always a list").0)
            }
        };
        end_step().await;
        let mut dependencies = vec![Dependency::Memberships(user.clone()), Dependency::User(user.clone())];
        dependencies.extend(large.iter().copied().map(Dependency::Conversation));
        let versions = cache.versions(&dependencies).await;
        end_step().await;
        let still = cache.view(&ViewKey::Memberships(user.clone()), &self.at_least).await;
        let is_unchanged = still.is_some_and(|(view, _)| large_in(&view) == large);
        end_step().await;
        let snapshot = self.request.load(&self.postgres.borrow());
        end_step().await;
        if let (Some((view, includes)), Some(versions)) = (render(&snapshot), versions.filter(|_| is_unchanged)) {
            cache.put_if_current(&self.request.key(), &versions, &view, includes).await;
        }
        snapshot
    }
}

pub(super) fn parse(view: &View) -> Value {
    serde_json::from_slice(view.body()).unwrap()
}

pub(super) fn render(snapshot: &Snapshot<Option<Value>>) -> Option<(Cow<'_, View>, &PositionVector)> {
    let value = snapshot.value.as_ref()?;
    Some((Cow::Owned(View::new(value.to_string())), &snapshot.offsets))
}

/// The large conversations among memberships.
fn large_in(view: &View) -> Vec<ConversationId> {
    let memberships: Vec<Membership> = serde_json::from_slice(view.body()).unwrap();
    let is_large = |it: &&Membership| it.participant_count > i64::try_from(limits::SMALL_CONVERSATION_MAX).unwrap();
    memberships.iter().filter(is_large).map(|it| it.conversation_id).collect()
}
