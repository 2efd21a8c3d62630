//! Who is calling.

use std::sync::Arc;

use ::http::header;
use ::http::request::Parts;
use axum::extract::{FromRef, FromRequestParts};
use domain::{Timestamp, UserId};
use hmac::{Hmac, Mac};
use jsonwebtoken::errors::ErrorKind;
use jsonwebtoken::{Algorithm, DecodingKey, EncodingKey, Header, Validation};
use serde::{Deserialize, Serialize};
use sha2::Sha256;

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

#[derive(Serialize, Deserialize)]
struct JwtClaims {
    sub: String,
    exp: i64,
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
        let expires_at = claims.claims.exp.checked_mul(1_000).and_then(|millis| Timestamp::from_millis(millis).ok());
        let expires_at = expires_at.or_else(|| Timestamp::from_millis(253_402_300_799_000).ok());
        Ok(Claims { user, expires_at: expires_at.ok_or(AuthError::Invalid)? })
    }

    /// Signs a token for a user: for development, tests and the command line.
    ///
    /// # Errors
    /// When it can't be signed.
    pub fn mint(&self, user: &UserId, expires_at: Timestamp) -> Result<String, jsonwebtoken::errors::Error> {
        let claims = JwtClaims { sub: user.to_string(), exp: expires_at.as_millis().div_euclid(1_000) };
        jsonwebtoken::encode(&Header::new(Algorithm::HS256), &claims, &self.0.encoding)
    }

    /// What services show one another. It is no JWT, so that none can be taken for the other.
    pub fn service_token(&self) -> &str {
        &self.0.service_token
    }
}

/// HMAC-SHA256 over the parts, one after the other.
pub(crate) fn keyed_hash(key: &[u8], parts: &[&[u8]]) -> [u8; 32] {
    // HMAC takes keys of any length; a type of error is only there because others don't.
    let Ok(mut mac) = Hmac::<Sha256>::new_from_slice(key) else { return [0; 32] };
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
    fn a_token_that_ran_out_a_second_ago_is_refused() {
        let token =
            signed(&serde_json::json!({"sub": "alice", "exp": now() - 1}), "a secret for tests", Algorithm::HS256);
        assert_eq!(auth().authenticate(&token), Err(AuthError::Expired));
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
}
