//! Which conversations a user is in: from Redis where that is new enough, else from query-api.

use std::time::Duration;

use axum::http::StatusCode;
use cache::{Cache, Progress, ViewKey};
use domain::{ConversationId, PositionVector, UserId};
use serde::Deserialize;
use service::token::PositionTokens;

use crate::Parts;

/// How long to wait until Redis is new enough. Mostly the projector is only milliseconds behind.
const PROJECTOR: Duration = Duration::from_millis(500);
/// How long query-api may take: it waits a second for the projector itself.
const QUERY_API: Duration = Duration::from_secs(2);

/// A conversation that a user is in.
#[derive(Debug, Clone, Deserialize)]
#[serde(rename_all = "camelCase")]
pub(crate) struct Membership {
    pub(crate) conversation_id: ConversationId,
    pub(crate) participant_count: i64,
}

/// The answer of query-api, which is also what Redis has.
#[derive(Deserialize)]
struct Answer {
    data: Vec<Membership>,
}

/// Asks for memberships.
pub(crate) struct Memberships {
    cache: Cache,
    progress: Progress,
    tokens: PositionTokens,
    http: reqwest::Client,
    url: String,
    service_token: String,
}

impl Memberships {
    pub(crate) fn new(parts: &Parts) -> Result<Self, reqwest::Error> {
        Ok(Self {
            cache: parts.cache.clone(),
            progress: parts.progress.clone(),
            tokens: parts.tokens.clone(),
            http: reqwest::Client::builder().timeout(QUERY_API).build()?,
            url: format!("{}/internal/memberships", parts.query_api_url.trim_end_matches('/')),
            service_token: parts.auth.service_token().to_owned(),
        })
    }

    /// Whether query-api can be asked.
    ///
    /// # Errors
    /// When nobody answers there who could.
    pub(crate) async fn reachable(&self) -> Result<(), String> {
        // A question that names no user: it is refused by whoever understands it.
        let asked = self.http.get(&self.url).bearer_auth(&self.service_token).send().await;
        match asked.map_err(|error| error.to_string())?.status() {
            StatusCode::BAD_REQUEST => Ok(()),
            status => Err(format!("{} answers {status}", self.url)),
        }
    }

    /// Waits until memberships are as new as these offsets; false when they may not be after `limit`.
    pub(crate) async fn reach(&self, at_least: &PositionVector, limit: Duration) -> bool {
        self.progress.reached(at_least, limit).await
    }

    /// A user's memberships, at least as new as these offsets.
    ///
    /// # Errors
    /// When neither Redis nor query-api has them.
    pub(crate) async fn of(&self, user: &UserId, at_least: &PositionVector) -> Result<Vec<Membership>, String> {
        // Not reached is no error: query-api may still know more than was announced.
        let _ = self.reach(at_least, PROJECTOR).await;
        if let Ok(found) = self.cache.view(&ViewKey::Memberships(user.clone())).await
            && let Some(body) = found.body.filter(|_| found.progress.covers(at_least))
            && let Ok(answer) = serde_json::from_str::<Answer>(&body)
        {
            return Ok(answer.data);
        }
        let request = self
            .http
            .get(&self.url)
            .query(&[("userId", user.as_str())])
            .bearer_auth(&self.service_token)
            .header("Messages-Position", self.tokens.issue(user, at_least));
        let response = request.send().await.and_then(reqwest::Response::error_for_status);
        let answer = response.map_err(|error| error.to_string())?.json::<Answer>().await;
        answer.map(|answer| answer.data).map_err(|error| error.to_string())
    }
}
