//! The HTTP response to a query: its body, the position that it includes, and its entity tag.

use axum::body::Body;
use axum::response::{IntoResponse, Response};
use cache::View;
use domain::{ConversationId, PositionVector};
use http::{HeaderMap, HeaderName, HeaderValue, StatusCode, header};
use serde::{Deserialize, Serialize};
use service::problem::Problem;

const MESSAGES_POSITION: HeaderName = HeaderName::from_static("messages-position");
const X_CACHE: HeaderName = HeaderName::from_static("x-cache");

/// A view that is ready to send, with what it includes.
#[derive(Debug)]
pub(crate) struct RenderedView {
    pub(crate) view: View,
    pub(crate) includes: PositionVector,
    /// Whether it came from Redis.
    pub(crate) is_hit: bool,
}

/// The result of looking a view up in Redis.
pub(crate) enum LookUp {
    /// The view is recent, or Postgres is known not to respond.
    Current(RenderedView),
    /// Redis may not have learned of a change: Postgres comes first.
    Old(RenderedView),
    Miss,
}

/// The part of a message's view that names its conversation.
#[derive(Deserialize)]
pub(crate) struct LocatedMessage {
    pub(crate) data: MessageLocation,
}

#[derive(Deserialize)]
#[serde(rename_all = "camelCase")]
pub(crate) struct MessageLocation {
    pub(crate) conversation_id: ConversationId,
}

impl RenderedView {
    /// Renders a value as the body of a response.
    ///
    /// # Errors
    /// 500 when it has no JSON form.
    pub(crate) fn render(value: &impl Serialize, includes: PositionVector) -> Result<Self, Problem> {
        let body = serde_json::to_vec(value).map_err(|error| invalid_json(&error))?;
        Ok(Self { view: View::new(body), includes, is_hit: false })
    }

    /// Reads a part of the body again.
    ///
    /// # Errors
    /// 500 when it isn't there.
    pub(crate) fn parse<'v, T: Deserialize<'v>>(&'v self) -> Result<T, Problem> {
        serde_json::from_slice(self.view.body()).map_err(|error| invalid_json(&error))
    }

    /// `hit` or `miss`, as `X-Cache` and the metrics say it.
    pub(crate) fn cache_status(&self) -> &'static str {
        if self.is_hit { "hit" } else { "miss" }
    }

    /// The response, with a token for what it includes. A client that has the body already gets 304 without it.
    pub(crate) fn into_response(self, token: &str, request: &HeaderMap) -> Response {
        let cache_status = self.cache_status();
        let tag = self.view.etag();
        let mut response = if matches(request, tag) {
            StatusCode::NOT_MODIFIED.into_response()
        } else {
            let media_type = [(header::CONTENT_TYPE, HeaderValue::from_static("application/json"))];
            (media_type, Body::from(self.view.body().clone())).into_response()
        };
        let headers = response.headers_mut();
        headers.insert(X_CACHE, HeaderValue::from_static(cache_status));
        // What a user may see is private, and clients revalidate it before each use.
        headers.insert(header::CACHE_CONTROL, HeaderValue::from_static("private, no-cache"));
        headers.insert(header::VARY, HeaderValue::from_static("Authorization, Cookie"));
        let values = [
            (MESSAGES_POSITION, HeaderValue::from_str(token)),
            (header::ETAG, HeaderValue::from_maybe_shared(tag.clone())),
        ];
        for (name, value) in values {
            if let Ok(value) = value {
                headers.insert(name, value);
            }
        }
        response
    }
}

fn invalid_json(error: &serde_json::Error) -> Problem {
    tracing::error!(%error, "a response is not the JSON that it should be; the client gets 500");
    Problem::internal()
}

/// Whether `If-None-Match` names the tag, by the weak comparison that RFC 9110 demands for it.
fn matches(request: &HeaderMap, tag: &[u8]) -> bool {
    let lines = request.get_all(header::IF_NONE_MATCH).iter().filter_map(|line| line.to_str().ok());
    let mut tags = lines.flat_map(|line| line.split(',')).map(str::trim);
    tags.any(|named| named == "*" || named.strip_prefix("W/").unwrap_or(named).as_bytes() == tag)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn request(lines: &[&str]) -> HeaderMap {
        let pair = |line: &&str| (header::IF_NONE_MATCH, HeaderValue::from_str(line).unwrap());
        lines.iter().map(pair).collect()
    }

    fn view(body: &'static str) -> RenderedView {
        RenderedView { view: View::new(body), includes: PositionVector::default(), is_hit: true }
    }

    #[test]
    fn lists_stars_and_weak_tags_match() {
        let [tag, other] = ["{}", "[]"].map(|body| String::from_utf8(View::new(body).etag().to_vec()).unwrap());
        for lines in [
            vec![tag.as_str()],
            vec!["*"],
            vec![&format!("W/{tag}")],
            vec![&format!("\"other\" , {tag}")],
            vec!["\"other\"", &tag],
        ] {
            assert!(matches(&request(&lines), tag.as_bytes()), "{lines:?}");
        }
        for lines in [vec![], vec![""], vec!["\"other\""], vec![tag.trim_matches('"')], vec![&other]] {
            assert!(!matches(&request(&lines), tag.as_bytes()), "{lines:?}");
        }
    }

    #[test]
    fn what_the_client_has_is_not_sent_again_but_its_headers_are() {
        let whole = view("{}").into_response("token", &HeaderMap::new());
        let tag = whole.headers()[header::ETAG].to_str().unwrap().to_owned();
        let unchanged = view("{}").into_response("token", &request(&[&tag]));
        assert_eq!((whole.status(), unchanged.status()), (StatusCode::OK, StatusCode::NOT_MODIFIED));
        for name in [MESSAGES_POSITION, X_CACHE, header::CACHE_CONTROL, header::VARY, header::ETAG] {
            assert_eq!(whole.headers()[&name], unchanged.headers()[&name]);
        }
    }
}
