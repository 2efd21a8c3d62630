//! Traces (W3C Trace Context): from a request through its event's record to what is made of that, in whatever process.
//!
//! Each request and record belongs to a trace also where none are exported: analysts can follow one by its records.

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

/// How long the last spans may take to be exported.
const LAST_SPANS: Duration = Duration::from_secs(2);

static EXPORTED: OnceLock<(SdkTracerProvider, SdkTracer)> = OnceLock::new();

/// Traces can't be exported.
#[derive(Debug, thiserror::Error)]
#[error("OTEL_EXPORTER_OTLP_ENDPOINT: {0}")]
pub struct ExportError(#[from] opentelemetry_otlp::ExporterBuildError);

/// Exports spans from now on to a collector (OTLP over HTTP), as a service of this name; for the rest, as
/// OpenTelemetry's own variables (`OTEL_…`) say. The second time, it does nothing.
///
/// # Errors
/// When that can't be done.
pub fn export(collector: &str, service: &str) -> Result<(), ExportError> {
    if EXPORTED.get().is_some() {
        return Ok(());
    }
    let said = |name| std::env::var_os(name).is_some();
    let endpoint = format!("{}/v1/traces", collector.trim_end_matches('/'));
    let mut exporter = SpanExporter::builder().with_http().with_endpoint(endpoint);
    if !said("OTEL_EXPORTER_OTLP_PROTOCOL") && !said("OTEL_EXPORTER_OTLP_TRACES_PROTOCOL") {
        exporter = exporter.with_protocol(Protocol::HttpBinary);
    }
    let exporter = exporter.build()?;
    let mut resource = Resource::builder();
    if !said("OTEL_SERVICE_NAME") {
        resource = resource.with_service_name(service.to_owned());
    }
    let provider = SdkTracerProvider::builder().with_batch_exporter(exporter).with_resource(resource.build()).build();
    let tracer = provider.tracer("messages");
    let _ = EXPORTED.set((provider, tracer));
    Ok(())
}

/// Exports the spans that are still here. Blocks for 2 s at most.
pub fn finish() {
    if let Some((provider, _)) = EXPORTED.get()
        && let Err(error) = provider.shutdown_with_timeout(LAST_SPANS)
    {
        tracing::warn!(%error, "the last spans could not be exported");
    }
}

/// Where in a trace something belongs: the `traceparent` of what it leads to.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct TraceContext {
    trace: TraceId,
    span: SpanId,
    flags: TraceFlags,
}

impl TraceContext {
    /// Reads a `traceparent`; none where it isn't well-formed.
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

    /// A new span of its own, in the trace of `parent` or in a new one.
    fn fresh(parent: Option<Self>) -> Self {
        let trace = parent.map_or_else(|| TraceId::from_bytes(Uuid::new_v4().into_bytes()), |parent| parent.trace);
        let flags = parent.map_or(TraceFlags::SAMPLED, |parent| parent.flags);
        let (_, span) = Uuid::new_v4().as_u64_pair();
        // The variant's bits make it other than zero.
        Self { trace, span: SpanId::from_bytes(span.to_be_bytes()), flags }
    }

    /// The trace's id, as logs have it.
    pub fn trace_id(self) -> impl std::fmt::Display {
        self.trace
    }
}

impl std::fmt::Display for TraceContext {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        write!(f, "00-{}-{}-{:02x}", self.trace, self.span, self.flags.to_u8())
    }
}

/// The context of the request, which [`crate::http::finish`] has given it.
impl<S: Send + Sync> FromRequestParts<S> for TraceContext {
    type Rejection = Infallible;

    async fn from_request_parts(parts: &mut Parts, _: &S) -> Result<Self, Infallible> {
        let given = parts.extensions.get::<Self>().copied();
        Ok(given.unwrap_or_else(|| Self::fresh(of_request(&parts.headers))))
    }
}

/// Where a request says that it belongs.
pub(crate) fn of_request(headers: &HeaderMap) -> Option<TraceContext> {
    headers.get("traceparent").and_then(|value| value.to_str().ok()).and_then(TraceContext::parse)
}

/// Something that takes time and belongs to a trace. It ends when it is dropped.
pub struct Span {
    context: TraceContext,
    exported: Option<opentelemetry_sdk::trace::Span>,
}

impl Span {
    /// Begins one. Its name is only asked for where somebody wants to know.
    pub fn begin(kind: SpanKind, name: impl FnOnce() -> String, parent: Option<TraceContext>) -> Self {
        let Some((_, tracer)) = EXPORTED.get() else {
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

    /// Its context, for what it leads to.
    pub fn context(&self) -> TraceContext {
        self.context
    }

    /// Says more about it, in the names of OpenTelemetry's semantic conventions.
    pub fn set_attribute(&mut self, name: &'static str, value: impl Into<opentelemetry::Value>) {
        if let Some(span) = &mut self.exported {
            span.set_attribute(KeyValue::new(name, value));
        }
    }

    /// Says that it failed.
    pub fn fail(&mut self, what: impl Into<Cow<'static, str>>) {
        if let Some(span) = &mut self.exported {
            span.set_status(Status::error(what));
        }
    }
}

/// What is done with a record, such as `fold`, as part of the record's trace. None where nobody wants to know.
pub fn of_record(what: &str, event_type: Option<&str>, traceparent: Option<&str>) -> Option<Span> {
    EXPORTED.get()?;
    let parent = traceparent.and_then(TraceContext::parse).filter(|parent| parent.flags.is_sampled())?;
    let mut span =
        Span::begin(SpanKind::Consumer, || format!("{what} {}", event_type.unwrap_or("record")), Some(parent));
    span.set_attribute("messaging.system", "kafka");
    span.set_attribute("messaging.operation.type", "process");
    Some(span)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_place_is_written_as_it_is_read() {
        for text in [
            "00-4bf92f3577b34da6a3ce929d0e0e4736-00f067aa0ba902b7-01",
            "00-4bf92f3577b34da6a3ce929d0e0e4736-00f067aa0ba902b7-00",
        ] {
            assert_eq!(TraceContext::parse(text).unwrap().to_string(), text);
        }
        for wrong in [
            "",
            "00-4bf92f3577b34da6a3ce929d0e0e4736-00f067aa0ba902b7",
            "01-4bf92f3577b34da6a3ce929d0e0e4736-00f067aa0ba902b7-01",
            "00-4BF92F3577B34DA6A3CE929D0E0E4736-00f067aa0ba902b7-01",
            "00-00000000000000000000000000000000-00f067aa0ba902b7-01",
            "00-4bf92f3577b34da6a3ce929d0e0e4736-0000000000000000-01",
            "00-4bf92f3577b34da6a3ce929d0e0e4736-00f067aa0ba902b7-1",
            "00-4bf92f3577b34da6a3ce929d0e0e473-00f067aa0ba902b77-01",
        ] {
            assert_eq!(TraceContext::parse(wrong), None, "{wrong}");
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
