//! Reading parameters from the path, the query string and the headers of a request.
//!
//! Everything that a client sends is checked: an unknown or invalid parameter is a 400 that names it. No parameter may
//! ever be silently ignored.

use std::collections::BTreeMap;
use std::str::FromStr;

use ::http::{HeaderMap, Uri};
use axum::extract::rejection::PathRejection;
use axum::extract::{Path, Query};
use domain::IdempotencyKey;

use crate::problem::Problem;

/// The parameters of a query string. Each is known to the route, and occurs once.
#[derive(Debug, Clone, Default)]
pub struct Params(BTreeMap<String, String>);

impl Params {
    /// Reads the query string of a route that knows these parameters.
    ///
    /// # Errors
    /// 400 for a parameter that is unknown, repeated, or not plain text.
    pub fn read(uri: &Uri, known: &[&str]) -> Result<Self, Problem> {
        let Ok(Query(pairs)) = Query::<Vec<(String, String)>>::try_from_uri(uri) else {
            return Err(Problem::invalid_parameter("", "invalid_query", "the query string is malformed"));
        };
        let mut params = BTreeMap::new();
        for (name, value) in pairs {
            if !known.contains(&name.as_str()) {
                let detail = format!("is not a parameter of this route; its parameters are: {}", known.join(", "));
                return Err(Problem::invalid_parameter(&name, "unknown_parameter", detail));
            }
            // The decoder replaces whatever isn't UTF-8 by U+FFFD.
            if value.contains(|character: char| character.is_control() || character == '\u{fffd}') {
                return Err(Problem::invalid_parameter(
                    &name,
                    "invalid_parameter",
                    "must be UTF-8 text without control characters",
                ));
            }
            if params.insert(name.clone(), value).is_some() {
                return Err(Problem::invalid_parameter(&name, "repeated_parameter", "must not be repeated"));
            }
        }
        Ok(Self(params))
    }

    /// The value of a parameter, or `None` if the client left it out.
    pub fn get(&self, name: &str) -> Option<&str> {
        self.0.get(name).map(String::as_str)
    }

    /// The parsed value of a parameter, such as an id.
    ///
    /// # Errors
    /// 400 `invalid_id` when it can't be parsed.
    pub fn parse<T: FromStr>(&self, name: &str) -> Result<Option<T>, Problem>
    where
        T::Err: std::fmt::Display,
    {
        self.get(name).map(|text| parse(name, text)).transpose()
    }

    /// The parameter `limit`: how many items a page has at most.
    ///
    /// # Errors
    /// 400 `invalid_limit` when it isn't a whole number from 1 to `max`.
    pub fn limit(&self, default: i64, max: i64) -> Result<i64, Problem> {
        let Some(text) = self.get("limit") else { return Ok(default) };
        let is_digits = !text.is_empty() && text.bytes().all(|byte| byte.is_ascii_digit());
        let limit = text.parse().ok().filter(|limit| is_digits && (1..=max).contains(limit));
        limit.ok_or_else(|| {
            Problem::invalid_parameter("limit", "invalid_limit", format!("must be a whole number from 1 to {max}"))
        })
    }
}

/// The id in a route's path.
///
/// # Errors
/// 400 `invalid_id` when it can't be parsed.
pub fn path_id<T: FromStr>(name: &str, path: Result<Path<String>, PathRejection>) -> Result<T, Problem>
where
    T::Err: std::fmt::Display,
{
    // A path that isn't UTF-8 is no id either.
    parse(name, &path.map(|Path(text)| text).unwrap_or_default())
}

fn parse<T: FromStr>(name: &str, text: &str) -> Result<T, Problem>
where
    T::Err: std::fmt::Display,
{
    text.parse().map_err(|error: T::Err| Problem::invalid_parameter(name, "invalid_id", error.to_string()))
}

/// The value of a header that may occur once.
fn single_header<'a>(headers: &'a HeaderMap, name: &'static str) -> Result<Option<&'a str>, Problem> {
    let mut values = headers.get_all(name).iter();
    let Some(value) = values.next() else { return Ok(None) };
    if values.next().is_some() {
        return Err(Problem::invalid_header(name, "invalid_header", "must not be repeated"));
    }
    let text = value.to_str().map_err(|_| Problem::invalid_header(name, "invalid_header", "must be ASCII"))?;
    Ok(Some(text))
}

/// The header `Idempotency-Key`.
///
/// # Errors
/// 400 `invalid_header` when it is repeated, or isn't 1 to 128 visible ASCII characters.
pub fn idempotency_key(headers: &HeaderMap) -> Result<Option<IdempotencyKey>, Problem> {
    const NAME: &str = "Idempotency-Key";
    let Some(text) = single_header(headers, NAME)? else { return Ok(None) };
    let key = text
        .parse()
        .map_err(|error: domain::ids::IdError| Problem::invalid_header(NAME, "invalid_header", error.to_string()))?;
    Ok(Some(key))
}

/// The text of the header `Messages-Position`, not parsed yet.
///
/// # Errors
/// 400 `invalid_header` when it is repeated or isn't ASCII.
pub fn messages_position(headers: &HeaderMap) -> Result<Option<&str>, Problem> {
    single_header(headers, "Messages-Position")
}

#[cfg(test)]
mod tests {
    use super::*;

    fn read(query: &str) -> Result<Params, Problem> {
        Params::read(&format!("/things?{query}").parse().unwrap(), &["limit", "cursor"])
    }

    #[test]
    fn a_parameter_is_decoded() {
        assert_eq!(read("cursor=a%20b%C3%A9").unwrap().get("cursor"), Some("a b\u{e9}"));
        assert_eq!(read("").unwrap().get("cursor"), None);
    }

    #[test]
    fn unknown_repeated_and_undecodable_parameters_are_refused() {
        for (query, code) in [
            ("offset=1", "unknown_parameter"),
            ("cursor=a&cursor=b", "repeated_parameter"),
            ("cursor=%ff", "invalid_parameter"),
            ("cursor=a%00", "invalid_parameter"),
        ] {
            assert_eq!(read(query).unwrap_err().code(), code, "{query}");
        }
    }

    #[test]
    fn a_limit_is_a_whole_number_within_bounds() {
        assert_eq!(read("").unwrap().limit(20, 100).unwrap(), 20);
        assert_eq!(read("limit=100").unwrap().limit(20, 100).unwrap(), 100);
        for invalid in ["0", "101", "-1", "%2B5", "1.5", "", "x", "99999999999999999999"] {
            let limit = read(&format!("limit={invalid}")).unwrap().limit(20, 100);
            assert_eq!(limit.unwrap_err().status(), 400, "{invalid}");
        }
    }

    #[test]
    fn an_idempotency_key_occurs_once_and_has_no_spaces() {
        let mut headers = HeaderMap::new();
        assert!(idempotency_key(&headers).unwrap().is_none());
        headers.append("idempotency-key", "one".parse().unwrap());
        assert_eq!(idempotency_key(&headers).unwrap().unwrap().as_str(), "one");
        headers.append("idempotency-key", "one".parse().unwrap());
        assert_eq!(idempotency_key(&headers).unwrap_err().code(), "invalid_header");
        headers.insert("idempotency-key", "a b".parse().unwrap());
        assert_eq!(idempotency_key(&headers).unwrap_err().code(), "invalid_header");
    }
}
