//! Who is calling.

use std::sync::Arc;

use ::http::header;
use ::http::request::Parts;
use axum::extract::{FromRef, FromRequestParts};
use domain::{Timestamp, UserId};
use hmac::{Hmac, Mac};
use jsonwebtoken::errors::ErrorKind;
use jsonwebtoken::{Algorithm, DecodingKey, EncodingKey, Header, Validation};
use serde::Deserialize;
use serde_json::json;
use sha2::{Digest, Sha256};

use crate::problem::Problem;

/// Why a token is no good.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
pub enum AuthError {
    /// There is none.
    #[error("a token is needed: Authorization: Bearer <JWT>")]
    Missing,
    /// Its time is over.
    #[error("the token has expired; get a new one")]
    Expired,
    /// It isn't a JWT that was signed here, or its `sub` is no user id.
    #[error("the token is not valid here")]
    Invalid,
}

impl AuthError {
    /// The stable code.
    pub fn code(self) -> &'static str {
        match self {
            Self::Missing => "missing_token",
            Self::Expired => "expired_token",
            Self::Invalid => "invalid_token",
        }
    }
}

impl From<AuthError> for Problem {
    fn from(error: AuthError) -> Self {
        Self::unauthorized(error.code(), &error.to_string())
    }
}

/// What a good token says.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Claims {
    /// Who calls.
    pub user: UserId,
    /// Until when the token is good.
    pub expires_at: Timestamp,
}

#[derive(Deserialize)]
struct JwtClaims {
    sub: String,
    /// Seconds since 1970. RFC 7519 lets it have a fraction, and some libraries write one.
    exp: f64,
}

/// Checks and signs tokens with one secret. Clones share it.
#[derive(Clone)]
pub struct Auth(Arc<Keys>);

struct Keys {
    decoding: DecodingKey,
    encoding: EncodingKey,
    validation: Validation,
    service_token: String,
}

impl Auth {
    /// From the secret: its UTF-8 bytes are the key (HS256).
    pub fn new(secret: &str) -> Self {
        let mut validation = Validation::new(Algorithm::HS256);
        validation.set_required_spec_claims(&["exp", "sub"]);
        validation.leeway = 0;
        // From the second of the expiry on it is no good (RFC 7519); by itself the library lets that second pass.
        validation.reject_tokens_expiring_in_less_than = 1;
        validation.validate_nbf = true;
        // Tokens are made elsewhere and may be for more than this.
        validation.validate_aud = false;
        Self(Arc::new(Keys {
            decoding: DecodingKey::from_secret(secret.as_bytes()),
            encoding: EncodingKey::from_secret(secret.as_bytes()),
            validation,
            service_token: hex(&keyed_hash(secret.as_bytes(), &[b"messages/service-token/v1"])),
        }))
    }

    /// Checks a token.
    ///
    /// # Errors
    /// When it is no good.
    pub fn authenticate(&self, token: &str) -> Result<Claims, AuthError> {
        let decoded = jsonwebtoken::decode::<JwtClaims>(token, &self.0.decoding, &self.0.validation);
        let claims = decoded.map_err(|error| match error.kind() {
            ErrorKind::ExpiredSignature => AuthError::Expired,
            _ => AuthError::Invalid,
        })?;
        let user = claims.claims.sub.parse().map_err(|_| AuthError::Invalid)?;
        // Further off than the year 9999 is as good as that.
        let expires_at = Timestamp::from_millis((claims.claims.exp * 1_000.0) as i64).ok();
        let expires_at = expires_at.or_else(|| Timestamp::from_millis(253_402_300_799_000).ok());
        Ok(Claims { user, expires_at: expires_at.ok_or(AuthError::Invalid)? })
    }

    /// Signs a token for a user: for development, tests and the command line.
    ///
    /// # Errors
    /// When it can't be signed.
    pub fn mint(&self, user: &UserId, expires_at: Timestamp) -> Result<String, jsonwebtoken::errors::Error> {
        let claims = json!({"sub": user.as_str(), "exp": expires_at.as_millis().div_euclid(1_000)});
        jsonwebtoken::encode(&Header::new(Algorithm::HS256), &claims, &self.0.encoding)
    }

    /// What services show one another. It is no JWT, so that none can be taken for the other.
    pub fn service_token(&self) -> &str {
        &self.0.service_token
    }
}

/// HMAC-SHA256 over the parts, one after the other.
pub(crate) fn keyed_hash(key: &[u8], parts: &[&[u8]]) -> [u8; 32] {
    // A key of one block, as HMAC itself makes it of any other: this way there is no error to answer with a hash
    // that anyone could guess.
    let mut block = [0; 64];
    if key.len() <= block.len() {
        block[..key.len()].copy_from_slice(key);
    } else {
        block[..32].copy_from_slice(&Sha256::digest(key));
    }
    let mut mac = Hmac::<Sha256>::new(&block.into());
    for part in parts {
        mac.update(part);
    }
    mac.finalize().into_bytes().into()
}

/// Compares without telling by its time how much is equal.
pub(crate) fn equal(one: &[u8], other: &[u8]) -> bool {
    one.len() == other.len() && one.iter().zip(other).fold(0, |differ, (a, b)| differ | (a ^ b)) == 0
}

fn hex(bytes: &[u8]) -> String {
    bytes.iter().map(|byte| format!("{byte:02x}")).collect()
}

fn bearer(parts: &Parts) -> Result<&str, AuthError> {
    let mut values = parts.headers.get_all(header::AUTHORIZATION).iter();
    let value = values.next().ok_or(AuthError::Missing)?.to_str().map_err(|_| AuthError::Invalid)?;
    let (scheme, token) = value.split_once(' ').ok_or(AuthError::Invalid)?;
    let only = values.next().is_none();
    if only && scheme.eq_ignore_ascii_case("bearer") { Ok(token.trim()) } else { Err(AuthError::Invalid) }
}

/// The user who calls. A handler that takes it can't be reached without a good token.
pub struct Caller(pub UserId);

impl<S> FromRequestParts<S> for Caller
where
    Auth: FromRef<S>,
    S: Send + Sync,
{
    type Rejection = Problem;

    async fn from_request_parts(parts: &mut Parts, state: &S) -> Result<Self, Problem> {
        let claims = Auth::from_ref(state).authenticate(bearer(parts)?)?;
        Ok(Self(claims.user))
    }
}

/// Another of our own services calls.
pub struct ServiceCaller;

impl<S> FromRequestParts<S> for ServiceCaller
where
    Auth: FromRef<S>,
    S: Send + Sync,
{
    type Rejection = Problem;

    async fn from_request_parts(parts: &mut Parts, state: &S) -> Result<Self, Problem> {
        let auth = Auth::from_ref(state);
        if equal(bearer(parts)?.as_bytes(), auth.service_token().as_bytes()) {
            Ok(Self)
        } else {
            Err(AuthError::Invalid.into())
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn auth() -> Auth {
        Auth::new("a secret for tests")
    }

    fn now() -> i64 {
        time::OffsetDateTime::now_utc().unix_timestamp()
    }

    fn signed(claims: &serde_json::Value, secret: &str, algorithm: Algorithm) -> String {
        jsonwebtoken::encode(&Header::new(algorithm), claims, &EncodingKey::from_secret(secret.as_bytes())).unwrap()
    }

    #[test]
    fn a_good_token_names_its_user() {
        let token =
            signed(&serde_json::json!({"sub": "alice", "exp": now() + 60}), "a secret for tests", Algorithm::HS256);
        assert_eq!(auth().authenticate(&token).unwrap().user.as_str(), "alice");
    }

    #[test]
    fn a_token_is_refused_from_the_second_of_its_expiry_on() {
        for exp in [now() - 1, now()] {
            let token =
                signed(&serde_json::json!({"sub": "alice", "exp": exp}), "a secret for tests", Algorithm::HS256);
            assert_eq!(auth().authenticate(&token), Err(AuthError::Expired));
        }
    }

    #[test]
    fn other_secrets_algorithms_and_subjects_are_refused() {
        let good = serde_json::json!({"sub": "alice", "exp": now() + 60});
        let unsigned = "eyJhbGciOiJub25lIn0.eyJzdWIiOiJhbGljZSIsImV4cCI6OTk5OTk5OTk5OX0.";
        for token in [
            signed(&good, "another secret", Algorithm::HS256),
            signed(&good, "a secret for tests", Algorithm::HS512),
            signed(&serde_json::json!({"sub": "alice"}), "a secret for tests", Algorithm::HS256),
            signed(&serde_json::json!({"exp": now() + 60}), "a secret for tests", Algorithm::HS256),
            signed(&serde_json::json!({"sub": "a b", "exp": now() + 60}), "a secret for tests", Algorithm::HS256),
            unsigned.to_owned(),
            auth().service_token().to_owned(),
            String::new(),
        ] {
            assert_eq!(auth().authenticate(&token), Err(AuthError::Invalid), "{token}");
        }
    }

    #[test]
    fn a_token_is_no_good_before_its_time() {
        let claims = serde_json::json!({"sub": "alice", "exp": now() + 60, "nbf": now() + 30});
        let token = signed(&claims, "a secret for tests", Algorithm::HS256);
        assert_eq!(auth().authenticate(&token), Err(AuthError::Invalid));
    }

    #[test]
    fn an_expiry_may_have_a_fraction() {
        let claims = serde_json::json!({"sub": "alice", "exp": now() as f64 + 60.5});
        let token = signed(&claims, "a secret for tests", Algorithm::HS256);
        assert!(auth().authenticate(&token).is_ok());
    }

    #[test]
    fn a_minted_token_is_good_until_it_expires() {
        let expires_at = Timestamp::from_millis((now() + 60) * 1_000).unwrap();
        let user: UserId = "alice".parse().unwrap();
        let token = auth().mint(&user, expires_at).unwrap();
        assert_eq!(auth().authenticate(&token), Ok(Claims { user, expires_at }));
    }

    #[test]
    fn a_keyed_hash_is_hmac_whatever_the_keys_length() {
        for length in [0, 1, 63, 64, 65, 200] {
            let key = vec![7; length];
            let mut mac = <Hmac<Sha256> as Mac>::new_from_slice(&key).unwrap();
            mac.update(b"one");
            mac.update(b"two");
            let expected: [u8; 32] = mac.finalize().into_bytes().into();
            assert_eq!(keyed_hash(&key, &[b"one", b"two"]), expected, "{length}");
        }
    }

    async fn answer(path: &str, authorization: Option<&str>) -> axum::response::Response {
        use axum::routing::post;
        use tower::ServiceExt;

        let routes = axum::Router::new()
            .route("/user", post(|Caller(user): Caller, _: crate::http::JsonBody| async move { user.to_string() }))
            .route("/service", post(|_: ServiceCaller| async {}))
            .with_state(auth());
        let mut request = ::http::Request::post(path);
        if let Some(value) = authorization {
            request = request.header(header::AUTHORIZATION, value);
        }
        let body = axum::body::Body::from("not JSON");
        crate::http::with_middleware(routes, &Default::default(), &[])
            .oneshot(request.body(body).unwrap())
            .await
            .unwrap()
    }

    #[tokio::test]
    async fn without_a_good_token_nothing_else_about_a_request_is_told() {
        for (authorization, challenge) in [
            (None, "Bearer"),
            (Some("Bearer nonsense"), "Bearer error=\"invalid_token\", error_description=\"invalid_token\""),
            (Some("Basic YTpi"), "Bearer error=\"invalid_token\", error_description=\"invalid_token\""),
        ] {
            let response = answer("/user", authorization).await;
            assert_eq!(response.status(), 401);
            assert_eq!(response.headers()[header::WWW_AUTHENTICATE], challenge);
        }
    }

    #[tokio::test]
    async fn a_users_token_opens_no_internal_route() {
        let expires_at = Timestamp::from_millis((now() + 60) * 1_000).unwrap();
        let token = auth().mint(&"alice".parse().unwrap(), expires_at).unwrap();
        assert_eq!(answer("/service", Some(&format!("Bearer {token}"))).await.status(), 401);
        let own = format!("bearer {}", auth().service_token());
        assert_eq!(answer("/service", Some(&own)).await.status(), 200);
    }
}
