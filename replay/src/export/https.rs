//! How requests reach an object store: over HTTP/1.1, with TLS by rustls and ring like all connections of this project.

use std::time::Duration;

use async_trait::async_trait;
use futures_util::stream;
use http_body_util::{BodyExt, StreamBody};
use hyper_rustls::HttpsConnectorBuilder;
use hyper_util::client::legacy::Client;
use hyper_util::client::legacy::connect::HttpConnector as TcpConnector;
use hyper_util::rt::TokioExecutor;
use object_store::ClientOptions;
use object_store::client::{
    HttpClient, HttpConnector, HttpError, HttpErrorKind, HttpRequest, HttpRequestBody, HttpResponse, HttpResponseBody,
    HttpService,
};
use rustls::crypto::ring;
use tokio::time::{error::Elapsed, timeout};

/// How long the store may take for the head of a response, and for each further part of it. A part of an upload is one
/// request.
const SILENCE_MAX: Duration = Duration::from_secs(60);

domain::limit_rows! {
    Services, "wait for an object store", Time SILENCE_MAX, "the request is repeated for three minutes, and then the command ends with code 1", "operators, who wait for its end";
}

/// Makes connections to an object store.
#[derive(Debug)]
pub(super) struct StoreConnector;

impl HttpConnector for StoreConnector {
    fn connect(&self, _: &ClientOptions) -> object_store::Result<HttpClient> {
        let builder = HttpsConnectorBuilder::new().with_provider_and_webpki_roots(ring::default_provider());
        let builder = builder.map_err(|error| object_store::Error::Generic { store: "S3", source: error.into() })?;
        let connector = builder.https_or_http().enable_http1().build();
        Ok(HttpClient::new(StoreClient(Client::builder(TokioExecutor::new()).build(connector))))
    }
}

#[derive(Debug)]
struct StoreClient(Client<hyper_rustls::HttpsConnector<TcpConnector>, HttpRequestBody>);

#[async_trait]
impl HttpService for StoreClient {
    async fn call(&self, request: HttpRequest) -> Result<HttpResponse, HttpError> {
        let response = timeout(SILENCE_MAX, self.0.request(request)).await.map_err(silent)?.map_err(|error| {
            let kind = if error.is_connect() { HttpErrorKind::Connect } else { HttpErrorKind::Request };
            HttpError::new(kind, error)
        })?;
        let (head, body) = response.into_parts();
        let frames = stream::unfold(body, async |mut body| {
            let frame = timeout(SILENCE_MAX, body.frame()).await.map_err(silent).transpose()?;
            let frame =
                frame.and_then(|frame| frame.map_err(|error| HttpError::new(HttpErrorKind::Interrupted, error)));
            Some((frame, body))
        });
        Ok(HttpResponse::from_parts(head, HttpResponseBody::new(StreamBody::new(Box::pin(frames)))))
    }
}

fn silent(elapsed: Elapsed) -> HttpError {
    HttpError::new(HttpErrorKind::Timeout, elapsed)
}
