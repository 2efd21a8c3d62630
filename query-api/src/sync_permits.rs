//! Which sync queries may run. A sync costs more than other queries, and clients send many at once: when thousands of
//! them reconnect, or when one user runs several in a loop.
//!
//! Each user runs one sync at a time, and the users wait in one queue, so they take turns. An example with a single
//! permit: alice sends three requests, then bob and carol send one each. The order is alice, bob, carol, alice, alice:
//! alice's second request joins the queue when her first one has ended.

use std::collections::HashMap;
use std::sync::{Arc, Mutex, PoisonError};
use std::time::Duration;

use domain::UserId;
use service::problem::Problem;
use tokio::sync::{OwnedSemaphorePermit, Semaphore, SemaphorePermit};

/// How long a request waits for its permit.
const PERMIT_TIMEOUT: Duration = Duration::from_secs(5);
/// How many requests of one user may run or wait.
const USER_REQUESTS_MAX: usize = 16;
/// How many requests may run or wait.
const REQUESTS_MAX: usize = 4_096;

domain::limit_rows! {
    Queries, "wait of a sync for its turn", Time PERMIT_TIMEOUT, "503 `busy`", "tasks and connections";
    Queries, "syncs of one user that run or wait, on a process", Count USER_REQUESTS_MAX, "503 `busy`", "the other users' syncs";
    Queries, "syncs that run or wait, on a process", Count REQUESTS_MAX, "503 `busy`", "tasks and connections";
}

/// The permits of a process.
pub(crate) struct SyncPermits {
    permits: Semaphore,
    requests: Mutex<Requests>,
}

/// The requests that run or wait.
#[derive(Default)]
struct Requests {
    total: usize,
    by_user: HashMap<UserId, UserRequests>,
}

struct UserRequests {
    count: usize,
    /// Its permit belongs to the request of this user that is in the queue, or runs.
    turn: Arc<Semaphore>,
}

/// One sync query may run, until this is dropped.
pub(crate) struct SyncPermit<'p> {
    // Dropped in this order: the user's next request then joins the queue behind the others.
    _permit: SemaphorePermit<'p>,
    _turn: OwnedSemaphorePermit,
    _request: RegisteredRequest<'p>,
}

/// A request that is counted, until this is dropped.
struct RegisteredRequest<'p> {
    permits: &'p SyncPermits,
    user: UserId,
}

impl SyncPermits {
    /// So many permits.
    pub(crate) fn new(permits: usize) -> Self {
        Self { permits: Semaphore::new(permits), requests: Mutex::default() }
    }

    /// Waits until the user may run a sync query.
    ///
    /// # Errors
    /// 503 `busy` when that takes too long, or when too many requests wait already.
    pub(crate) async fn acquire(&self, user: &UserId) -> Result<SyncPermit<'_>, Problem> {
        let permit = async {
            let (request, turn) = self.register(user)?;
            let turn = turn.acquire_owned().await.ok()?;
            let permit = self.permits.acquire().await.ok()?;
            Some(SyncPermit { _permit: permit, _turn: turn, _request: request })
        };
        tokio::time::timeout(PERMIT_TIMEOUT, permit).await.ok().flatten().ok_or_else(|| {
            metrics::counter!("query_turned_away_total").increment(1);
            Problem::busy(2)
        })
    }

    /// Counts a request. None when there are too many.
    fn register(&self, user: &UserId) -> Option<(RegisteredRequest<'_>, Arc<Semaphore>)> {
        let mut requests = self.requests.lock().unwrap_or_else(PoisonError::into_inner);
        let of_user = requests.by_user.get(user).map_or(0, |requests| requests.count);
        if requests.total >= REQUESTS_MAX || of_user >= USER_REQUESTS_MAX {
            return None;
        }
        requests.total += 1;
        let new = || UserRequests { count: 0, turn: Arc::new(Semaphore::new(1)) };
        let of_user = requests.by_user.entry(user.clone()).or_insert_with(new);
        of_user.count += 1;
        Some((RegisteredRequest { permits: self, user: user.clone() }, of_user.turn.clone()))
    }
}

impl Drop for RegisteredRequest<'_> {
    fn drop(&mut self) {
        let mut requests = self.permits.requests.lock().unwrap_or_else(PoisonError::into_inner);
        requests.total -= 1;
        if let Some(of_user) = requests.by_user.get_mut(&self.user) {
            of_user.count -= 1;
            if of_user.count == 0 {
                requests.by_user.remove(&self.user);
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use std::pin::{Pin, pin};
    use std::task::{Context, Poll, Waker};

    use super::*;

    fn user(name: &str) -> UserId {
        name.parse().unwrap()
    }

    fn poll<F: Future>(request: &mut Pin<&mut F>) -> Poll<F::Output> {
        request.as_mut().poll(&mut Context::from_waker(Waker::noop()))
    }

    #[tokio::test]
    async fn one_users_requests_leave_the_other_permits_to_other_users() {
        let permits = SyncPermits::new(8);
        let alice = user("alice");
        let first = permits.acquire(&alice).await.ok();
        assert!(first.is_some());
        let mut waiting: Vec<_> = (0..7).map(|_| Box::pin(permits.acquire(&alice))).collect();
        for request in &mut waiting {
            assert!(poll(&mut request.as_mut()).is_pending(), "alice has a permit already");
        }

        let mut others = Vec::new();
        for number in 0..7 {
            let other = user(&format!("user-{number}"));
            let Poll::Ready(Ok(permit)) = poll(&mut pin!(permits.acquire(&other))) else { panic!("{other:?} waits") };
            others.push(permit);
        }
    }

    #[tokio::test]
    async fn users_who_wait_take_turns() {
        let permits = SyncPermits::new(1);
        let (alice, bob, carol) = (user("alice"), user("bob"), user("carol"));
        let Ok(first) = permits.acquire(&alice).await else { panic!("there is a permit") };
        let mut second = pin!(permits.acquire(&alice));
        let mut third = pin!(permits.acquire(&alice));
        let (mut bobs, mut carols) = (pin!(permits.acquire(&bob)), pin!(permits.acquire(&carol)));
        assert!(poll(&mut second).is_pending() && poll(&mut third).is_pending());
        assert!(poll(&mut bobs).is_pending() && poll(&mut carols).is_pending());

        drop(first);
        assert!(poll(&mut second).is_pending() && poll(&mut third).is_pending() && poll(&mut carols).is_pending());
        let Poll::Ready(Ok(bobs)) = poll(&mut bobs) else { panic!("it is bob's turn") };
        drop(bobs);
        assert!(poll(&mut second).is_pending() && poll(&mut third).is_pending());
        let Poll::Ready(Ok(carols)) = poll(&mut carols) else { panic!("it is carol's turn") };
        drop(carols);
        assert!(poll(&mut third).is_pending());
        let Poll::Ready(Ok(second)) = poll(&mut second) else { panic!("it is alice's turn") };
        drop(second);
        assert!(poll(&mut third).is_ready());
    }

    #[tokio::test]
    async fn requests_that_wait_are_bounded_and_forgotten_when_their_clients_hang_up() {
        let permits = SyncPermits::new(1);
        let alice = user("alice");
        let mut requests: Vec<_> = (0..USER_REQUESTS_MAX).map(|_| Box::pin(permits.acquire(&alice))).collect();
        let mut first = None;
        for request in &mut requests {
            if let Poll::Ready(permit) = poll(&mut request.as_mut()) {
                first = permit.ok();
            }
        }
        assert!(first.is_some());
        let Poll::Ready(Err(_)) = poll(&mut pin!(permits.acquire(&alice))) else { panic!("too many requests wait") };

        requests.pop();
        assert!(poll(&mut pin!(permits.acquire(&alice))).is_pending(), "a request has gone");
        drop((requests, first));
        assert!(permits.requests.lock().unwrap().by_user.is_empty());
    }
}
