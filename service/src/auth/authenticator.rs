//! Verifies and signs tokens with one secret.

use std::sync::Arc;
use std::time::{Duration, SystemTime, UNIX_EPOCH};

use ::http::{HeaderMap, HeaderValue, Method};
use domain::{Timestamp, UserId};
use jsonwebtoken::errors::ErrorKind;
use jsonwebtoken::{Algorithm, DecodingKey, EncodingKey, Header, Validation};
use quick_cache::Weighter;
use ring::hmac;
use serde_json::{Map, Value, json};

use super::claims::{ADMIN_ROLE, Claims, check_claims, check_header};
use super::cookie::AuthCookie;
use super::error::{AuthError, InvalidToken};
use crate::jwt_crypto;

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

domain::limit_rows! {
    Memory, "verified access tokens", Bytes REMEMBERED_BYTES, "the process verifies the least used ones again", "memory";
    Memory, "an access token that the process remembers", Bytes MAX_REMEMBERED_TOKEN, "the process verifies it whenever it comes", "the other tokens";
}

/// Verifies and signs tokens with one secret. Clones share the keys.
#[derive(Clone)]
pub struct Auth {
    keys: Arc<Keys>,
    /// None: cookies are ignored.
    cookie: Option<Arc<AuthCookie>>,
}

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
        // The library verifies the signature and nothing else: `claims` checks what a token says.
        let mut validation = Validation::new(Algorithm::HS256);
        validation.required_spec_claims.clear();
        validation.validate_exp = false;
        validation.validate_aud = false;
        let key = hmac::Key::new(hmac::HMAC_SHA256, secret.as_bytes());
        let keys = Keys {
            decoding: DecodingKey::from_secret(secret.as_bytes()),
            encoding: EncodingKey::from_secret(secret.as_bytes()),
            validation,
            service_token: hex(hmac::sign(&key, b"messages/service-token/v1").as_ref()),
            verified: quick_cache::sync::Cache::with_weighter(EXPECTED_TOKENS, REMEMBERED_BYTES, ByteWeigher),
        };
        Self { keys: Arc::new(keys), cookie: None }
    }

    /// Also accepts users' tokens in the cookie of this name, from pages of our own site and of these origins.
    #[must_use]
    pub fn with_cookie(self, name: &str, origins: &[HeaderValue]) -> Self {
        Self { cookie: Some(Arc::new(AuthCookie::new(name, origins))), ..self }
    }

    /// Verifies the token in the cookie of a request whose `Authorization` header is missing.
    ///
    /// # Errors
    /// When there is no token, it has expired or is invalid, or when a page of another site may have sent a request that
    /// changes something.
    pub(super) fn authenticate_cookie(&self, method: &Method, headers: &HeaderMap) -> Result<Claims, AuthError> {
        let cookie = self.cookie.as_ref().ok_or(AuthError::Missing)?;
        let token = match *method {
            // They change nothing, and a page of another origin can't read the response.
            Method::GET | Method::HEAD | Method::OPTIONS => cookie.token(headers),
            _ => cookie.token_of_trusted_page(headers),
        };
        self.authenticate(token?)
    }

    /// Verifies the token in the cookie of the request that opened a socket. `headers` are those of that request.
    ///
    /// # Errors
    /// When there is no token, it has expired or is invalid, or when a page of another site may have opened the socket.
    pub fn authenticate_handshake(&self, headers: &HeaderMap) -> Result<Claims, AuthError> {
        let cookie = self.cookie.as_ref().ok_or(AuthError::Missing)?;
        self.authenticate(cookie.token_of_trusted_page(headers)?)
    }

    /// Verifies a user's token.
    ///
    /// # Errors
    /// When the token has expired or is invalid.
    pub fn authenticate(&self, token: &str) -> Result<Claims, AuthError> {
        if let Some(claims) = self.keys.verified.get(token).filter(|claims| !expires_soon(claims)) {
            return Ok(claims);
        }
        let claims = self.verify(token)?;
        if token.len() <= MAX_REMEMBERED_TOKEN {
            let verified = &self.keys.verified;
            verified.insert(token.into(), claims.clone());
            metrics::gauge!("local_cache_entries", "cache" => "tokens").set(verified.len() as f64);
            metrics::gauge!("local_cache_bytes", "cache" => "tokens").set(verified.weight() as f64);
        }
        Ok(claims)
    }

    fn verify(&self, token: &str) -> Result<Claims, AuthError> {
        check_header(token)?;
        let decoded = jsonwebtoken::decode::<Map<String, Value>>(token, &self.keys.decoding, &self.keys.validation);
        let decoded = decoded.map_err(|error| match error.kind() {
            ErrorKind::InvalidSignature => InvalidToken::Signature,
            _ => InvalidToken::NotAJwt,
        })?;
        check_claims(&decoded.claims, since_1970().as_secs_f64())
    }

    /// Signs a token for a user: for development, tests and the command line.
    ///
    /// # Errors
    /// When the library can't sign it.
    pub fn mint(&self, user: &UserId, expires_at: Timestamp) -> Result<String, jsonwebtoken::errors::Error> {
        self.sign(&claims_of(user, expires_at))
    }

    /// Signs a token for a user with the role of admins.
    ///
    /// # Errors
    /// When the library can't sign it.
    pub fn mint_admin(&self, user: &UserId, expires_at: Timestamp) -> Result<String, jsonwebtoken::errors::Error> {
        let mut claims = claims_of(user, expires_at);
        claims["roles"] = json!([ADMIN_ROLE]);
        self.sign(&claims)
    }

    fn sign(&self, claims: &Value) -> Result<String, jsonwebtoken::errors::Error> {
        jsonwebtoken::encode(&Header::new(Algorithm::HS256), claims, &self.keys.encoding)
    }

    /// The token with which our services authenticate to one another. It isn't a JWT, so it can't pass for a user's.
    pub fn service_token(&self) -> &str {
        &self.keys.service_token
    }
}

fn claims_of(user: &UserId, expires_at: Timestamp) -> Value {
    json!({"sub": user.as_str(), "exp": expires_at.as_millis().div_euclid(1_000)})
}

fn since_1970() -> Duration {
    SystemTime::now().duration_since(UNIX_EPOCH).unwrap_or_default()
}

/// Whether a token expires within [`EXPIRES_SOON`], or has expired.
fn expires_soon(claims: &Claims) -> bool {
    let soon = since_1970() + EXPIRES_SOON;
    i64::try_from(soon.as_millis()).map_or(true, |soon| claims.expires_at.as_millis() <= soon)
}

fn hex(bytes: &[u8]) -> String {
    bytes.iter().map(|byte| format!("{byte:02x}")).collect()
}

#[cfg(test)]
mod tests {
    use super::*;

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
    fn a_token_that_is_not_signed_with_the_secret_is_refused_before_its_claims_are_read() {
        let no_claims = json!({});
        let unsigned = "eyJhbGciOiJub25lIn0.eyJzdWIiOiJhbGljZSIsImV4cCI6OTk5OTk5OTk5OX0.";
        let malformed = format!("{}.e30.x", signed(&no_claims, SECRET, Algorithm::HS256).split_once('.').unwrap().0);
        for (token, error) in [
            (signed(&no_claims, "another secret", Algorithm::HS256), InvalidToken::Signature),
            (malformed, InvalidToken::NotAJwt),
            (signed(&no_claims, SECRET, Algorithm::HS512), InvalidToken::Algorithm),
            (unsigned.to_owned(), InvalidToken::Algorithm),
            (auth().service_token().to_owned(), InvalidToken::NotAJwt),
            (String::new(), InvalidToken::NotAJwt),
            (signed(&no_claims, SECRET, Algorithm::HS256), InvalidToken::SubjectMissing),
            (signed(&json!(["alice"]), SECRET, Algorithm::HS256), InvalidToken::NotAJwt),
        ] {
            assert_eq!(auth().authenticate(&token), Err(error.into()), "{token}");
        }
    }

    #[test]
    fn a_token_with_critical_extensions_is_refused() {
        for crit in [json!(["exp"]), json!([]), json!(null)] {
            let mut header = Header::new(Algorithm::HS256);
            header.extras.insert("crit", crit);
            let claims = json!({"sub": "alice", "exp": now() + 60});
            let key = EncodingKey::from_secret(SECRET.as_bytes());
            jwt_crypto::install();
            let token = jsonwebtoken::encode(&header, &claims, &key).unwrap();
            assert_eq!(auth().authenticate(&token), Err(InvalidToken::CriticalExtension.into()));
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
            assert!(matches!(auth.authenticate(&forged), Err(AuthError::Invalid(_))), "{forged}");
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
        let verified = &auth.keys.verified;
        let bytes: usize = verified.iter().map(|(token, _)| token.len()).sum();
        assert!(bytes as u64 <= REMEMBERED_BYTES, "{bytes} bytes");
        assert!(verified.weight() <= REMEMBERED_BYTES && verified.len() > 5_000, "{} tokens", verified.len());
    }

    #[test]
    fn a_token_whose_time_has_yet_to_come_is_not_remembered() {
        let auth = auth();
        for name in ["nbf", "iat"] {
            let mut claims = json!({"sub": "alice", "exp": now() + 60});
            claims[name] = json!(now() + 30);
            let token = signed(&claims, SECRET, Algorithm::HS256);
            assert_eq!(auth.authenticate(&token), Err(InvalidToken::InTheFuture(name).into()));
            assert!(auth.keys.verified.get(token.as_str()).is_none());
            claims[name] = json!(now() + 1);
            assert!(auth.authenticate(&signed(&claims, SECRET, Algorithm::HS256)).is_ok());
        }
    }

    #[test]
    fn a_minted_token_is_valid_until_it_expires() {
        let expires_at = Timestamp::from_millis((now() + 60) * 1_000).unwrap();
        let user: UserId = "alice".parse().unwrap();
        let token = auth().mint(&user, expires_at).unwrap();
        assert_eq!(auth().authenticate(&token), Ok(Claims { user, expires_at, is_admin: false }));
    }

    #[test]
    fn processes_with_the_same_secret_have_the_same_service_token() {
        let expected = "0a9aa85fa803cda8aab5127008f95eab35b504b0684870546cd7f84fe27db372";
        assert_eq!(auth().service_token(), expected);
    }
}
