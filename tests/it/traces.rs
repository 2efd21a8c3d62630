//! Traces: one trace leads from a request through its event's record to the fold and the delivery, and log lines carry
//! its id.

use std::process::Stdio;

use serde_json::{Value, json};
use tokio::io::{AsyncBufReadExt, AsyncReadExt, AsyncWriteExt, BufReader};
use tokio::net::{TcpListener, TcpStream};
use tokio::sync::mpsc::{self, UnboundedReceiver, UnboundedSender};

use crate::harness::process::{ServiceProcess, command};
use crate::harness::system::{TIMEOUT, config};
use crate::harness::{Client, System};

const TRACE: &str = "4bf92f3577b34da6a3ce929d0e0e4736";
/// The client's own span.
const CALLER: &str = "00f067aa0ba902b7";

#[tokio::test(flavor = "multi_thread")]
async fn a_trace_leads_from_a_request_to_the_fold_and_the_delivery_of_its_event() {
    let mut collector = Collector::start().await;
    let config = config();
    let environment = [
        ("OTEL_EXPORTER_OTLP_ENDPOINT", collector.url.as_str()),
        ("OTEL_EXPORTER_OTLP_PROTOCOL", "http/json"),
        ("OTEL_BSP_SCHEDULE_DELAY", "100"),
    ];
    let running = ServiceProcess::with(&config, &["all"], &environment).await;
    let system = System::attach(config, &running.url);
    let conversation = system.conversation("alice", &["bob"]).await;
    let _bob = Client::connect(&system, "bob").await;

    let request = system.ask("alice", "POST", "/api/messages").header("traceparent", format!("00-{TRACE}-{CALLER}-01"));
    let sent = request.json(&json!({"conversationId": conversation, "content": "hi"})).send().await;
    let record = system.record_at(&sent).await;

    let names = ["POST /api/messages", "append MESSAGE_SENT", "fold MESSAGE_SENT", "deliver MESSAGE_SENT"];
    let [request, append, fold, deliver] = collector.spans(TRACE, names).await;
    assert_eq!(request["parentSpanId"], CALLER);
    assert_eq!(append["parentSpanId"], request["spanId"]);
    assert_eq!(fold["parentSpanId"], append["spanId"]);
    assert_eq!(deliver["parentSpanId"], append["spanId"]);
    let span = append["spanId"].as_str().unwrap();
    assert_eq!(record.headers["traceparent"], format!("00-{TRACE}-{span}-01"));
}

#[tokio::test(flavor = "multi_thread")]
async fn log_lines_are_json_that_names_the_request_and_its_trace() {
    let config = config();
    let mut child = command(&config, &["query-api"])
        .envs([("PORT", "0"), ("LOG_FORMAT", "json"), ("LOG", "info,service::http=debug")])
        .stderr(Stdio::piped())
        .spawn()
        .unwrap();
    let mut lines = BufReader::new(child.stderr.take().unwrap()).lines();
    let mut first_line = async |wanted: &dyn Fn(&Value) -> bool| loop {
        let line = tokio::time::timeout(TIMEOUT, lines.next_line()).await.expect("no line in time").unwrap();
        let line: Value = serde_json::from_str(&line.unwrap()).unwrap();
        if wanted(&line) {
            return line;
        }
    };
    let ready = first_line(&|line| line["message"] == "ready").await;
    let address = ready["address"].as_str().unwrap();

    let system = System::attach(config, &format!("http://{address}"));
    let request = system.request("GET", "/api/messages").header("X-Request-Id", "mine");
    request.header("traceparent", format!("00-{TRACE}-{CALLER}-01")).send().await;

    let answered = first_line(&|line| line["message"] == "request answered" && line["span"]["id"] == "mine").await;
    assert_eq!((&answered["level"], &answered["status"]), (&json!("DEBUG"), &json!(401)));
    assert_eq!((&answered["span"]["trace"], &answered["span"]["route"]), (&json!(TRACE), &json!("/api/messages")));
    assert!(answered["timestamp"].is_string() && answered["target"].is_string(), "{answered}");
}

/// A collector of traces that takes spans as OTLP over HTTP, in JSON.
struct Collector {
    url: String,
    batches: UnboundedReceiver<Vec<Value>>,
}

impl Collector {
    async fn start() -> Self {
        let listener = TcpListener::bind(("127.0.0.1", 0)).await.unwrap();
        let url = format!("http://{}", listener.local_addr().unwrap());
        let (sender, batches) = mpsc::unbounded_channel();
        tokio::spawn(async move {
            while let Ok((stream, _)) = listener.accept().await {
                tokio::spawn(collect(stream, sender.clone()));
            }
        });
        Self { url, batches }
    }

    /// Waits for a span of each of these names in a trace.
    async fn spans<const N: usize>(&mut self, trace: &str, names: [&str; N]) -> [Value; N] {
        let mut spans: Vec<Value> = Vec::new();
        while !names.iter().all(|name| spans.iter().any(|span| span["name"] == **name)) {
            let batch = tokio::time::timeout(TIMEOUT, self.batches.recv()).await;
            let batch = batch.unwrap_or_else(|_| panic!("not all spans were exported: {spans:#?}")).unwrap();
            spans.extend(batch.into_iter().filter(|span| span["traceId"] == trace));
        }
        names.map(|name| spans.iter().find(|span| span["name"] == name).unwrap().clone())
    }
}

/// Answers the exporter's requests on one connection, and passes their spans on.
async fn collect(stream: TcpStream, spans: UnboundedSender<Vec<Value>>) {
    let mut stream = BufReader::new(stream);
    while let Some(body) = read_body(&mut stream).await {
        let items = |value: &Value, name: &str| value[name].as_array().cloned().unwrap_or_default();
        let scopes = items(&body, "resourceSpans").into_iter().flat_map(|it| items(&it, "scopeSpans"));
        let _ = spans.send(scopes.flat_map(|it| items(&it, "spans")).collect());
        stream
            .write_all(b"HTTP/1.1 200 OK\r\nContent-Length: 2\r\nContent-Type: application/json\r\n\r\n{}")
            .await
            .unwrap();
    }
}

/// The JSON body of the next request; none after the last one.
async fn read_body(stream: &mut BufReader<TcpStream>) -> Option<Value> {
    let mut length = 0;
    let mut line = String::new();
    loop {
        line.clear();
        if stream.read_line(&mut line).await.unwrap_or(0) == 0 {
            return None;
        }
        if let Some(value) = line.to_lowercase().strip_prefix("content-length:") {
            length = value.trim().parse().unwrap();
        }
        if line.trim().is_empty() {
            break;
        }
    }
    let mut body = vec![0; length];
    stream.read_exact(&mut body).await.unwrap();
    Some(serde_json::from_slice(&body).unwrap())
}
