//! Who may call.

use std::time::Duration;

use jsonwebtoken::{Algorithm, EncodingKey, Header};
use serde_json::{Value, json};

use crate::harness::system::SECRET;
use crate::harness::{System, unknown_id};

/// A token with these claims, signed with the system's secret or another.
fn signed(claims: &Value, secret: &str, algorithm: Algorithm) -> String {
    jsonwebtoken::encode(&Header::new(algorithm), claims, &EncodingKey::from_secret(secret.as_bytes())).unwrap()
}

/// Headers `Authorization` that are no good, and the code of their refusal.
fn bad_headers(system: &System) -> Vec<(Option<String>, &'static str)> {
    let later = 4_102_444_800_u64;
    let good = json!({"sub": "alice", "exp": later});
    let own = |claims: Value| signed(&claims, SECRET, Algorithm::HS256);
    let with_sub = |sub: Value| own(json!({"sub": sub, "exp": later}));
    let good_token = own(good.clone());
    let (signed_part, _) = good_token.rsplit_once('.').unwrap();
    // {"alg":"none","typ":"JWT"}, unsigned.
    let unsigned = format!("eyJhbGciOiJub25lIiwidHlwIjoiSldUIn0.{}.", signed_part.split_once('.').unwrap().1);
    let invalid = [
        signed(&good, "another secret", Algorithm::HS256),
        signed(&good, SECRET, Algorithm::HS384),
        signed(&good, SECRET, Algorithm::HS512),
        unsigned,
        format!("{signed_part}."),
        own(json!({"exp": later})),
        own(json!({"sub": "alice"})),
        own(json!({"sub": "alice", "exp": "soon"})),
        own(json!({"sub": "alice", "exp": later, "nbf": later})),
        with_sub(json!(7)),
        with_sub(json!("")),
        with_sub(json!("a b")),
        with_sub(json!("a\u{0}")),
        with_sub(json!("x".repeat(129))),
        system.auth.service_token().to_owned(),
        "nonsense".to_owned(),
        String::new(),
    ];
    let mut headers = vec![
        (None, "missing_token"),
        (Some(format!("Bearer {}", system.token_for("alice", Duration::ZERO))), "expired_token"),
        (Some("Basic YTpi".to_owned()), "invalid_token"),
        (Some("Bearer".to_owned()), "invalid_token"),
        (Some(good_token.clone()), "invalid_token"),
    ];
    headers.extend(invalid.map(|token| (Some(format!("Bearer {token}")), "invalid_token")));
    headers
}

#[tokio::test(flavor = "multi_thread")]
async fn no_route_is_open_to_anyone_without_a_good_token() {
    let system = System::start().await;
    let conversation = system.conversation("alice", &["bob"]).await;
    let message = system.message("alice", &conversation, "hi").await;
    let before = system.records().await;
    let body = json!({"conversationId": conversation, "content": "hi"});
    let one = format!("/api/messages/{message}");
    let page = format!("/api/messages?conversationId={conversation}");
    let unknown = format!("/api/messages/{}", unknown_id());
    let conversation = format!("/api/conversations/{conversation}");
    for (method, path) in [
        ("POST", "/api/messages"),
        ("PATCH", &one),
        ("DELETE", &one),
        ("GET", "/api/messages"),
        ("GET", &page),
        ("GET", &one),
        ("GET", &unknown),
        ("GET", &conversation),
        ("GET", "/api/messages/sync?since=x"),
    ] {
        for (header, code) in bad_headers(&system) {
            let mut request = system.request(method, path).json(&body);
            if let Some(header) = &header {
                request = request.header("Authorization", header);
            }
            let refused = request.send().await;
            refused.assert_problem(401, code);
            let challenge = refused.header("www-authenticate");
            assert!(challenge.starts_with("Bearer"), "{refused:?}");
            assert_eq!(challenge.contains("error=\"invalid_token\""), header.is_some(), "{challenge}");
            assert_eq!(refused.body["errors"], json!([]), "nothing else is told: {refused:?}");
        }
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
