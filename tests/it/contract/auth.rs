//! Authentication: which tokens the API accepts, and how it refuses the others.

use std::time::Duration;

use jsonwebtoken::{Algorithm, EncodingKey, Header};
use serde_json::{Value, json};

use crate::harness::system::SECRET;
use crate::harness::{System, unknown_id};

/// A time far in the future, in seconds since 1970.
const FAR_FUTURE: u64 = 4_102_444_800;

/// A header `Authorization` that the API must refuse, and the code of the refusal.
struct BadHeader {
    value: Option<String>,
    code: &'static str,
}

impl BadHeader {
    fn bearer(token: &str, code: &'static str) -> Self {
        Self { value: Some(format!("Bearer {token}")), code }
    }
}

/// Signs a token with these claims.
fn signed(claims: &Value, secret: &str, algorithm: Algorithm) -> String {
    jsonwebtoken::encode(&Header::new(algorithm), claims, &EncodingKey::from_secret(secret.as_bytes())).unwrap()
}

/// Tokens that the API must refuse as `invalid_token`: wrong signatures, wrong claims, and strings that are no token.
fn invalid_tokens(system: &System) -> Vec<String> {
    let claims = json!({"sub": "alice", "exp": FAR_FUTURE});
    let with_claims = |claims: Value| signed(&claims, SECRET, Algorithm::HS256);
    let with_sub = |sub: Value| with_claims(json!({"sub": sub, "exp": FAR_FUTURE}));
    let good_token = with_claims(claims.clone());
    let (signed_part, _) = good_token.rsplit_once('.').unwrap();
    let payload = signed_part.split_once('.').unwrap().1;
    // The header is {"alg":"none","typ":"JWT"}.
    let unsigned = format!("eyJhbGciOiJub25lIiwidHlwIjoiSldUIn0.{payload}.");
    vec![
        signed(&claims, "another secret", Algorithm::HS256),
        signed(&claims, SECRET, Algorithm::HS384),
        signed(&claims, SECRET, Algorithm::HS512),
        unsigned,
        format!("{signed_part}."),
        with_claims(json!({"exp": FAR_FUTURE})),
        with_claims(json!({"sub": "alice"})),
        with_claims(json!({"sub": "alice", "exp": "soon"})),
        with_claims(json!({"sub": "alice", "exp": FAR_FUTURE, "nbf": FAR_FUTURE})),
        with_sub(json!(7)),
        with_sub(json!("")),
        with_sub(json!("a b")),
        with_sub(json!("a\u{0}")),
        with_sub(json!("x".repeat(129))),
        system.auth.service_token().to_owned(),
        "nonsense".to_owned(),
        String::new(),
    ]
}

fn bad_headers(system: &System) -> Vec<BadHeader> {
    let good_token = system.token("alice");
    let expired_token = system.token_for("alice", Duration::ZERO);
    let mut headers = vec![
        BadHeader { value: None, code: "missing_token" },
        BadHeader::bearer(&expired_token, "expired_token"),
        BadHeader { value: Some("Basic YTpi".to_owned()), code: "invalid_token" },
        BadHeader { value: Some("Bearer".to_owned()), code: "invalid_token" },
        BadHeader { value: Some(good_token), code: "invalid_token" },
    ];
    headers.extend(invalid_tokens(system).iter().map(|token| BadHeader::bearer(token, "invalid_token")));
    headers
}

#[tokio::test(flavor = "multi_thread")]
async fn every_route_refuses_a_request_without_a_valid_token() {
    let system = System::start().await;
    let conversation = system.conversation("alice", &["bob"]).await;
    let message = system.message("alice", &conversation, "hi").await;
    let records_before = system.records().await;
    let body = json!({"conversationId": conversation, "content": "hi"});
    let message_path = format!("/api/messages/{message}");
    let routes = [
        ("POST", "/api/messages".to_owned()),
        ("PATCH", message_path.clone()),
        ("DELETE", message_path.clone()),
        ("GET", "/api/messages".to_owned()),
        ("GET", format!("/api/messages?conversationId={conversation}")),
        ("GET", message_path),
        ("GET", format!("/api/messages/{}", unknown_id())),
        ("GET", format!("/api/conversations/{conversation}")),
        ("GET", "/api/messages/sync?since=x".to_owned()),
    ];
    for (method, path) in &routes {
        for header in bad_headers(&system) {
            let mut request = system.request(method, path).json(&body);
            if let Some(value) = &header.value {
                request = request.header("Authorization", value);
            }

            let refused = request.send().await;

            refused.assert_problem(401, header.code);
            let challenge = refused.header("www-authenticate");
            assert!(challenge.starts_with("Bearer"), "{refused:?}");
            let names_the_token = challenge.contains("error=\"invalid_token\"");
            assert_eq!(names_the_token, header.value.is_some(), "{challenge}");
            assert_eq!(refused.body["errors"], json!([]), "the refusal reveals something else: {refused:?}");
        }
    }
    assert_eq!(system.records().await, records_before);
}

#[tokio::test(flavor = "multi_thread")]
async fn a_valid_token_authenticates_whichever_user_it_names() {
    let system = System::start().await;
    let longest = "é".repeat(128);
    for user in ["a", "user@example.com", "𝕏:/?#[]\"\\'<>%00", &longest] {
        // Some libraries write a fractional expiry and claims that this API ignores.
        let claims = json!({"sub": user, "exp": 4_102_444_800.5, "aud": "elsewhere", "iss": "them", "role": "admin"});
        let token = signed(&claims, SECRET, Algorithm::HS256);
        let body = json!({"action": "conversation", "participantIds": ["bob"]});

        let request = system.request("POST", "/api/messages").header("Authorization", format!("bearer {token}"));
        let created = request.json(&body).send().await;

        assert_eq!(created.status, 201, "{created:?}");
        assert_eq!(created.data()["participantIds"], json!([user, "bob"]));
        assert_eq!(system.record_at(&created).await.value["actorId"], user);
    }
}
