//! Requests that a browser sends for a page of another site, with the cookies of a user who knows nothing of it.
//!
//! A token in a header proves that the page has it. A cookie proves nothing of the page, so a request that relies on one
//! must come from a page that may act for the user: one of our own site, or of a listed origin. Browsers say where a
//! request comes from in `Origin` and `Sec-Fetch-Site`, which no page can set.

use ::http::uri::Authority;
use ::http::{HeaderMap, HeaderName, HeaderValue, Uri, header};

const SEC_FETCH_SITE: HeaderName = HeaderName::from_static("sec-fetch-site");

/// Whether a request with these headers comes from a page that may use the user's cookie. `origins` are the listed ones,
/// of which `*` counts for requests without cookies only.
///
/// | `Sec-Fetch-Site` | `Origin` | |
/// |---|---|---|
/// | any | listed | yes |
/// | `same-origin` | any other, or none | yes |
/// | any other | `null`, as a page says that hides where it is from | no |
/// | `same-site` | the same host as `Host` with another port | no: cookies don't know ports, so any server on the machine gets and sets them |
/// | `same-site` | any other, or none | yes |
/// | `none`, `cross-site` | any other, or none | no |
/// | missing: browsers send it to trustworthy URLs only | the same as `Host` | yes |
/// | missing | any other, or none | no |
pub(crate) fn may_use_cookie(headers: &HeaderMap, origins: &[HeaderValue]) -> bool {
    let (Ok(origin), Ok(site)) = (only_value(headers, &header::ORIGIN), only_value(headers, &SEC_FETCH_SITE)) else {
        return false;
    };
    if origin.is_some_and(|origin| origin != "null" && origins.iter().any(|listed| listed != "*" && listed == origin)) {
        return true;
    }
    match site.map(HeaderValue::as_bytes) {
        Some(b"same-origin") => true,
        Some(b"same-site") => origin.is_none_or(|origin| {
            Addresses::read(origin, headers).is_some_and(|both| !both.have_same_host() || both.have_same_port())
        }),
        Some(_) => false,
        None => {
            let addresses = origin.and_then(|origin| Addresses::read(origin, headers));
            addresses.is_some_and(|both| both.have_same_host() && both.have_same_port())
        }
    }
}

/// A header that may come once came several times: whoever added the second one may not see the first.
struct Repeated;

fn only_value<'a>(headers: &'a HeaderMap, name: &HeaderName) -> Result<Option<&'a HeaderValue>, Repeated> {
    let mut values = headers.get_all(name).iter();
    let value = values.next();
    if values.next().is_some() { Err(Repeated) } else { Ok(value) }
}

/// The server of the page that sends a request, and the server to which the request goes.
struct Addresses {
    origin: Authority,
    host: Authority,
    /// The port of the origin's scheme, which browsers leave out.
    default_port: Option<u16>,
}

impl Addresses {
    /// None if one of the headers is missing, or isn't what a browser sends.
    fn read(origin: &HeaderValue, headers: &HeaderMap) -> Option<Self> {
        let origin: Uri = origin.to_str().ok()?.parse().ok()?;
        let default_port = match origin.scheme_str()? {
            "http" => Some(80),
            "https" => Some(443),
            _ => None,
        };
        let host = only_value(headers, &header::HOST).ok()??.to_str().ok()?.parse().ok()?;
        Some(Self { origin: origin.authority()?.clone(), host, default_port })
    }

    fn have_same_host(&self) -> bool {
        self.origin.host().eq_ignore_ascii_case(self.host.host())
    }

    fn have_same_port(&self) -> bool {
        let port = |authority: &Authority| authority.port_u16().or(self.default_port);
        port(&self.origin) == port(&self.host)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const HOST: &str = "chat.example";

    /// Whether a request with these headers passes; a listed origin is `https://app.example`, and so is `*`.
    fn passes(lines: &[(&'static str, &'static str)]) -> bool {
        let mut headers = HeaderMap::new();
        for (name, value) in lines {
            headers.append(*name, HeaderValue::from_static(value));
        }
        may_use_cookie(&headers, &["*", "https://app.example"].map(HeaderValue::from_static))
    }

    #[test]
    fn a_listed_origin_passes_literally() {
        for site in ["same-origin", "same-site", "cross-site", "none"] {
            assert!(passes(&[("host", HOST), ("origin", "https://app.example"), ("sec-fetch-site", site)]), "{site}");
        }
        assert!(passes(&[("origin", "https://app.example")]));
        for origin in [
            "https://app.example:8443",
            "http://app.example",
            "https://app.example.evil",
            "https://evil.example",
            "https://evilapp.example",
            "HTTPS://APP.EXAMPLE",
            "https://app.example/",
            "*",
            "null",
            "",
        ] {
            assert!(!passes(&[("host", HOST), ("origin", origin)]), "{origin}");
            assert!(!passes(&[("host", HOST), ("origin", origin), ("sec-fetch-site", "cross-site")]), "{origin}");
        }
    }

    #[test]
    fn a_page_of_our_own_origin_passes() {
        assert!(passes(&[("host", HOST), ("sec-fetch-site", "same-origin")]));
        assert!(passes(&[("host", HOST), ("sec-fetch-site", "same-origin"), ("origin", "https://chat.example")]));
        // A form of a page with the referrer policy `no-referrer`.
        assert!(passes(&[("host", HOST), ("sec-fetch-site", "same-origin"), ("origin", "null")]));
        // A proxy that changes `Host` doesn't matter to the browser.
        assert!(passes(&[
            ("host", "10.0.0.7:8080"),
            ("sec-fetch-site", "same-origin"),
            ("origin", "https://a.example")
        ]));
    }

    #[test]
    fn a_page_of_our_own_site_passes_unless_it_is_another_server_on_the_same_machine() {
        let page_passes = |host, origin| passes(&[("host", host), ("sec-fetch-site", "same-site"), ("origin", origin)]);
        for (host, origin) in [
            (HOST, "https://www.chat.example"),
            ("api.chat.example:8443", "https://www.chat.example"),
            ("localhost:8080", "http://localhost:8080"),
            ("chat.example:443", "https://chat.example"),
        ] {
            assert!(page_passes(host, origin), "{origin} at {host}");
        }
        for (host, origin) in [
            ("localhost:8080", "http://localhost:3000"),
            ("127.0.0.1:8080", "http://127.0.0.1"),
            ("[::1]:8080", "http://[::1]:9090"),
            ("LOCALHOST:8080", "http://localhost:3000"),
            ("chat.example", "https://chat.example:8443"),
            ("chat.example:8443", "https://chat.example"),
            ("", "https://www.chat.example"),
            (HOST, "www.chat.example"),
        ] {
            assert!(!page_passes(host, origin), "{origin} at {host}");
        }
        assert!(passes(&[("host", HOST), ("sec-fetch-site", "same-site")]));
    }

    #[test]
    fn a_request_of_another_site_or_of_no_page_does_not_pass() {
        for site in ["cross-site", "none", "Same-Origin", "same-origin, same-origin", "?", ""] {
            assert!(!passes(&[("host", HOST), ("sec-fetch-site", site)]), "{site}");
            // The browser knows better than a comparison of names.
            assert!(!passes(&[("host", HOST), ("sec-fetch-site", site), ("origin", "https://chat.example")]), "{site}");
        }
    }

    #[test]
    fn without_sec_fetch_site_the_origin_must_be_the_host() {
        for (host, origin) in [
            ("chat.example", "https://chat.example"),
            ("chat.example", "http://chat.example"),
            ("chat.example:443", "https://chat.example"),
            ("chat.example", "https://chat.example:443"),
            ("chat.example:80", "http://chat.example"),
            ("Chat.Example", "https://chat.example"),
            ("192.168.0.7:8080", "http://192.168.0.7:8080"),
            ("[fd00::7]:8080", "http://[fd00::7]:8080"),
        ] {
            assert!(passes(&[("host", host), ("origin", origin)]), "{origin} at {host}");
        }
        for (host, origin) in [
            ("chat.example:8443", "https://chat.example"),
            ("chat.example", "https://chat.example:8443"),
            ("chat.example:80", "https://chat.example"),
            ("chat.example", "https://www.chat.example"),
            ("www.chat.example", "https://chat.example"),
            ("chat.example", "https://chat.example.evil"),
            ("chat.example", "chat.example"),
            ("chat.example", "null"),
            ("null", "null"),
            ("", ""),
        ] {
            assert!(!passes(&[("host", host), ("origin", origin)]), "{origin} at {host}");
        }
        assert!(!passes(&[("host", HOST)]));
        assert!(!passes(&[("origin", "https://chat.example")]));
    }

    #[test]
    fn an_opaque_origin_and_repeated_headers_never_pass() {
        assert!(!passes(&[("host", HOST), ("origin", "null")]));
        assert!(!passes(&[("host", HOST), ("sec-fetch-site", "same-site"), ("origin", "null")]));
        assert!(!passes(&[("sec-fetch-site", "same-origin"), ("sec-fetch-site", "cross-site")]));
        assert!(!passes(&[("origin", "https://app.example"), ("origin", "https://evil.example")]));
        let two_hosts = [("host", HOST), ("host", "evil.example"), ("origin", "https://evil.example")];
        assert!(!passes(&two_hosts));
    }
}
