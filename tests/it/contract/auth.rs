//! Authentication: which tokens the API accepts, and how it refuses the others.

use std::time::{Duration, SystemTime, UNIX_EPOCH};

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

/// Signs a token whose header has `crit` with this value.
fn with_critical_extensions(crit: Value) -> String {
    let mut header = Header::new(Algorithm::HS256);
    header.extras.insert("crit", crit);
    let claims = json!({"sub": "alice", "exp": FAR_FUTURE});
    jsonwebtoken::encode(&header, &claims, &EncodingKey::from_secret(SECRET.as_bytes())).unwrap()
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
        with_claims(json!({"sub": "alice", "exp": FAR_FUTURE, "iat": FAR_FUTURE})),
        with_critical_extensions(json!(["exp"])),
        with_critical_extensions(json!([])),
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

#[tokio::test(flavor = "multi_thread")]
async fn a_refusal_says_what_is_wrong_with_the_token() {
    let system = System::start().await;
    let with_claims = |claims: Value| format!("Bearer {}", signed(&claims, SECRET, Algorithm::HS256));
    let good = json!({"sub": "alice", "exp": FAR_FUTURE});
    let with = |name: &str, value: Value| {
        let mut claims = good.clone();
        claims[name] = value;
        with_claims(claims)
    };
    let anyones = signed(&json!({"sub": 7}), "another secret", Algorithm::HS256);
    for (header, said) in [
        (with_claims(json!({"exp": FAR_FUTURE})), "has no sub"),
        (with("sub", json!(7)), "sub must be a string"),
        (with("sub", json!("a b")), "sub must be 1 to 128 visible characters"),
        (with_claims(json!({"sub": "alice"})), "has no exp"),
        (with("exp", json!("soon")), "exp must be a number"),
        (with("nbf", json!("now")), "nbf must be a number"),
        (with("iat", json!([])), "iat must be a number"),
        (with("nbf", json!(FAR_FUTURE)), "nbf is in the future"),
        (with("iat", json!(FAR_FUTURE)), "iat is in the future"),
        (format!("Bearer {}", signed(&good, SECRET, Algorithm::HS512)), "must be HS256"),
        (format!("Bearer {}", with_critical_extensions(json!(["b64"]))), "crit"),
        // Of a token that somebody made up, the claims stay unread.
        (format!("Bearer {anyones}"), "signature"),
        ("Bearer a.b.c".to_owned(), "not a JWT"),
        ("Basic YTpi".to_owned(), "Authorization"),
    ] {
        let refused = system.request("GET", "/api/messages").header("Authorization", &header).send().await;
        refused.assert_problem(401, "invalid_token");
        assert!(refused.body["detail"].as_str().unwrap().contains(said), "{header}: {refused:?}");
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn the_clock_that_issues_tokens_may_be_seconds_ahead() {
    let system = System::start().await;
    for name in ["nbf", "iat"] {
        let now = SystemTime::now().duration_since(UNIX_EPOCH).unwrap().as_secs_f64();
        let mut claims = json!({"sub": "alice", "exp": now + 3_600.0});
        claims[name] = json!(now + 4.0);
        let token = signed(&claims, SECRET, Algorithm::HS256);
        assert_eq!(system.get_with(&token, "/api/messages").await.status, 200, "{claims}");
    }
}
