//! Tokens in a cookie: they work like tokens in a header, and no page of another site can use them.

use std::time::Duration;

use serde_json::{Value, json};

use crate::harness::http::Request;
use crate::harness::{Client, System};

/// The name of the cookie.
const COOKIE: &str = "session";
/// An origin that may use the cookie.
const APP: &str = "https://app.example";

/// Headers that tell the server from which page a request comes, if any do.
type Page = &'static [(&'static str, &'static str)];

/// Pages that may use the cookie.
const TRUSTED_PAGES: [Page; 5] = [
    &[("Sec-Fetch-Site", "same-origin")],
    &[("Sec-Fetch-Site", "same-site")],
    &[("Sec-Fetch-Site", "same-site"), ("Origin", "https://www.chat.example")],
    &[("Sec-Fetch-Site", "cross-site"), ("Origin", APP)],
    &[("Origin", APP)],
];

/// Pages that may not use it, and requests that name no page.
const OTHER_PAGES: [Page; 9] = [
    &[],
    &[("Sec-Fetch-Site", "none")],
    &[("Sec-Fetch-Site", "cross-site")],
    &[("Sec-Fetch-Site", "cross-site"), ("Origin", "https://evil.example")],
    &[("Sec-Fetch-Site", "cross-site"), ("Origin", "null")],
    // Another server on the machine.
    &[("Sec-Fetch-Site", "same-site"), ("Origin", "http://127.0.0.1:1")],
    &[("Origin", "https://evil.example")],
    &[("Origin", "https://app.example.evil.example")],
    &[("Origin", "null")],
];

async fn system_that_reads_cookies(origins: &[&str]) -> System {
    System::with(|config| {
        config.auth_cookie = Some(COOKIE.to_owned());
        config.cors_origins = origins.iter().map(|origin| origin.parse().unwrap()).collect();
    })
    .await
}

/// A request with alice's token in the cookie, from this page.
fn ask(system: &System, method: &str, path: &str, page: Page) -> Request {
    let request = system.request(method, path).header("Cookie", format!("{COOKIE}={}", system.token("alice")));
    page.iter().fold(request, |request, (name, value)| request.header(name, value))
}

#[tokio::test(flavor = "multi_thread")]
async fn without_the_setting_a_cookie_means_nothing() {
    let system = System::start().await;
    for method in ["GET", "POST"] {
        let request = ask(&system, method, "/api/messages", &[("Sec-Fetch-Site", "same-origin")]);
        request.send().await.assert_problem(401, "missing_token");
    }
    let mut client = open_socket(&system, "alice", json!({}), TRUSTED_PAGES[0], "websocket").await;
    assert_eq!(client.wait_for("connect_error").await["message"], "missing_token");
}

#[tokio::test(flavor = "multi_thread")]
async fn a_token_in_the_cookie_is_checked_like_one_in_the_header() {
    let system = system_that_reads_cookies(&[]).await;
    let (good, expired) = (system.token("alice"), system.token_for("alice", Duration::ZERO));
    let get = async |cookies: &[String]| {
        let request = system.request("GET", "/api/messages").header("Cookie", "theme=dark");
        cookies.iter().fold(request, |request, cookie| request.header("Cookie", cookie)).send().await
    };
    for cookies in [
        vec![format!("{COOKIE}={good}")],
        vec![format!("a=b; {COOKIE}=\"{good}\"; c=d")],
        vec!["a=b".to_owned(), format!("{COOKIE}={good}; {COOKIE}=nonsense")],
    ] {
        assert_eq!(get(&cookies).await.status, 200, "{cookies:?}");
    }
    for (cookies, code) in [
        (vec![], "missing_token"),
        (vec![format!("my{COOKIE}={good}")], "missing_token"),
        (vec![format!("{COOKIE}={expired}")], "expired_token"),
        (vec![format!("{COOKIE}=nonsense; {COOKIE}={good}")], "invalid_token"),
        (vec![format!("{COOKIE}={}", system.auth.service_token())], "invalid_token"),
    ] {
        get(&cookies).await.assert_problem(401, code);
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn a_request_that_changes_something_must_come_from_a_trusted_page() {
    let system = system_that_reads_cookies(&["http://localhost:5173", APP]).await;
    let conversation = system.conversation("alice", &["bob"]).await;
    let message = system.message("alice", &conversation, "hi").await;
    let path = format!("/api/messages/{message}");
    let send = json!({"conversationId": conversation, "content": "forged?"});
    let requests: [(&str, &str, Value); 3] = [
        ("POST", "/api/messages", send),
        ("PATCH", &path, json!({"content": "forged?"})),
        ("DELETE", &path, Value::Null),
    ];
    let records_before = system.records().await;
    for page in OTHER_PAGES {
        for (method, path, body) in &requests {
            // As a form or a script of any page can send it: without a header that needs a preflight.
            let request = ask(&system, method, path, page).body(body.to_string());
            request.header("Content-Type", "text/plain").send().await.assert_problem(403, "cross_site");
        }
        let read = ask(&system, "GET", "/api/messages", page).send().await;
        assert_eq!(read.status, 200, "reading changes nothing: {page:?}");
    }
    assert_eq!(system.records().await, records_before, "a forged request had an effect");

    for page in TRUSTED_PAGES {
        for (method, path, body) in &requests[..2] {
            let request = ask(&system, method, path, page).body(body.to_string());
            let accepted = request.send().await;
            assert!([200, 201].contains(&accepted.status), "{method} {page:?}: {accepted:?}");
        }
    }
    let own_origin = ask(&system, "DELETE", &path, &[]).header("Origin", &system.url).send().await;
    assert_eq!(own_origin.status, 200, "{own_origin:?}");
}

#[tokio::test(flavor = "multi_thread")]
async fn a_star_lists_no_origin_that_may_use_the_cookie() {
    let system = system_that_reads_cookies(&["*"]).await;
    let body = json!({"action": "conversation", "participantIds": ["bob"]});
    for page in [&[("Origin", APP)] as Page, &[("Origin", "*")]] {
        ask(&system, "POST", "/api/messages", page).json(&body).send().await.assert_problem(403, "cross_site");
    }
    let with_own_token = system.ask("alice", "POST", "/api/messages").header("Origin", APP).json(&body).send().await;
    assert_eq!(with_own_token.status, 201);
}

#[tokio::test(flavor = "multi_thread")]
async fn a_token_in_the_header_wins_over_the_cookie() {
    let system = system_that_reads_cookies(&[]).await;
    let body = json!({"action": "conversation", "participantIds": ["carol"]});
    let evil: Page = &[("Sec-Fetch-Site", "cross-site"), ("Origin", "https://evil.example")];
    let post = |authorization: String| {
        ask(&system, "POST", "/api/messages", evil).header("Authorization", authorization).json(&body)
    };
    let created = post(format!("Bearer {}", system.token("bob"))).send().await;
    assert_eq!(created.status, 201, "the browser added a cookie that the page doesn't need: {created:?}");
    assert_eq!(created.data()["participantIds"], json!(["bob", "carol"]));
    for invalid in ["Bearer nonsense", "Basic YTpi"] {
        post(invalid.to_owned()).send().await.assert_problem(401, "invalid_token");
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn listed_pages_may_send_credentials_only_where_a_cookie_is_read_and_no_star_is_listed() {
    let system_with_app = |cookie: Option<&str>, origin: &str| {
        let (cookie, origin) = (cookie.map(str::to_owned), origin.parse().unwrap());
        System::with(|config| {
            config.auth_cookie = cookie;
            config.cors_origins = vec![origin];
        })
    };
    let (listed, star, without_cookie) = tokio::join!(
        system_with_app(Some(COOKIE), APP),
        system_with_app(Some(COOKIE), "*"),
        system_with_app(None, APP)
    );
    for (system, allowed) in [(listed, "true"), (star, ""), (without_cookie, "")] {
        let preflight = system.request("OPTIONS", "/api/messages").header("Origin", APP);
        let preflight = preflight.header("Access-Control-Request-Method", "POST");
        let polling = system.request("GET", "/socket.io/?EIO=4&transport=polling").header("Origin", APP);
        let read = system.ask("alice", "GET", "/api/messages").header("Origin", APP);
        for request in [preflight, polling, read] {
            let response = request.send().await;
            assert_eq!(response.header("access-control-allow-credentials"), allowed, "{response:?}");
        }
    }
}

/// Opens a socket with a user's token in the cookie, from this page.
async fn open_socket(system: &System, user: &str, auth: Value, page: Page, transport: &str) -> Client {
    let mut headers = json!({"Cookie": format!("{COOKIE}={}", system.token(user))});
    for (name, value) in page {
        headers[name] = json!(value);
    }
    let options = json!({"extraHeaders": headers});
    Client::open(json!({"url": system.url, "auth": auth, "transports": [transport], "options": options})).await
}

#[tokio::test(flavor = "multi_thread")]
async fn a_socket_with_the_cookie_must_come_from_a_trusted_page() {
    let system = system_that_reads_cookies(&[APP]).await;
    for transport in ["websocket", "polling"] {
        for page in [TRUSTED_PAGES[0], TRUSTED_PAGES[3]] {
            let mut client = open_socket(&system, "alice", json!({}), page, transport).await;
            assert_eq!(client.frame("connection:ready").await.data["userId"], "alice", "{page:?}");
        }
        for page in [OTHER_PAGES[0], OTHER_PAGES[3], OTHER_PAGES[5], OTHER_PAGES[6], OTHER_PAGES[8]] {
            let path = format!("/socket.io/?EIO=4&transport={transport}");
            ask(&system, "GET", &path, page).send().await.assert_problem(403, "cross_site");
            let mut client = open_socket(&system, "alice", json!({"token": null}), page, transport).await;
            client.wait_for("connect_error").await;
        }
        // The page has a token of its own, and the browser adds the cookie of somebody else.
        let auth = json!({"token": system.token("bob")});
        let mut client = open_socket(&system, "alice", auth, TRUSTED_PAGES[0], transport).await;
        assert_eq!(client.frame("connection:ready").await.data["userId"], "bob");
        let mut client = open_socket(&system, "alice", json!({"token": "x"}), TRUSTED_PAGES[0], transport).await;
        assert_eq!(client.wait_for("connect_error").await["message"], "invalid_token");
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn a_socket_lives_as_long_as_the_token_in_its_cookie() {
    let system = system_that_reads_cookies(&[]).await;
    // A busy machine needs some seconds to connect.
    let cookie = format!("{COOKIE}={}", system.token_for("alice", Duration::from_secs(12)));
    let options = json!({"extraHeaders": {"Cookie": cookie, "Origin": system.url}});
    let mut client = Client::open(json!({"url": system.url, "auth": {}, "options": options})).await;
    client.frame("connection:ready").await;
    assert_eq!(client.wait_for("disconnect").await["reason"], "io server disconnect");
    client.connect_socket(0).await;
    assert_eq!(client.wait_for("connect_error").await["message"], "expired_token");
}
