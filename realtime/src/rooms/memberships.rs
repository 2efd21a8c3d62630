//! The conversations that a user is in: from Redis if it is new enough, else from query-api. It never returns
//! memberships that are older than the caller demands.

use std::collections::HashSet;
use std::time::Duration;

use axum::http::StatusCode;
use cache::{Cache, Progress, ViewKey};
use domain::{ConversationId, PositionVector, UserId};
use serde::Deserialize;
use service::health::Fault;
use service::token::PositionTokens;

use crate::Parts;

/// How long a look-up waits until Redis is new enough. The projector is usually only milliseconds behind.
const PROGRESS_TIMEOUT: Duration = Duration::from_millis(500);
/// How long query-api may take to respond: it waits for the projector for up to a second itself.
const QUERY_API_TIMEOUT: Duration = Duration::from_secs(2);
/// How long an idle connection to query-api is kept. It may have gone dead meanwhile, and a look-up on it fails.
const QUERY_API_IDLE: Duration = Duration::from_secs(3);

/// A conversation that a user is in.
#[derive(Debug, Clone, Deserialize)]
#[serde(rename_all = "camelCase")]
pub(crate) struct Membership {
    pub(crate) conversation_id: ConversationId,
    pub(crate) participant_count: i64,
}

/// The body of query-api's response, which is also the cached view in Redis.
#[derive(Deserialize)]
struct MembershipsBody {
    data: Vec<Membership>,
}

/// The people whom a user knows, in query-api's response.
#[derive(Deserialize)]
struct AcquaintancesBody {
    data: HashSet<UserId>,
}

/// The conversations of a user, and what the list of them includes.
pub(crate) struct UserMemberships {
    pub(crate) list: Vec<Membership>,
    pub(crate) includes: PositionVector,
}

/// Looks memberships up.
pub(crate) struct MembershipLookup {
    cache: Cache,
    progress: Progress,
    tokens: PositionTokens,
    http: reqwest::Client,
    url: String,
    acquaintances_url: String,
    service_token: String,
}

impl MembershipLookup {
    /// A look-up with an HTTP client of its own for query-api.
    ///
    /// # Errors
    /// When the HTTP client can't be created.
    pub(crate) fn new(parts: &Parts) -> Result<Self, reqwest::Error> {
        let query_api = parts.query_api_url.trim_end_matches('/');
        Ok(Self {
            cache: parts.cache.clone(),
            progress: parts.progress.clone(),
            tokens: parts.tokens.clone(),
            http: reqwest::Client::builder().timeout(QUERY_API_TIMEOUT).pool_idle_timeout(QUERY_API_IDLE).build()?,
            url: format!("{query_api}/internal/memberships"),
            acquaintances_url: format!("{query_api}/internal/acquaintances"),
            service_token: parts.auth.service_token().to_owned(),
        })
    }

    /// Checks that query-api responds.
    ///
    /// # Errors
    /// When nothing responds, or something other than query-api.
    pub(crate) async fn check_query_api(&self) -> Result<(), Fault> {
        // The request names no user, so query-api refuses it with 400.
        let response = self.http.get(&self.url).bearer_auth(&self.service_token).send().await;
        match response.map_err(|error| Fault::Gone(error.to_string()))?.status() {
            StatusCode::BAD_REQUEST => Ok(()),
            status => Err(Fault::HalfWorks(format!("{} responds with {status}", self.url))),
        }
    }

    /// Waits until memberships in Redis include these offsets. Returns false if that takes longer than `timeout`.
    pub(crate) async fn wait_for(&self, at_least: &PositionVector, timeout: Duration) -> bool {
        self.progress.reached(at_least, timeout).await
    }

    /// A user's memberships, which include at least these offsets.
    ///
    /// # Errors
    /// When neither Redis nor query-api has them.
    pub(crate) async fn memberships_of(
        &self,
        user: &UserId,
        at_least: &PositionVector,
    ) -> Result<UserMemberships, String> {
        // After the timeout the look-up goes on: Postgres, which query-api reads, may be ahead of Redis.
        let _ = self.wait_for(at_least, PROGRESS_TIMEOUT).await;
        if let Ok(found) = self.cache.view(&ViewKey::Memberships(user.clone())).await
            && let Some(view) = found.view.filter(|_| found.progress.covers(at_least))
            && let Ok(body) = serde_json::from_slice::<MembershipsBody>(view.body())
        {
            return Ok(UserMemberships { list: body.data, includes: found.progress });
        }
        let request = self
            .http
            .get(&self.url)
            .query(&[("userId", user.as_str())])
            .bearer_auth(&self.service_token)
            .header("Messages-Position", self.tokens.issue(user, at_least, 0));
        let response = request.send().await.and_then(reqwest::Response::error_for_status);
        let response = response.map_err(|error| error.to_string())?;
        let token =
            response.headers().get("Messages-Position").and_then(|token| token.to_str().ok()).unwrap_or_default();
        let includes = self.tokens.read(token, user).map_err(|error| error.to_string())?;
        let body = response.json::<MembershipsBody>().await.map_err(|error| error.to_string())?;
        Ok(UserMemberships { list: body.data, includes })
    }

    /// The number of the last repair that is in all memberships from now on.
    pub(crate) fn last_repair(&self) -> i64 {
        self.cache.last_repair()
    }

    /// Which of these people share a conversation with a user, as far as the projector has come: one query, whoever
    /// they are.
    ///
    /// # Errors
    /// When query-api doesn't answer.
    pub(crate) async fn acquaintances(&self, user: &UserId, people: &[&UserId]) -> Result<HashSet<UserId>, String> {
        // User ids always have a JSON form.
        let among = serde_json::to_string(people).unwrap_or_default();
        let query = [("userId", user.as_str()), ("among", &among)];
        let request = self.http.get(&self.acquaintances_url).query(&query).bearer_auth(&self.service_token);
        let response = request.send().await.and_then(reqwest::Response::error_for_status);
        let response = response.map_err(|error| error.to_string())?;
        let body = response.json::<AcquaintancesBody>().await.map_err(|error| error.to_string())?;
        Ok(body.data)
    }
}
