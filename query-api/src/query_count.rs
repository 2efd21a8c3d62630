//! How one query counts against its user's limit: exactly once, and before it does anything that costs more than one
//! round trip to Redis.

use axum::response::{IntoResponse, Response};
use cache::{Admission, Costs, Limit, LimitState, LocalLimits, RequestCounter};
use domain::UserId;
use read_path::rate_limit;
use service::problem::Problem;

/// How a query counts.
enum Counting {
    /// It doesn't: realtime reads for a socket.
    Never,
    NotYet,
    Done(LimitState),
}

/// Whether one query has been counted, and what is left of the limit.
pub(crate) struct QueryCount<'a> {
    limit: &'a Limit,
    local_limits: &'a LocalLimits,
    counting: Counting,
}

impl<'a> QueryCount<'a> {
    /// The count of a query of a user.
    pub(crate) fn new(limit: &'a Limit, local_limits: &'a LocalLimits) -> Self {
        Self { limit, local_limits, counting: Counting::NotYet }
    }

    /// Exempts the query from the limit.
    pub(crate) fn exempt(&mut self) {
        self.counting = Counting::Never;
    }

    /// Whether the query has to be counted.
    pub(crate) fn is_due(&self) -> bool {
        matches!(self.counting, Counting::NotYet)
    }

    /// What Redis has to count.
    pub(crate) fn counter<'u>(&self, user: &'u UserId) -> RequestCounter<'u>
    where
        'a: 'u,
    {
        RequestCounter { user, limit: self.limit }
    }

    /// Takes note of how Redis has counted the query. Without Redis, this process counts it by itself.
    ///
    /// # Errors
    /// 429 when the user is over the limit.
    pub(crate) fn record(&mut self, user: &UserId, admission: Option<Admission>) -> Result<(), Problem> {
        match admission.unwrap_or_else(|| self.local_limits.admit(user, &Costs::one(*self.limit))) {
            Admission::Limited(state) => {
                self.counting = Counting::Done(state);
                Err(rate_limit::limited(&state))
            }
            Admission::Admitted(state) => {
                self.counting = Counting::Done(state);
                Ok(())
            }
            // Only commands have reservations.
            Admission::Reserved(_) => Ok(()),
        }
    }

    /// The response to the query, with what is left of its user's limit.
    pub(crate) fn response(&self, result: Result<Response, Problem>) -> Response {
        let Counting::Done(state) = &self.counting else { return result.into_response() };
        match result {
            Ok(mut response) => {
                rate_limit::put_limit(response.headers_mut(), state);
                response
            }
            Err(problem) => rate_limit::counted(problem, state).into_response(),
        }
    }
}
