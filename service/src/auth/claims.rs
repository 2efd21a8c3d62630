//! What a user's token must say: its header before its signature is verified, its claims after that.

use base64::Engine;
use base64::engine::general_purpose::URL_SAFE_NO_PAD;
use domain::{Timestamp, UserId};
use serde_json::{Map, Value};

use super::error::{AuthError, InvalidToken};

/// How far ahead of ours the clock of whoever issues the tokens may be, in seconds.
const CLOCK_LEEWAY: f64 = 5.0;
/// 9999-12-31T23:59:59Z in milliseconds: the latest expiry that [`Timestamp`] can hold.
const LATEST_EXPIRY_MS: i64 = 253_402_300_799_000;

/// The verified content of a user's token.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Claims {
    /// The user who sends the token (`sub`).
    pub user: UserId,
    /// The token is valid before this moment (`exp`).
    pub expires_at: Timestamp,
    /// Whether the user may see and do what admins may: whether `roles` includes `admin`.
    pub is_admin: bool,
}

/// The role of admins, in the claim `roles`.
pub(super) const ADMIN_ROLE: &str = "admin";

/// Checks the header of a token. Its `alg` must be HS256, whatever the library supports, and it must demand nothing that
/// we don't know.
pub(super) fn check_header(token: &str) -> Result<(), InvalidToken> {
    let (header, _) = token.split_once('.').ok_or(InvalidToken::NotAJwt)?;
    let json = URL_SAFE_NO_PAD.decode(header).map_err(|_| InvalidToken::NotAJwt)?;
    let header: Map<String, Value> = serde_json::from_slice(&json).map_err(|_| InvalidToken::NotAJwt)?;
    if header.get("alg").is_none_or(|algorithm| algorithm != "HS256") {
        return Err(InvalidToken::Algorithm);
    }
    // Whatever it names: we understand no extension, and an empty or malformed list is invalid, too.
    if header.contains_key("crit") { Err(InvalidToken::CriticalExtension) } else { Ok(()) }
}

/// Checks the claims of a token whose signature is right. `now` is in seconds since 1970.
///
/// An expired token that is also invalid is reported as invalid: a new one like it wouldn't be accepted either.
pub(super) fn check_claims(claims: &Map<String, Value>, now: f64) -> Result<Claims, AuthError> {
    let user = match claims.get("sub") {
        None => Err(InvalidToken::SubjectMissing),
        Some(Value::String(subject)) => subject.parse::<UserId>().map_err(|_| InvalidToken::SubjectNotAUserId),
        Some(_) => Err(InvalidToken::SubjectNotAString),
    }?;
    let expiry = time(claims, "exp")?.ok_or(InvalidToken::ExpiryMissing)?;
    for name in ["nbf", "iat"] {
        if time(claims, name)?.is_some_and(|time| time > now + CLOCK_LEEWAY) {
            return Err(InvalidToken::InTheFuture(name).into());
        }
    }
    if expiry <= now {
        return Err(AuthError::Expired);
    }
    let expires_at = Timestamp::from_millis((expiry * 1_000.0) as i64).ok();
    let expires_at = expires_at.or_else(|| Timestamp::from_millis(LATEST_EXPIRY_MS).ok());
    // Issuers give `roles` other meanings and other forms, too: whatever isn't a list with our word grants nothing.
    let is_admin =
        claims.get("roles").and_then(Value::as_array).is_some_and(|roles| roles.iter().any(|it| it == ADMIN_ROLE));
    Ok(Claims { user, expires_at: expires_at.ok_or(InvalidToken::NotATime("exp"))?, is_admin })
}

/// The claim of this name in seconds since 1970. RFC 7519 allows a fraction, and some libraries write one.
fn time(claims: &Map<String, Value>, name: &'static str) -> Result<Option<f64>, InvalidToken> {
    claims.get(name).map(|time| time.as_f64().ok_or(InvalidToken::NotATime(name))).transpose()
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;

    const NOW: f64 = 1_000_000.25;

    fn check(claims: &Value) -> Result<Claims, AuthError> {
        check_claims(claims.as_object().unwrap(), NOW)
    }

    fn header(header: &str) -> Result<(), InvalidToken> {
        check_header(&format!("{}.claims.signature", URL_SAFE_NO_PAD.encode(header)))
    }

    #[test]
    fn only_a_header_with_hs256_and_without_crit_is_understood() {
        for valid in
            [json!({"alg": "HS256"}), json!({"alg": "HS256", "typ": "JWT", "kid": "1", "critical": true, "cty": "x"})]
        {
            assert_eq!(header(&valid.to_string()), Ok(()), "{valid}");
        }
        for algorithm in [json!("none"), json!("HS512"), json!("RS256"), json!("hs256"), json!(["HS256"]), json!(null)]
        {
            let invalid = json!({"alg": algorithm, "crit": ["exp"]});
            assert_eq!(header(&invalid.to_string()), Err(InvalidToken::Algorithm), "{invalid}");
        }
        assert_eq!(header("{}"), Err(InvalidToken::Algorithm));
        for crit in [json!(["b64"]), json!(["exp"]), json!([]), json!([7]), json!("exp"), json!({}), json!(null)] {
            let invalid = json!({"alg": "HS256", "b64": false, "crit": crit});
            assert_eq!(header(&invalid.to_string()), Err(InvalidToken::CriticalExtension), "{invalid}");
        }
        let escaped = r#"{"alg":"HS256","cri\u0074":["exp"]}"#;
        assert_eq!(header(escaped), Err(InvalidToken::CriticalExtension));
        for invalid in ["", "[]", "HS256", "{\"alg\":\"HS256\""] {
            assert_eq!(header(invalid), Err(InvalidToken::NotAJwt), "{invalid}");
        }
        for token in ["", "nonsense", "a b.c.d", "e30=.e30.x"] {
            assert_eq!(check_header(token), Err(InvalidToken::NotAJwt), "{token}");
        }
    }

    #[test]
    fn a_claim_that_is_wrong_is_named() {
        let valid = json!({"sub": "alice", "exp": NOW + 60.0, "nbf": NOW, "iat": NOW});
        assert_eq!(check(&valid).unwrap().user.as_str(), "alice");
        let too_long = "x".repeat(129);
        for (name, value, error) in [
            ("sub", json!(7), InvalidToken::SubjectNotAString),
            ("sub", json!(null), InvalidToken::SubjectNotAString),
            ("sub", json!(["alice"]), InvalidToken::SubjectNotAString),
            ("sub", json!(""), InvalidToken::SubjectNotAUserId),
            ("sub", json!("a b"), InvalidToken::SubjectNotAUserId),
            ("sub", json!("a\u{200b}"), InvalidToken::SubjectNotAUserId),
            ("sub", json!(too_long), InvalidToken::SubjectNotAUserId),
            ("exp", json!("soon"), InvalidToken::NotATime("exp")),
            ("exp", json!((NOW + 60.0).to_string()), InvalidToken::NotATime("exp")),
            ("exp", json!(null), InvalidToken::NotATime("exp")),
            ("nbf", json!("0"), InvalidToken::NotATime("nbf")),
            ("nbf", json!(true), InvalidToken::NotATime("nbf")),
            ("iat", json!({}), InvalidToken::NotATime("iat")),
            ("nbf", json!(NOW + 6.0), InvalidToken::InTheFuture("nbf")),
            ("iat", json!(NOW + 5.5), InvalidToken::InTheFuture("iat")),
            ("iat", json!(1e300), InvalidToken::InTheFuture("iat")),
        ] {
            let mut claims = valid.clone();
            claims[name] = value;
            assert_eq!(check(&claims), Err(error.into()), "{claims}");
            assert!(error.to_string().contains(name), "{error}");
            claims["exp"] = claims["exp"].as_f64().map_or(claims["exp"].clone(), |_| json!(0));
            assert_eq!(check(&claims), Err(error.into()), "an expired token that is invalid, too: {claims}");
        }
        assert_eq!(check(&json!({"exp": NOW + 60.0})), Err(InvalidToken::SubjectMissing.into()));
        assert_eq!(check(&json!({"sub": "alice"})), Err(InvalidToken::ExpiryMissing.into()));
    }

    #[test]
    fn only_a_list_with_the_word_admin_makes_an_admin() {
        let is_admin =
            |roles: Value| check(&json!({"sub": "alice", "exp": NOW + 60.0, "roles": roles})).unwrap().is_admin;
        assert!(is_admin(json!(["admin"])) && is_admin(json!(["support", "admin", 7])));
        for roles in
            [json!(null), json!([]), json!("admin"), json!(["Admin"]), json!({"admin": true}), json!([["admin"]])]
        {
            assert!(!is_admin(roles.clone()), "{roles}");
        }
        assert!(!check(&json!({"sub": "alice", "exp": NOW + 60.0, "role": "admin"})).unwrap().is_admin);
    }

    #[test]
    fn a_clock_may_be_five_seconds_ahead() {
        for ahead in [-1e12, -1.0, 0.0, 1.0, 4.5, 5.0] {
            let claims = json!({"sub": "alice", "exp": NOW + 60.0, "nbf": NOW + ahead, "iat": NOW + ahead});
            assert!(check(&claims).is_ok(), "{claims}");
        }
    }

    #[test]
    fn a_token_expires_exactly_at_its_expiry() {
        for (exp, is_valid) in [
            (json!(1_000_000), false),
            (json!(NOW), false),
            (json!(NOW + 0.125), true),
            (json!(1_000_001), true),
            (json!(-1), false),
            (json!(1e300), true),
        ] {
            let checked = check(&json!({"sub": "alice", "exp": exp}));
            assert_eq!(checked.is_ok(), is_valid, "{exp}");
            assert!(is_valid || checked == Err(AuthError::Expired), "{exp}");
        }
        let claims = check(&json!({"sub": "alice", "exp": 1_000_060.5})).unwrap();
        assert_eq!(claims.expires_at.as_millis(), 1_000_060_500);
    }
}
