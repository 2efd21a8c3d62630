//! Traces: from a request through its event's record to what is made of it, and in the log.

use std::process::Stdio;

use serde_json::{Value, json};
use tokio::io::{AsyncBufReadExt, AsyncReadExt, AsyncWriteExt, BufReader};
use tokio::net::{TcpListener, TcpStream};
use tokio::sync::mpsc::{self, UnboundedReceiver, UnboundedSender};

use crate::harness::process::{ServiceProcess, command};
use crate::harness::system::{TIMEOUT, config};
use crate::harness::{Client, System};

const TRACE: &str = "4bf92f3577b34da6a3ce929d0e0e4736";
const CALLER: &str = "00f067aa0ba902b7";

#[tokio::test(flavor = "multi_thread")]
async fn a_trace_goes_from_a_request_to_what_is_made_of_its_event() {
    let (collector, mut exported) = collector().await;
    let config = config();
    let environment = [
        ("OTEL_EXPORTER_OTLP_ENDPOINT", collector.as_str()),
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

    let mut spans: Vec<Value> = Vec::new();
    let names = ["POST /api/messages", "append MESSAGE_SENT", "fold MESSAGE_SENT", "deliver MESSAGE_SENT"];
    while !names.iter().all(|name| spans.iter().any(|span| span["name"] == **name)) {
        let more = tokio::time::timeout(TIMEOUT, exported.recv()).await;
        let more = more.unwrap_or_else(|_| panic!("not all spans came: {spans:#?}")).unwrap();
        spans.extend(more.into_iter().filter(|span| span["traceId"] == TRACE));
    }
    let [request, append, fold, deliver] = names.map(|name| spans.iter().find(|span| span["name"] == name).unwrap());
    assert_eq!(request["parentSpanId"], CALLER);
    assert_eq!(append["parentSpanId"], request["spanId"]);
    for made_of_it in [fold, deliver] {
        assert_eq!(made_of_it["parentSpanId"], append["spanId"]);
    }
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
    let mut next = async || -> Value {
        let line = tokio::time::timeout(TIMEOUT, lines.next_line()).await.expect("no line in time").unwrap();
        serde_json::from_str(&line.unwrap()).unwrap()
    };
    let address = loop {
        let line = next().await;
        if line["message"] == "ready" {
            break line["address"].as_str().unwrap().to_owned();
        }
    };
    let system = System::attach(config, &format!("http://{address}"));
    let request = system.request("GET", "/api/messages").header("X-Request-Id", "mine");
    request.header("traceparent", format!("00-{TRACE}-{CALLER}-01")).send().await;
    let line = loop {
        let line = next().await;
        if line["message"] == "request answered" && line["span"]["id"] == "mine" {
            break line;
        }
    };
    assert_eq!((&line["level"], &line["status"]), (&json!("DEBUG"), &json!(401)));
    assert_eq!((&line["span"]["trace"], &line["span"]["route"]), (&json!(TRACE), &json!("/api/messages")));
    assert!(line["timestamp"].is_string() && line["target"].is_string(), "{line}");
}

/// Something that takes spans as a collector does (OTLP over HTTP, in JSON): its address, and the spans as they come.
async fn collector() -> (String, UnboundedReceiver<Vec<Value>>) {
    let listener = TcpListener::bind(("127.0.0.1", 0)).await.unwrap();
    let address = format!("http://{}", listener.local_addr().unwrap());
    let (sender, spans) = mpsc::unbounded_channel();
    tokio::spawn(async move {
        while let Ok((stream, _)) = listener.accept().await {
            tokio::spawn(collect(stream, sender.clone()));
        }
    });
    (address, spans)
}

async fn collect(stream: TcpStream, spans: UnboundedSender<Vec<Value>>) {
    let mut stream = BufReader::new(stream);
    loop {
        let (mut length, mut line) = (0, String::new());
        loop {
            line.clear();
            if stream.read_line(&mut line).await.unwrap_or(0) == 0 {
                return;
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
        let body: Value = serde_json::from_slice(&body).unwrap();
        let items = |value: &Value, name: &str| value[name].as_array().cloned().unwrap_or_default();
        let scopes = items(&body, "resourceSpans").into_iter().flat_map(|it| items(&it, "scopeSpans"));
        let _ = spans.send(scopes.flat_map(|it| items(&it, "spans")).collect());
        stream
            .write_all(b"HTTP/1.1 200 OK\r\nContent-Length: 2\r\nContent-Type: application/json\r\n\r\n{}")
            .await
            .unwrap();
    }
}
