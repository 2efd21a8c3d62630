//! What every query answers with: its body, the position that it includes, and its tag.

use axum::body::Body;
use axum::response::{IntoResponse, Response};
use base64::Engine;
use base64::engine::general_purpose::URL_SAFE_NO_PAD;
use domain::PositionVector;
use http::{HeaderMap, HeaderName, HeaderValue, StatusCode, header};
use sha2::{Digest, Sha256};

const MESSAGES_POSITION: HeaderName = HeaderName::from_static("messages-position");
const X_CACHE: HeaderName = HeaderName::from_static("x-cache");
/// How much of the hash a tag has: enough that two bodies never share one.
const TAG_BYTES: usize = 16;

/// A ready body, and what it includes.
#[derive(Debug)]
pub(crate) struct Found {
    pub(crate) body: String,
    pub(crate) includes: PositionVector,
    /// Whether it came from Redis.
    pub(crate) hit: bool,
}

impl Found {
    /// The word for it in `X-Cache` and in metrics.
    pub(crate) fn cache(&self) -> &'static str {
        if self.hit { "hit" } else { "miss" }
    }

    /// The answer under a token for what it includes; 304 without the body when the client has it.
    pub(crate) fn answer(self, token: &str, asked: &HeaderMap) -> Response {
        let cache = self.cache();
        let tag = entity_tag(&self.body);
        let mut response = if matches(asked, &tag) {
            StatusCode::NOT_MODIFIED.into_response()
        } else {
            let kind = [(header::CONTENT_TYPE, HeaderValue::from_static("application/json"))];
            (kind, Body::from(self.body)).into_response()
        };
        let headers = response.headers_mut();
        headers.insert(X_CACHE, HeaderValue::from_static(cache));
        // What a user may see is theirs alone, and is asked for again each time.
        headers.insert(header::CACHE_CONTROL, HeaderValue::from_static("private, no-cache"));
        headers.insert(header::VARY, HeaderValue::from_static("Authorization"));
        for (name, value) in [(MESSAGES_POSITION, token), (header::ETAG, &tag)] {
            if let Ok(value) = HeaderValue::from_str(value) {
                headers.insert(name, value);
            }
        }
        response
    }
}

/// A strong tag: equal bodies have it in common, on every node and whether cached or not.
fn entity_tag(body: &str) -> String {
    let hash = Sha256::digest(body.as_bytes());
    format!("\"{}\"", URL_SAFE_NO_PAD.encode(&hash[..TAG_BYTES]))
}

/// Whether `If-None-Match` names the tag. The comparison is the weak one, as for every GET.
fn matches(asked: &HeaderMap, tag: &str) -> bool {
    let lines = asked.get_all(header::IF_NONE_MATCH).iter().filter_map(|line| line.to_str().ok());
    let mut given = lines.flat_map(|line| line.split(',')).map(str::trim);
    given.any(|given| given == "*" || given.strip_prefix("W/").unwrap_or(given) == tag)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn asked(lines: &[&str]) -> HeaderMap {
        let pair = |line: &&str| (header::IF_NONE_MATCH, HeaderValue::from_str(line).unwrap());
        lines.iter().map(pair).collect()
    }

    fn found(body: &str) -> Found {
        Found { body: body.to_owned(), includes: PositionVector::default(), hit: true }
    }

    #[test]
    fn lists_stars_and_weak_tags_match() {
        let tag = entity_tag("{}");
        for lines in [
            vec![tag.as_str()],
            vec!["*"],
            vec![&format!("W/{tag}")],
            vec![&format!("\"other\" , {tag}")],
            vec!["\"other\"", &tag],
        ] {
            assert!(matches(&asked(&lines), &tag), "{lines:?}");
        }
        for lines in [vec![], vec![""], vec!["\"other\""], vec![tag.trim_matches('"')], vec![&entity_tag("[]")]] {
            assert!(!matches(&asked(&lines), &tag), "{lines:?}");
        }
    }

    #[test]
    fn what_the_client_has_is_not_sent_again_but_its_headers_are() {
        let whole = found("{}").answer("token", &HeaderMap::new());
        let tag = whole.headers()[header::ETAG].to_str().unwrap().to_owned();
        let unchanged = found("{}").answer("token", &asked(&[&tag]));
        assert_eq!((whole.status(), unchanged.status()), (StatusCode::OK, StatusCode::NOT_MODIFIED));
        for name in [MESSAGES_POSITION, X_CACHE, header::CACHE_CONTROL, header::VARY, header::ETAG] {
            assert_eq!(whole.headers()[&name], unchanged.headers()[&name]);
        }
    }
}
