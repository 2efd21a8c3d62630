//! A user's token in a cookie, where the operator names one.

use ::http::{HeaderMap, HeaderValue, header};

use super::error::{AuthError, InvalidToken};
use crate::cross_site;

/// Parses the name of a cookie: a token, as RFC 6265 demands and RFC 9110 defines it.
///
/// # Errors
/// When the text is none. The error says what is expected.
pub(crate) fn parse_cookie_name(text: &str) -> Result<String, String> {
    let is_allowed = |byte: u8| byte.is_ascii_alphanumeric() || b"!#$%&'*+-.^_`|~".contains(&byte);
    if !text.is_empty() && text.bytes().all(is_allowed) {
        Ok(text.to_owned())
    } else {
        Err("must be the name of a cookie: letters, digits and !#$%&'*+-.^_`|~".to_owned())
    }
}

/// The cookie that may have a user's token.
pub(super) struct AuthCookie {
    name: String,
    /// The origins whose pages may use the cookie, besides those of our own site.
    origins: Vec<HeaderValue>,
}

impl AuthCookie {
    pub(super) fn new(name: &str, origins: &[HeaderValue]) -> Self {
        Self { name: name.to_owned(), origins: origins.to_vec() }
    }

    /// The token in the cookie.
    pub(super) fn token<'a>(&self, headers: &'a HeaderMap) -> Result<&'a str, AuthError> {
        let value = cookie(headers, &self.name).ok_or(AuthError::Missing)?;
        str::from_utf8(value).map_err(|_| InvalidToken::NotAJwt.into())
    }

    /// The token in the cookie of a request that changes something, or opens a socket. A browser may send such a request
    /// for any page, so the page must be one that may act for the user.
    pub(super) fn token_of_trusted_page<'a>(&self, headers: &'a HeaderMap) -> Result<&'a str, AuthError> {
        let token = self.token(headers);
        let is_trusted = token == Err(AuthError::Missing) || cross_site::may_use_cookie(headers, &self.origins);
        if is_trusted { token } else { Err(AuthError::CrossSite) }
    }
}

/// The value of the first cookie of this name (RFC 6265, section 4.2), without its quotes.
fn cookie<'a>(headers: &'a HeaderMap, name: &str) -> Option<&'a [u8]> {
    let lines = headers.get_all(header::COOKIE).iter().map(HeaderValue::as_bytes);
    let mut pairs = lines.flat_map(|line| line.split(|byte| *byte == b';')).map(<[u8]>::trim_ascii);
    let value = pairs.find_map(|pair| pair.strip_prefix(name.as_bytes())?.strip_prefix(b"="))?;
    let unquoted = value.strip_prefix(b"\"").and_then(|rest| rest.strip_suffix(b"\""));
    Some(unquoted.unwrap_or(value))
}

#[cfg(test)]
mod tests {
    use super::*;

    fn value(lines: &[&'static str]) -> Option<String> {
        let mut headers = HeaderMap::new();
        for line in lines {
            headers.append(header::COOKIE, HeaderValue::from_static(line));
        }
        cookie(&headers, "session").map(|value| String::from_utf8(value.to_vec()).unwrap())
    }

    #[test]
    fn a_cookie_has_a_name_that_browsers_accept() {
        for name in ["session", "__Host-session.v2", "a!#$%&'*+-.^_`|~1"] {
            assert_eq!(parse_cookie_name(name).as_deref(), Ok(name));
        }
        for name in ["", "my session", "session=1", "a;b", "a,b", "\"session\"", "sitzung-für-alle", "a\tb", "a/b"] {
            assert!(parse_cookie_name(name).is_err(), "{name}");
        }
    }

    #[test]
    fn the_first_cookie_of_the_name_counts() {
        for lines in [
            &["session=a.b.c"][..],
            &["theme=dark; session=a.b.c; lang=de"],
            &["theme=dark;session=a.b.c"],
            &["session=\"a.b.c\""],
            &["theme=dark", "session=a.b.c", "session=x"],
            &["session=a.b.c; session=x"],
            &["; ;=;session =x; session=a.b.c"],
            &["xsession=x; session2=x; Session=x; session=a.b.c"],
            &["other=\"; session=a.b.c"],
        ] {
            assert_eq!(value(lines).as_deref(), Some("a.b.c"), "{lines:?}");
        }
        for lines in [&[][..], &[""], &["session"], &["SESSION=a.b.c"], &["my-session=a.b.c"], &["a=session=b"]] {
            assert_eq!(value(lines), None, "{lines:?}");
        }
        assert_eq!(value(&["session="]).as_deref(), Some(""));
        assert_eq!(value(&["session=a=b=="]).as_deref(), Some("a=b=="));
    }
}
