//! Who sends a request, as an argument of its handler.

use ::http::header;
use ::http::request::Parts;
use axum::extract::{FromRef, FromRequestParts};
use domain::UserId;
use subtle::ConstantTimeEq;

use super::authenticator::Auth;
use super::claims::Claims;
use super::error::{AuthError, InvalidToken};
use crate::problem::Problem;

/// The token of the only `Authorization` header, whose scheme must be `Bearer` in any case.
fn bearer_token(parts: &Parts) -> Result<&str, AuthError> {
    let mut values = parts.headers.get_all(header::AUTHORIZATION).iter();
    let value = values.next().ok_or(AuthError::Missing)?;
    if values.next().is_some() {
        return Err(InvalidToken::RepeatedHeader.into());
    }
    match value.to_str().ok().and_then(|value| value.split_once(' ')) {
        Some((scheme, token)) if scheme.eq_ignore_ascii_case("bearer") => Ok(token.trim()),
        _ => Err(InvalidToken::MalformedHeader.into()),
    }
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
        Ok(Self(claims(parts, &Auth::from_ref(state))?.user))
    }
}

/// An authenticated user whose token has the role of admins. A handler with this argument only runs for them.
pub struct AdminCaller(pub UserId);

impl<S> FromRequestParts<S> for AdminCaller
where
    Auth: FromRef<S>,
    S: Send + Sync,
{
    type Rejection = Problem;

    async fn from_request_parts(parts: &mut Parts, state: &S) -> Result<Self, Problem> {
        let claims = claims(parts, &Auth::from_ref(state))?;
        if claims.is_admin { Ok(Self(claims.user)) } else { Err(AuthError::NotAnAdmin.into()) }
    }
}

/// What the token of a user's request says.
fn claims(parts: &Parts, auth: &Auth) -> Result<Claims, AuthError> {
    // A page that sends its own token is never refused for a cookie that the browser adds.
    match bearer_token(parts) {
        Err(AuthError::Missing) => auth.authenticate_cookie(&parts.method, &parts.headers),
        token => token.and_then(|token| auth.authenticate(token)),
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
        if is_ours { Ok(Self) } else { Err(AuthError::from(InvalidToken::NotTheServiceToken).into()) }
    }
}

#[cfg(test)]
mod tests {
    use axum::Router;
    use axum::body::Body;
    use axum::routing::post;
    use domain::Timestamp;
    use tower::ServiceExt;

    use super::*;
    use crate::json_body::JsonBody;

    fn auth() -> Auth {
        Auth::new("a secret for tests")
    }

    async fn send(path: &str, authorization: &[&str]) -> axum::response::Response {
        let routes = Router::new()
            .route("/user", post(|_: Caller, _: JsonBody| async {}))
            .route("/admin", post(|_: AdminCaller| async {}))
            .route("/service", post(|_: ServiceCaller| async {}))
            .with_state(auth());
        let mut request = ::http::Request::post(path).header(header::CONTENT_TYPE, "text/html");
        for value in authorization {
            request = request.header(header::AUTHORIZATION, *value);
        }
        routes.oneshot(request.body(Body::from("not JSON")).unwrap()).await.unwrap()
    }

    fn token(is_admin: bool) -> String {
        let expires_at = Timestamp::from_millis(4_102_444_800_000).unwrap();
        let (auth, user) = (auth(), "alice".parse().unwrap());
        let token = if is_admin { auth.mint_admin(&user, expires_at) } else { auth.mint(&user, expires_at) };
        format!("bEARER {}", token.unwrap())
    }

    #[tokio::test]
    async fn a_request_without_a_valid_token_gets_401_whatever_else_is_wrong() {
        let token = token(false);
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
    async fn only_the_token_of_an_admin_opens_a_route_for_admins() {
        let refused = send("/admin", &[&token(false)]).await;
        assert_eq!(refused.status(), 403);
        assert_eq!(refused.extensions().get::<Problem>().unwrap().code(), "not_an_admin");
        assert_eq!(send("/admin", &[]).await.status(), 401);
        assert_eq!(send("/admin", &[&format!("Bearer {}", auth().service_token())]).await.status(), 401);
        assert_eq!(send("/admin", &[&token(true)]).await.status(), 200);
    }

    #[test]
    fn a_header_that_is_no_single_bearer_token_is_named() {
        let read = |values: &[&str]| {
            let mut request = ::http::Request::post("/");
            for value in values {
                request = request.header(header::AUTHORIZATION, *value);
            }
            bearer_token(&request.body(()).unwrap().into_parts().0).map(str::to_owned)
        };
        assert_eq!(read(&["Bearer  a.b.c "]), Ok("a.b.c".to_owned()));
        assert_eq!(read(&[]), Err(AuthError::Missing));
        for malformed in ["", "Bearer", "Basic YTpi", "a.b.c", "Token a.b.c", "Bearer\ta.b.c"] {
            assert_eq!(read(&[malformed]), Err(InvalidToken::MalformedHeader.into()), "{malformed}");
        }
        assert_eq!(read(&["Bearer a.b.c", "Bearer a.b.c"]), Err(InvalidToken::RepeatedHeader.into()));
    }

    #[tokio::test]
    async fn a_users_token_opens_no_internal_route() {
        assert_eq!(send("/service", &[&token(false)]).await.status(), 401);
        let own = format!("bearer {}", auth().service_token());
        assert_eq!(send("/service", &[&own]).await.status(), 200);
    }

    #[tokio::test]
    async fn the_service_token_is_never_accepted_from_a_cookie() {
        let auth = auth().with_cookie("session", &[]);
        let cookie = format!("session={}", auth.service_token());
        let routes = Router::new()
            .route("/user", post(|_: Caller| async {}))
            .route("/service", post(|_: ServiceCaller| async {}))
            .with_state(auth);
        for (path, code) in [("/service", "missing_token"), ("/user", "invalid_token")] {
            let request = ::http::Request::post(path).header(header::COOKIE, &cookie);
            let request = request.header("sec-fetch-site", "same-origin").body(Body::empty()).unwrap();
            let response = routes.clone().oneshot(request).await.unwrap();
            assert_eq!(response.status(), 401, "{path}");
            assert_eq!(response.extensions().get::<Problem>().unwrap().code(), code, "{path}");
        }
    }
}
