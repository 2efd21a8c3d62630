//! Authentication: which user, or which of our own services, sends a request.
//!
//! A user sends a JWT (HS256) that somebody signed with the shared secret. A service sends the service token, which it
//! derives from the same secret. Neither kind of token may ever be accepted in place of the other.

use std::sync::Arc;
use std::time::{Duration, SystemTime, UNIX_EPOCH};

use ::http::header;
use ::http::request::Parts;
use axum::extract::{FromRef, FromRequestParts};
use domain::{Timestamp, UserId};
use jsonwebtoken::errors::ErrorKind;
use jsonwebtoken::{Algorithm, DecodingKey, EncodingKey, Header, Validation};
use quick_cache::Weighter;
use ring::hmac;
use serde::Deserialize;
use serde_json::json;
use subtle::ConstantTimeEq;

use crate::jwt_crypto;
use crate::problem::Problem;

/// How many bytes of verified tokens a process remembers.
const REMEMBERED_BYTES: u64 = 8 << 20;
/// The longest token that a process remembers. It verifies a longer one whenever it comes.
const MAX_REMEMBERED_TOKEN: usize = 512;
/// About how many bytes a remembered token costs besides its text and its user id.
const TOKEN_BYTES: usize = 128;
/// How many tokens of a usual length fit.
const EXPECTED_TOKENS: usize = 20_000;
/// How long before its expiry a process verifies a token whenever it comes.
const EXPIRES_SOON: Duration = Duration::from_secs(2);
/// 9999-12-31T23:59:59Z in milliseconds: the latest expiry that [`Timestamp`] can hold.
const LATEST_EXPIRY_MS: i64 = 253_402_300_799_000;

domain::limit_rows! {
    Memory, "verified access tokens", Bytes REMEMBERED_BYTES, "the process verifies the least used ones again", "memory";
    Memory, "an access token that the process remembers", Bytes MAX_REMEMBERED_TOKEN, "the process verifies it whenever it comes", "the other tokens";
}

/// Why a request or a socket isn't authenticated.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
pub enum AuthError {
    /// The client sent no token.
    #[error("a token is required: send the header Authorization: Bearer <JWT>")]
    Missing,
    /// The token's `exp` has passed.
    #[error("the token has expired; get a new one")]
    Expired,
    /// The token isn't a JWT signed with our secret, isn't valid yet, or its `sub` is no user id.
    #[error("the token is invalid")]
    Invalid,
}

impl AuthError {
    /// The stable code, for programs.
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

/// The verified content of a user's token.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Claims {
    /// The user who sends the token (`sub`).
    pub user: UserId,
    /// The token is valid before this moment (`exp`).
    pub expires_at: Timestamp,
}

#[derive(Deserialize)]
struct JwtClaims {
    sub: String,
    /// Seconds since 1970. RFC 7519 allows a fraction, and some libraries write one.
    exp: f64,
}

/// Verifies and signs tokens with one secret. Clones share the keys.
#[derive(Clone)]
pub struct Auth(Arc<Keys>);

struct Keys {
    decoding: DecodingKey,
    encoding: EncodingKey,
    validation: Validation,
    service_token: String,
    /// The tokens that were verified lately. A token stays valid until it expires, so verifying it once is enough.
    verified: quick_cache::sync::Cache<Box<str>, Claims, ByteWeigher>,
}

/// Weighs a verified token by its bytes.
#[derive(Clone)]
struct ByteWeigher;

impl Weighter<Box<str>, Claims> for ByteWeigher {
    fn weight(&self, token: &Box<str>, claims: &Claims) -> u64 {
        (token.len() + claims.user.as_str().len() + TOKEN_BYTES) as u64
    }
}

impl Auth {
    /// Derives all keys from the secret. Its UTF-8 bytes are the key of the JWTs.
    pub fn new(secret: &str) -> Self {
        jwt_crypto::install();
        let mut validation = Validation::new(Algorithm::HS256);
        validation.set_required_spec_claims(&["exp", "sub"]);
        validation.leeway = 0;
        // A token is invalid from the second of its expiry on (RFC 7519). By default the library accepts it then.
        validation.reject_tokens_expiring_in_less_than = 1;
        validation.validate_nbf = true;
        // Tokens come from elsewhere, and their `aud` may name other services as well.
        validation.validate_aud = false;
        let key = hmac::Key::new(hmac::HMAC_SHA256, secret.as_bytes());
        Self(Arc::new(Keys {
            decoding: DecodingKey::from_secret(secret.as_bytes()),
            encoding: EncodingKey::from_secret(secret.as_bytes()),
            validation,
            service_token: hex(hmac::sign(&key, b"messages/service-token/v1").as_ref()),
            verified: quick_cache::sync::Cache::with_weighter(EXPECTED_TOKENS, REMEMBERED_BYTES, ByteWeigher),
        }))
    }

    /// Verifies a user's token.
    ///
    /// # Errors
    /// When the token has expired or is invalid.
    pub fn authenticate(&self, token: &str) -> Result<Claims, AuthError> {
        if let Some(claims) = self.0.verified.get(token).filter(|claims| !expires_soon(claims)) {
            return Ok(claims);
        }
        let claims = self.verify(token)?;
        if token.len() <= MAX_REMEMBERED_TOKEN {
            let verified = &self.0.verified;
            verified.insert(token.into(), claims.clone());
            metrics::gauge!("local_cache_entries", "cache" => "tokens").set(verified.len() as f64);
            metrics::gauge!("local_cache_bytes", "cache" => "tokens").set(verified.weight() as f64);
        }
        Ok(claims)
    }

    fn verify(&self, token: &str) -> Result<Claims, AuthError> {
        let decoded = jsonwebtoken::decode::<JwtClaims>(token, &self.0.decoding, &self.0.validation);
        let claims = decoded.map_err(|error| match error.kind() {
            ErrorKind::ExpiredSignature => AuthError::Expired,
            _ => AuthError::Invalid,
        })?;
        let user = claims.claims.sub.parse().map_err(|_| AuthError::Invalid)?;
        let expires_at = Timestamp::from_millis((claims.claims.exp * 1_000.0) as i64).ok();
        let expires_at = expires_at.or_else(|| Timestamp::from_millis(LATEST_EXPIRY_MS).ok());
        Ok(Claims { user, expires_at: expires_at.ok_or(AuthError::Invalid)? })
    }

    /// Signs a token for a user: for development, tests and the command line.
    ///
    /// # Errors
    /// When the library can't sign it.
    pub fn mint(&self, user: &UserId, expires_at: Timestamp) -> Result<String, jsonwebtoken::errors::Error> {
        let claims = json!({"sub": user.as_str(), "exp": expires_at.as_millis().div_euclid(1_000)});
        jsonwebtoken::encode(&Header::new(Algorithm::HS256), &claims, &self.0.encoding)
    }

    /// The token with which our services authenticate to one another. It isn't a JWT, so it can't pass for a user's.
    pub fn service_token(&self) -> &str {
        &self.0.service_token
    }
}

/// Whether a token expires within [`EXPIRES_SOON`], or has expired.
fn expires_soon(claims: &Claims) -> bool {
    let soon = SystemTime::now().duration_since(UNIX_EPOCH).unwrap_or_default() + EXPIRES_SOON;
    i64::try_from(soon.as_millis()).map_or(true, |soon| claims.expires_at.as_millis() <= soon)
}

fn hex(bytes: &[u8]) -> String {
    bytes.iter().map(|byte| format!("{byte:02x}")).collect()
}

/// The token of the only `Authorization` header, whose scheme must be `Bearer` in any case.
fn bearer_token(parts: &Parts) -> Result<&str, AuthError> {
    let mut values = parts.headers.get_all(header::AUTHORIZATION).iter();
    let value = values.next().ok_or(AuthError::Missing)?.to_str().map_err(|_| AuthError::Invalid)?;
    let (scheme, token) = value.split_once(' ').ok_or(AuthError::Invalid)?;
    let is_only = values.next().is_none();
    if is_only && scheme.eq_ignore_ascii_case("bearer") { Ok(token.trim()) } else { Err(AuthError::Invalid) }
}

/// The authenticated user. A handler with this argument only runs for requests with a valid token.
pub struct Caller(pub UserId);

impl<S> FromRequestParts<S> for Caller
where
    Auth: FromRef<S>,
    S: Send + Sync,
{
    type Rejection = Problem;

    async fn from_request_parts(parts: &mut Parts, state: &S) -> Result<Self, Problem> {
        let claims = Auth::from_ref(state).authenticate(bearer_token(parts)?)?;
        Ok(Self(claims.user))
    }
}

/// One of our own services. A handler with this argument only runs for requests with the service token.
pub struct ServiceCaller;

impl<S> FromRequestParts<S> for ServiceCaller
where
    Auth: FromRef<S>,
    S: Send + Sync,
{
    type Rejection = Problem;

    async fn from_request_parts(parts: &mut Parts, state: &S) -> Result<Self, Problem> {
        let auth = Auth::from_ref(state);
        let token = bearer_token(parts)?.as_bytes();
        // In constant time: otherwise the duration would reveal how many bytes are right.
        let is_ours = bool::from(token.ct_eq(auth.service_token().as_bytes()));
        if is_ours { Ok(Self) } else { Err(AuthError::Invalid.into()) }
    }
}

#[cfg(test)]
mod tests {
    use axum::Router;
    use axum::body::Body;
    use axum::routing::post;
    use tower::ServiceExt;

    use super::*;
    use crate::json_body::JsonBody;

    const SECRET: &str = "a secret for tests";

    fn auth() -> Auth {
        Auth::new(SECRET)
    }

    fn now() -> i64 {
        time::OffsetDateTime::now_utc().unix_timestamp()
    }

    fn signed(claims: &serde_json::Value, secret: &str, algorithm: Algorithm) -> String {
        jwt_crypto::install();
        jsonwebtoken::encode(&Header::new(algorithm), claims, &EncodingKey::from_secret(secret.as_bytes())).unwrap()
    }

    #[test]
    fn a_valid_token_names_its_user() {
        let token = signed(&json!({"sub": "alice", "exp": now() + 60}), SECRET, Algorithm::HS256);
        assert_eq!(auth().authenticate(&token).unwrap().user.as_str(), "alice");
    }

    #[test]
    fn a_token_expires_in_the_second_of_its_expiry() {
        for exp in [now() - 1, now()] {
            let token = signed(&json!({"sub": "alice", "exp": exp}), SECRET, Algorithm::HS256);
            assert_eq!(auth().authenticate(&token), Err(AuthError::Expired));
        }
    }

    #[test]
    fn other_secrets_algorithms_and_subjects_are_refused() {
        let valid = json!({"sub": "alice", "exp": now() + 60});
        let unsigned = "eyJhbGciOiJub25lIn0.eyJzdWIiOiJhbGljZSIsImV4cCI6OTk5OTk5OTk5OX0.";
        for token in [
            signed(&valid, "another secret", Algorithm::HS256),
            signed(&valid, SECRET, Algorithm::HS512),
            signed(&json!({"sub": "alice"}), SECRET, Algorithm::HS256),
            signed(&json!({"exp": now() + 60}), SECRET, Algorithm::HS256),
            signed(&json!({"sub": "a b", "exp": now() + 60}), SECRET, Algorithm::HS256),
            unsigned.to_owned(),
            auth().service_token().to_owned(),
            String::new(),
        ] {
            assert_eq!(auth().authenticate(&token), Err(AuthError::Invalid), "{token}");
        }
    }

    #[test]
    fn a_token_that_was_valid_expires() {
        let auth = auth();
        let token = signed(&json!({"sub": "alice", "exp": now() + 1}), SECRET, Algorithm::HS256);
        let mut last = auth.authenticate(&token);
        let deadline = now() + 3;
        while last.is_ok() && now() < deadline {
            last = auth.authenticate(&token);
        }
        assert_eq!(last, Err(AuthError::Expired));
    }

    #[test]
    fn a_token_that_differs_from_a_verified_one_is_refused() {
        let auth = auth();
        let token = signed(&json!({"sub": "alice", "exp": now() + 60}), SECRET, Algorithm::HS256);
        assert!(auth.authenticate(&token).is_ok());
        assert!(auth.authenticate(&token).is_ok());
        let (signed_part, _) = token.rsplit_once('.').unwrap();
        for forged in [format!("{token}x"), format!("{signed_part}."), signed_part.to_owned()] {
            assert_eq!(auth.authenticate(&forged), Err(AuthError::Invalid), "{forged}");
        }
    }

    #[test]
    fn verified_tokens_are_remembered_within_the_bytes() {
        let auth = auth();
        for id in 0..REMEMBERED_BYTES / 400 {
            let claims = json!({"sub": "alice", "exp": now() + 60, "jti": format!("{id:0>200}")});
            let token = signed(&claims, SECRET, Algorithm::HS256);
            assert!((400..=MAX_REMEMBERED_TOKEN).contains(&token.len()), "{}", token.len());
            auth.authenticate(&token).unwrap();
        }
        let verified = &auth.0.verified;
        let bytes: usize = verified.iter().map(|(token, _)| token.len()).sum();
        assert!(bytes as u64 <= REMEMBERED_BYTES, "{bytes} bytes");
        assert!(verified.weight() <= REMEMBERED_BYTES && verified.len() > 5_000, "{} tokens", verified.len());
    }

    #[test]
    fn a_token_is_invalid_before_its_nbf() {
        let claims = json!({"sub": "alice", "exp": now() + 60, "nbf": now() + 30});
        let token = signed(&claims, SECRET, Algorithm::HS256);
        assert_eq!(auth().authenticate(&token), Err(AuthError::Invalid));
    }

    #[test]
    fn an_expiry_may_have_a_fraction() {
        let claims = json!({"sub": "alice", "exp": now() as f64 + 60.5});
        let token = signed(&claims, SECRET, Algorithm::HS256);
        assert!(auth().authenticate(&token).is_ok());
    }

    #[test]
    fn a_minted_token_is_valid_until_it_expires() {
        let expires_at = Timestamp::from_millis((now() + 60) * 1_000).unwrap();
        let user: UserId = "alice".parse().unwrap();
        let token = auth().mint(&user, expires_at).unwrap();
        assert_eq!(auth().authenticate(&token), Ok(Claims { user, expires_at }));
    }

    #[test]
    fn processes_with_the_same_secret_have_the_same_service_token() {
        let expected = "0a9aa85fa803cda8aab5127008f95eab35b504b0684870546cd7f84fe27db372";
        assert_eq!(auth().service_token(), expected);
    }

    async fn send(path: &str, authorization: &[&str]) -> axum::response::Response {
        let routes = Router::new()
            .route("/user", post(|_: Caller, _: JsonBody| async {}))
            .route("/service", post(|_: ServiceCaller| async {}))
            .with_state(auth());
        let mut request = ::http::Request::post(path);
        for value in authorization {
            request = request.header(header::AUTHORIZATION, *value);
        }
        routes.oneshot(request.body(Body::from("not JSON")).unwrap()).await.unwrap()
    }

    fn token() -> String {
        let expires_at = Timestamp::from_millis((now() + 60) * 1_000).unwrap();
        format!("bEARER {}", auth().mint(&"alice".parse().unwrap(), expires_at).unwrap())
    }

    #[tokio::test]
    async fn a_request_without_a_valid_token_gets_401_whatever_else_is_wrong() {
        let token = token();
        assert_eq!(send("/user", &[&token]).await.status(), 415);
        let no_details = "Bearer";
        let invalid_token = "Bearer error=\"invalid_token\", error_description=\"invalid_token\"";
        for (authorization, code, challenge) in [
            (&[][..], "missing_token", no_details),
            (&["Bearer nonsense"], "invalid_token", invalid_token),
            (&["Basic YTpi"], "invalid_token", invalid_token),
            (&[token.as_str(), token.as_str()], "invalid_token", invalid_token),
        ] {
            let response = send("/user", authorization).await;
            let problem = response.extensions().get::<Problem>().unwrap();
            assert_eq!((response.status().as_u16(), problem.code()), (401, code));
            assert_eq!(problem.render("id").headers()[header::WWW_AUTHENTICATE], challenge);
        }
    }

    #[tokio::test]
    async fn a_users_token_opens_no_internal_route() {
        assert_eq!(send("/service", &[&token()]).await.status(), 401);
        let own = format!("bearer {}", auth().service_token());
        assert_eq!(send("/service", &[&own]).await.status(), 200);
    }
}
