//! The OpenAPI document of the HTTP API. Each process serves the whole document, also the routes of other services.

use axum::Router;
use axum::middleware::map_response;
use axum::response::Response;
use http::{HeaderValue, header};
use service::{openapi, readiness};
use utoipa::openapi::security::{HttpAuthScheme, HttpBuilder, SecurityRequirement, SecurityScheme};
use utoipa::openapi::{ComponentsBuilder, InfoBuilder, LicenseBuilder, OpenApi, OpenApiBuilder};
use utoipa::{PartialSchema, ToSchema};
use utoipa_swagger_ui::{Config, SwaggerUi};

const DESCRIPTION: &str = "\
A messaging backend. The server answers a command once the command's event is on a log; queries read a model that \
projectors fold from the log. A position on the log (`P:O`, partition and offset) in the `Messages-Position` header \
says what a response includes, and in a request what the response must include. Clients receive live events over \
Socket.IO at `/socket.io/`, which `/asyncapi.json` describes, and `/asyncapi` for people.

Errors are `application/problem+json` (RFC 9457), also for unknown routes (404 `no_such_route`), wrong methods (405 \
`method_not_allowed`, with `Allow`) and requests that take too long (503 `timeout`). `code` is stable and for \
programs, `detail` is for people. A request that fails has changed nothing, unless its code is `append_unknown`.";

/// The browser runs only scripts from this server. The page of Swagger UI needs inline styles.
const CONTENT_SECURITY_POLICY: HeaderValue = HeaderValue::from_static(
    "default-src 'self'; style-src 'self' 'unsafe-inline'; img-src 'self' data:; object-src 'none'; base-uri 'none'; \
     form-action 'none'; frame-ancestors 'none'",
);

/// The document of all services.
pub(crate) fn document() -> OpenApi {
    let mut document = OpenApiBuilder::new()
        .info(
            InfoBuilder::new()
                .title("Messages")
                .version(env!("CARGO_PKG_VERSION"))
                .description(Some(DESCRIPTION))
                .license(Some(LicenseBuilder::new().name("Apache-2.0").identifier(Some("Apache-2.0")).build())),
        )
        .components(Some(components()))
        .security(Some([SecurityRequirement::new("user", [] as [&str; 0])]))
        .build();
    document.merge(command_api::routes().into_openapi());
    document.merge(query_api::routes().into_openapi());
    document.merge(admin_api::routes().into_openapi());
    document.merge(readiness::routes().into_openapi());
    openapi::add_response_headers(&mut document);
    document
}

fn components() -> utoipa::openapi::Components {
    type Problem = service::problem::ProblemBody<'static>;
    let token = |description| HttpBuilder::new().scheme(HttpAuthScheme::Bearer).description(Some(description));
    let user = token(
        "A token signed with the server's secret (HS256), with `exp`, and the user's id as `sub`. The \
         server may also accept it in a cookie, whose name the operator chooses.",
    )
    .bearer_format("JWT");
    let service = token("The token of processes among themselves; derived from the secret, never given to users.");
    ComponentsBuilder::new()
        .schema(Problem::name(), Problem::schema())
        .schema(domain::FieldError::name(), domain::FieldError::schema())
        .security_scheme("user", SecurityScheme::Http(user.build()))
        .security_scheme("service", SecurityScheme::Http(service.build()))
        .build()
}

/// The document at `/openapi.json`, and Swagger UI at `/docs`.
pub(crate) fn router(document: OpenApi) -> Router {
    let config = Config::from("/openapi.json").persist_authorization(true).display_request_duration(true);
    let page: Router = SwaggerUi::new("/docs").url("/openapi.json", document).config(config).into();
    page.layer(map_response(async |mut response: Response| {
        response.headers_mut().insert(header::CONTENT_SECURITY_POLICY, CONTENT_SECURITY_POLICY);
        response.headers_mut().insert(header::CACHE_CONTROL, HeaderValue::from_static("no-cache"));
        response
    }))
}
