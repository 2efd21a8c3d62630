//! Who may call.

use std::time::Duration;

use jsonwebtoken::{Algorithm, EncodingKey, Header};
use serde_json::{Value, json};
use service::auth::Auth;

use crate::harness::system::SECRET;
use crate::harness::{System, unknown_id};

/// A token with these claims, signed with the system's secret or another.
fn signed(claims: &Value, secret: &str, algorithm: Algorithm) -> String {
    jsonwebtoken::encode(&Header::new(algorithm), claims, &EncodingKey::from_secret(secret.as_bytes())).unwrap()
}

#[tokio::test(flavor = "multi_thread")]
async fn no_route_is_open_to_anyone_without_a_good_token() {
    let system = System::start().await;
    let conversation = system.conversation("alice", &["bob"]).await;
    let message = system.message("alice", &conversation, "hi").await;
    let before = system.records().await;
    let later = 4_102_444_800_u64;
    let good = json!({"sub": "alice", "exp": later});
    let own = |claims: Value| signed(&claims, SECRET, Algorithm::HS256);
    let with_sub = |sub: Value| own(json!({"sub": sub, "exp": later}));
    let good_token = own(good.clone());
    let (signed_part, _) = good_token.rsplit_once('.').unwrap();
    // {"alg":"none","typ":"JWT"}, unsigned.
    let unsigned = format!("eyJhbGciOiJub25lIiwidHlwIjoiSldUIn0.{}.", signed_part.split_once('.').unwrap().1);
    let expired = system.token_for("alice", Duration::ZERO);
    let tokens = [
        (None, "missing_token"),
        (Some(expired), "expired_token"),
        (Some(signed(&good, "another secret", Algorithm::HS256)), "invalid_token"),
        (Some(signed(&good, SECRET, Algorithm::HS384)), "invalid_token"),
        (Some(signed(&good, SECRET, Algorithm::HS512)), "invalid_token"),
        (Some(unsigned), "invalid_token"),
        (Some(format!("{signed_part}.")), "invalid_token"),
        (Some(own(json!({"exp": later}))), "invalid_token"),
        (Some(own(json!({"sub": "alice"}))), "invalid_token"),
        (Some(own(json!({"sub": "alice", "exp": "soon"}))), "invalid_token"),
        (Some(own(json!({"sub": "alice", "exp": later, "nbf": later}))), "invalid_token"),
        (Some(with_sub(json!(7))), "invalid_token"),
        (Some(with_sub(json!(""))), "invalid_token"),
        (Some(with_sub(json!("a b"))), "invalid_token"),
        (Some(with_sub(json!("a\u{0}"))), "invalid_token"),
        (Some(with_sub(json!("x".repeat(129)))), "invalid_token"),
        (Some(Auth::new(SECRET).service_token().to_owned()), "invalid_token"),
        (Some(String::new()), "invalid_token"),
        (Some("nonsense".to_owned()), "invalid_token"),
    ];
    let (one, send) = (format!("/api/messages/{message}"), json!({"conversationId": conversation, "content": "hi"}));
    let routes = [
        ("POST", "/api/messages".to_owned()),
        ("PATCH", one.clone()),
        ("DELETE", one.clone()),
        ("GET", "/api/messages".to_owned()),
        ("GET", format!("/api/messages?conversationId={conversation}")),
        ("GET", one),
        ("GET", format!("/api/messages/{}", unknown_id())),
        ("GET", format!("/api/conversations/{conversation}")),
        ("GET", "/api/messages/sync?since=x".to_owned()),
        ("GET", "/internal/memberships?userId=alice".to_owned()),
    ];
    for (method, path) in &routes {
        for (token, code) in &tokens {
            let own_token = Some(system.auth.service_token()) == token.as_deref();
            if own_token && path.starts_with("/internal") {
                continue;
            }
            let mut request = system.request(method, path).json(&send);
            if let Some(token) = token {
                request = request.header("Authorization", format!("Bearer {token}"));
            }
            let refused = request.send().await;
            let code = if path.starts_with("/internal") && token.is_some() { "invalid_token" } else { code };
            refused.assert_problem(401, code);
            let challenge = refused.header("www-authenticate");
            assert!(challenge.starts_with("Bearer"), "{refused:?}");
            assert_eq!(challenge.contains("error=\"invalid_token\""), token.is_some(), "{challenge}");
            assert_eq!(refused.body["errors"], json!([]), "nothing else is told: {refused:?}");
        }
    }
    // A good one opens everything but what is internal.
    let internal = system.get("alice", "/internal/memberships?userId=alice").await;
    internal.assert_problem(401, "invalid_token");
    for (name, value) in [("Basic", "Basic YTpi"), ("alone", "Bearer"), ("twice", "")] {
        let mut request = system.request("GET", "/api/messages").header("Authorization", value);
        if name == "twice" {
            request = request.header("Authorization", format!("Bearer {good_token}"));
        }
        request.send().await.assert_problem(401, "invalid_token");
    }
    assert_eq!(system.records().await, before);
}

#[tokio::test(flavor = "multi_thread")]
async fn a_good_token_is_good_for_whoever_it_names() {
    let system = System::start().await;
    let longest = "é".repeat(128);
    for user in ["a", "user@example.com", "𝕏:/?#[]\"\\'<>%00", &longest] {
        // Some libraries write an expiry with a fraction, and claims that nobody here knows.
        let claims = json!({"sub": user, "exp": 4_102_444_800.5, "aud": "elsewhere", "iss": "them", "role": "admin"});
        let token = signed(&claims, SECRET, Algorithm::HS256);
        let body = json!({"action": "conversation", "participantIds": ["bob"]});
        let request = system.request("POST", "/api/messages").header("Authorization", format!("bearer {token}"));
        let begun = request.json(&body).send().await;
        assert_eq!(begun.status, 201, "{begun:?}");
        assert_eq!(begun.data()["participantIds"], json!([user, "bob"]));
        assert_eq!(system.record_at(&begun).await.value["actorId"], user);
    }
}
