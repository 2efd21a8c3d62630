//! Traces (W3C Trace Context): they connect a request with the record of its event, and with every process that handles
//! the record.
//!
//! An example: a client sends `POST /api/messages` with a `traceparent`. The server begins a span for the request, and
//! a span `append MESSAGE_SENT` within it. It writes the `traceparent` of the second span to the record's headers. The
//! projector later begins a span `fold MESSAGE_SENT` with that parent, and realtime a span `deliver MESSAGE_SENT`.
//!
//! Without a collector, spans must cost next to nothing. Yet every request and record has a `traceparent` then too, and
//! analysts can follow a request by its records.

use std::borrow::Cow;
use std::convert::Infallible;
use std::sync::OnceLock;
use std::time::Duration;

use ::http::HeaderMap;
use ::http::request::Parts;
use axum::extract::FromRequestParts;
pub use opentelemetry::trace::SpanKind;
use opentelemetry::trace::{
    Span as _, SpanContext, SpanId, Status, TraceContextExt, TraceFlags, TraceId, TraceState, Tracer as _,
    TracerProvider as _,
};
use opentelemetry::{Context, KeyValue};
use opentelemetry_otlp::{Protocol, SpanExporter, WithExportConfig};
use opentelemetry_sdk::Resource;
use opentelemetry_sdk::trace::{SdkTracer, SdkTracerProvider};
use uuid::Uuid;

/// How long the export of the last spans may take.
const SHUTDOWN_TIMEOUT: Duration = Duration::from_secs(2);

/// Empty while this process exports no spans.
static EXPORTER: OnceLock<(SdkTracerProvider, SdkTracer)> = OnceLock::new();

/// The process can't export spans with its configuration.
#[derive(Debug, thiserror::Error)]
#[error("OTEL_EXPORTER_OTLP_ENDPOINT: {0}")]
pub struct ExportError(#[from] opentelemetry_otlp::ExporterBuildError);

/// Begins to export spans to a collector (OTLP over HTTP), as the service of this name. OpenTelemetry's own variables
/// (`OTEL_…`) take precedence over the protocol and the name, and configure the rest. A second call does nothing.
///
/// # Errors
/// When the exporter can't be built.
pub fn start_export(collector: &str, service: &str) -> Result<(), ExportError> {
    if EXPORTER.get().is_some() {
        return Ok(());
    }
    let is_set = |name| std::env::var_os(name).is_some();
    let endpoint = format!("{}/v1/traces", collector.trim_end_matches('/'));
    let mut exporter = SpanExporter::builder().with_http().with_endpoint(endpoint);
    if !is_set("OTEL_EXPORTER_OTLP_PROTOCOL") && !is_set("OTEL_EXPORTER_OTLP_TRACES_PROTOCOL") {
        exporter = exporter.with_protocol(Protocol::HttpBinary);
    }
    let exporter = exporter.build()?;
    let mut resource = Resource::builder();
    if !is_set("OTEL_SERVICE_NAME") {
        resource = resource.with_service_name(service.to_owned());
    }
    let provider = SdkTracerProvider::builder().with_batch_exporter(exporter).with_resource(resource.build()).build();
    let tracer = provider.tracer("messages");
    let _ = EXPORTER.set((provider, tracer));
    Ok(())
}

/// Exports the remaining spans. Blocks for at most 2 s.
pub fn stop_export() {
    if let Some((provider, _)) = EXPORTER.get()
        && let Err(error) = provider.shutdown_with_timeout(SHUTDOWN_TIMEOUT)
    {
        tracing::warn!(%error, "exporting the last spans failed; they are lost");
    }
}

/// A span's identity: its trace, its own id, and whether it is sampled. Written as `traceparent`, it is the parent of
/// the spans that follow.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct TraceContext {
    trace: TraceId,
    span: SpanId,
    flags: TraceFlags,
}

impl TraceContext {
    /// Parses a `traceparent`. `None` if it is malformed.
    pub fn parse(text: &str) -> Option<Self> {
        let parts: Vec<&str> = text.split('-').collect();
        let [version, trace, span, flags] = parts[..] else { return None };
        let hex = |text: &str, length: usize| {
            text.len() == length && text.bytes().all(|byte| matches!(byte, b'0'..=b'9' | b'a'..=b'f'))
        };
        if version != "00" || !hex(trace, 32) || !hex(span, 16) || !hex(flags, 2) {
            return None;
        }
        let (trace, span) = (TraceId::from_hex(trace).ok()?, SpanId::from_hex(span).ok()?);
        let flags = TraceFlags::new(u8::from_str_radix(flags, 16).ok()?) & TraceFlags::SAMPLED;
        (trace != TraceId::INVALID && span != SpanId::INVALID).then_some(Self { trace, span, flags })
    }

    /// Parses the header `traceparent` of a request.
    pub(crate) fn from_headers(headers: &HeaderMap) -> Option<Self> {
        headers.get("traceparent").and_then(|value| value.to_str().ok()).and_then(Self::parse)
    }

    /// The context of a new span, in the trace of `parent` or in a new trace.
    fn fresh(parent: Option<Self>) -> Self {
        let trace = parent.map_or_else(|| TraceId::from_bytes(Uuid::new_v4().into_bytes()), |parent| parent.trace);
        let flags = parent.map_or(TraceFlags::SAMPLED, |parent| parent.flags);
        let (_, span) = Uuid::new_v4().as_u64_pair();
        // Never zero: the half begins with the bits of the UUID's variant.
        Self { trace, span: SpanId::from_bytes(span.to_be_bytes()), flags }
    }

    /// The id of the trace, for log lines.
    pub fn trace_id(self) -> impl std::fmt::Display {
        self.trace
    }
}

impl std::fmt::Display for TraceContext {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        write!(f, "00-{}-{}-{:02x}", self.trace, self.span, self.flags.to_u8())
    }
}

/// The context of the request's span, which the middleware has added to the request.
impl<S: Send + Sync> FromRequestParts<S> for TraceContext {
    type Rejection = Infallible;

    async fn from_request_parts(parts: &mut Parts, _: &S) -> Result<Self, Infallible> {
        let of_span = parts.extensions.get::<Self>().copied();
        Ok(of_span.unwrap_or_else(|| Self::fresh(Self::from_headers(&parts.headers))))
    }
}

/// A piece of work within a trace. It ends on drop.
pub struct Span {
    context: TraceContext,
    exported: Option<opentelemetry_sdk::trace::Span>,
}

impl Span {
    /// Begins a span. Only calls `name` if this process exports spans.
    pub fn begin(kind: SpanKind, name: impl FnOnce() -> String, parent: Option<TraceContext>) -> Self {
        let Some((_, tracer)) = EXPORTER.get() else {
            return Self { context: TraceContext::fresh(parent), exported: None };
        };
        let context = parent.map_or_else(Context::new, |TraceContext { trace, span, flags }| {
            Context::new().with_remote_span_context(SpanContext::new(trace, span, flags, true, TraceState::NONE))
        });
        let builder = tracer.span_builder(name()).with_kind(kind);
        let span = builder.start_with_context(tracer, &context);
        let own = span.span_context();
        let context = TraceContext { trace: own.trace_id(), span: own.span_id(), flags: own.trace_flags() };
        Self { context, exported: Some(span) }
    }

    /// The span's context: the parent of the spans that follow.
    pub fn context(&self) -> TraceContext {
        self.context
    }

    /// Sets an attribute. Names follow OpenTelemetry's semantic conventions.
    pub fn set_attribute(&mut self, name: &'static str, value: impl Into<opentelemetry::Value>) {
        if let Some(span) = &mut self.exported {
            span.set_attribute(KeyValue::new(name, value));
        }
    }

    /// Marks the span as failed, for this reason.
    pub fn fail(&mut self, reason: impl Into<Cow<'static, str>>) {
        if let Some(span) = &mut self.exported {
            span.set_status(Status::error(reason));
        }
    }
}

/// Begins a span for the work on a record, such as `fold`, in the record's trace. `None` if this process exports no
/// spans, or the trace isn't sampled.
pub fn record_span(operation: &str, event_type: Option<&str>, traceparent: Option<&str>) -> Option<Span> {
    EXPORTER.get()?;
    let parent = traceparent.and_then(TraceContext::parse).filter(|parent| parent.flags.is_sampled())?;
    let mut span =
        Span::begin(SpanKind::Consumer, || format!("{operation} {}", event_type.unwrap_or("record")), Some(parent));
    span.set_attribute("messaging.system", "kafka");
    span.set_attribute("messaging.operation.type", "process");
    Some(span)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_context_keeps_its_text() {
        for text in [
            "00-4bf92f3577b34da6a3ce929d0e0e4736-00f067aa0ba902b7-01",
            "00-4bf92f3577b34da6a3ce929d0e0e4736-00f067aa0ba902b7-00",
        ] {
            assert_eq!(TraceContext::parse(text).unwrap().to_string(), text);
        }
        for malformed in [
            "",
            "00-4bf92f3577b34da6a3ce929d0e0e4736-00f067aa0ba902b7",
            "01-4bf92f3577b34da6a3ce929d0e0e4736-00f067aa0ba902b7-01",
            "00-4BF92F3577B34DA6A3CE929D0E0E4736-00f067aa0ba902b7-01",
            "00-00000000000000000000000000000000-00f067aa0ba902b7-01",
            "00-4bf92f3577b34da6a3ce929d0e0e4736-0000000000000000-01",
            "00-4bf92f3577b34da6a3ce929d0e0e4736-00f067aa0ba902b7-1",
            "00-4bf92f3577b34da6a3ce929d0e0e473-00f067aa0ba902b77-01",
        ] {
            assert_eq!(TraceContext::parse(malformed), None, "{malformed}");
        }
    }

    #[test]
    fn a_span_stays_in_its_parents_trace_and_keeps_whether_it_is_sampled() {
        let parent = TraceContext::parse("00-4bf92f3577b34da6a3ce929d0e0e4736-00f067aa0ba902b7-00").unwrap();
        let child = Span::begin(SpanKind::Server, String::new, Some(parent)).context();
        assert_eq!((child.trace, child.flags), (parent.trace, parent.flags));
        assert_ne!(child.span, parent.span);
        assert_ne!(Span::begin(SpanKind::Server, String::new, None).context().trace, parent.trace);
    }
}
