//! CachedResponse queries: as many as 32 connections get, each of which asks again as soon as it has the response.

use std::sync::Arc;
use std::time::{Duration, Instant};

use anyhow::Context as _;
use redis::AsyncCommands;
use serde_json::json;

use super::pair::{MESSAGES, SLICES};
use crate::context::Context;
use crate::floors::reads::key;
use crate::latency::Latencies;
use crate::load::http::{self, HttpConnection};
use crate::load::{closed_loop, conversations};
use crate::observer::Observer;
use crate::options::{Options, Phase};
use crate::report::figures::{Case, System};
use crate::server::{Program, READS, Server};
use crate::totals::Totals;
use crate::workload::{content, user_id};

/// How many connections ask at the same time, each as a user of its own.
const CONNECTIONS: u32 = 32;
/// How many conversations each user is in, and how many messages a conversation has: a default page of each.
const PAGE_ITEMS: u32 = 20;
/// How long the connections ask before they are measured.
const WARM_UP: Duration = Duration::from_millis(500);
/// How long it may take until the projector has folded the messages and Redis has the views.
const CACHED_TIMEOUT: Duration = Duration::from_secs(60);
const POLL_INTERVAL: Duration = Duration::from_millis(20);
/// How long Redis keeps the bodies of the floor, in seconds.
const BODY_TTL_SECONDS: u64 = 3_600;
/// How much shorter than an open loop a closed loop is measured.
const TIME_SHARE: f64 = 0.5;

/// Measures a page of messages, a list of conversations, and a page that the client has already.
///
/// # Errors
/// When a process or a service ends.
pub(crate) async fn measure(context: &Context, options: &Options) -> anyhow::Result<Vec<Case>> {
    let name = context.create_topic("reads").await?;
    let messages = Server::start(MESSAGES, &context.services, &name).await?;
    let floor = Server::start(Program::Floor(READS), &context.services, &name).await?;
    let conversation = fill(&messages).await?;
    let list = Query { name: "the list of conversations", path: "/api/messages".to_owned() };
    let page = Query { name: "a page of messages", path: format!("/api/messages?conversationId={conversation}") };
    let seconds = f64::from(options.seconds) * TIME_SHARE / f64::from(SLICES);
    let reads = Reads { context, messages, floor, prefix: name, slice: Duration::from_secs_f64(seconds) };
    let mut cases = Vec::new();
    for (query, is_known) in [(&page, false), (&list, false), (&page, true)] {
        cases.push(reads.measure(query, is_known).await?);
    }
    reads.messages.kill().await?;
    reads.floor.kill().await?;
    Ok(cases)
}

/// What the connections ask for.
struct Query {
    name: &'static str,
    path: String,
}

/// Creates a conversation of all users with a page of messages, and further ones of two users each, so that each user
/// is in as many as a page lists. Returns the id of the first.
async fn fill(messages: &Server) -> anyhow::Result<String> {
    let everyone = std::iter::once((0..CONNECTIONS).collect());
    let pairs = (0..CONNECTIONS / 2).flat_map(|pair| (1..PAGE_ITEMS).map(move |_| vec![2 * pair, 2 * pair + 1]));
    let ids = conversations::create(messages, everyone.chain(pairs).collect()).await?;
    let mut connection = HttpConnection::open(&messages.address.to_string()).await?;
    let token = messages.token(&user_id(0)?)?;
    let id = ids.into_iter().next().context("there are conversations")?;
    for number in 0..PAGE_ITEMS {
        let body = json!({"conversationId": id, "content": content(number.into())});
        connection.json(&http::post("/api/messages", &token, &body.to_string()), 201).await?;
    }
    Ok(id)
}

/// What Messages answers from Redis, for the floor to serve as well.
struct CachedResponse {
    body: Vec<u8>,
    /// The entity tag.
    tag: String,
}

/// Messages and its floor, which serve the same bodies.
struct Reads<'a> {
    context: &'a Context,
    messages: Server,
    floor: Server,
    prefix: String,
    slice: Duration,
}

/// What the slices of one server measured.
#[derive(Default)]
struct Measurement {
    latencies: Latencies,
    elapsed: Duration,
    totals: Totals,
}

impl Reads<'_> {
    async fn measure(&self, query: &Query, is_known: bool) -> anyhow::Result<Case> {
        let mut cached = None;
        for user in 0..CONNECTIONS {
            cached = Some(self.until_cached(&query.path, user).await?);
        }
        let CachedResponse { body, tag } = cached.context("there are connections")?;
        let bytes = if is_known { 0 } else { body.len() };
        self.give_to_floor(&query.path, body).await?;
        let status = if is_known { 304 } else { 200 };
        let condition = if is_known { format!("If-None-Match: {tag}\r\n") } else { String::new() };
        let (mut messages, mut floor) = (Measurement::default(), Measurement::default());
        for _ in 0..SLICES {
            for (server, measured) in [(&self.messages, &mut messages), (&self.floor, &mut floor)] {
                let requests = (0..CONNECTIONS)
                    .map(|user| Ok(http::get(&query.path, &server.token(&user_id(user)?)?, &condition).into()));
                let requests = requests.collect::<anyhow::Result<Vec<Arc<[u8]>>>>()?;
                self.measure_slice(server, &requests, status, measured).await?;
            }
        }
        let systems = vec![figures(MESSAGES, &messages, bytes), figures(Program::Floor(READS), &floor, bytes)];
        let name = if is_known { format!("{}, unchanged (304)", query.name) } else { query.name.to_owned() };
        Ok(Case { phase: Phase::Reads, name, systems })
    }

    /// Repeats a query until Redis has its response with everything in it.
    async fn until_cached(&self, path: &str, user: u32) -> anyhow::Result<CachedResponse> {
        let mut connection = HttpConnection::open(&self.messages.address.to_string()).await?;
        let request = http::get(path, &self.messages.token(&user_id(user)?)?, "");
        let deadline = Instant::now() + CACHED_TIMEOUT;
        while Instant::now() < deadline {
            let items = connection.json(&request, 200).await?["data"].as_array().map_or(0, Vec::len);
            let response = connection.send(&request).await?;
            let head = connection.head(response);
            if items == PAGE_ITEMS as usize && http::header(head, "x-cache") == Some("hit") {
                let tag = http::header(head, "etag").context("a response without an entity tag")?.to_owned();
                return Ok(CachedResponse { body: connection.body(response).to_vec(), tag });
            }
            tokio::time::sleep(POLL_INTERVAL).await;
        }
        anyhow::bail!("{path} is not cached after 60 s")
    }

    /// Stores the body that the floor gets from Redis.
    async fn give_to_floor(&self, path: &str, body: Vec<u8>) -> anyhow::Result<()> {
        let client = redis::Client::open(self.context.services.redis_url.as_str())?;
        let mut redis = client.get_multiplexed_async_connection().await?;
        let query = path.split_once('?').map_or("", |(_, query)| query);
        Ok(redis.set_ex(key(&self.prefix, query), body, BODY_TTL_SECONDS).await?)
    }

    async fn measure_slice(
        &self,
        server: &Server,
        requests: &[Arc<[u8]>],
        status: u16,
        measured: &mut Measurement,
    ) -> anyhow::Result<()> {
        let Context { services, failures, .. } = self.context;
        let (observer, address) = (Observer::new(services, server), server.address.to_string());
        closed_loop::run(&address, requests.to_vec(), status, WARM_UP, failures).await?;
        let counters_before = observer.counters().await;
        let cpu_before = observer.cpu_times().await?;
        let slice = closed_loop::run(&address, requests.to_vec(), status, self.slice, failures).await?;
        let mut totals = observer.cpu_times().await?.since(&cpu_before);
        totals.extend(observer.counters().await.since(&counters_before));
        measured.latencies.add(&slice.latencies);
        measured.elapsed += slice.elapsed;
        measured.totals.add(&totals);
        Ok(())
    }
}

fn figures(program: Program, measured: &Measurement, body_bytes: usize) -> System {
    let requests = measured.latencies.count() as f64;
    System::new(program.to_string())
        .figure("body", "bytes", body_bytes as f64)
        .figure("answered", "requests/s", requests / measured.elapsed.as_secs_f64())
        .latencies("answered", &measured.latencies)
        .costs(&measured.totals, "a request", requests)
}
