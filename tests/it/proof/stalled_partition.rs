//! A partition that stands still for more than a minute, because another transaction holds its row. Nobody on the other
//! partitions notices. Its own events are 503 or late, never 404, and everything that an operator looks at names it.

use std::sync::Arc;
use std::time::{Duration, Instant};

use serde_json::{Value, json};

use super::chats::{Chats, Observed, Pair, Reads};
use super::table::{Proof, Row, grouped, scaled};
use crate::harness::http::Response;
use crate::harness::process::{ServiceProcess, command};
use crate::harness::raw_socket::RawSocket;
use crate::harness::system::{System, config, eventually, send_concurrently, unlimited};

const PARTITIONS: i32 = 12;
/// The partition that stands still.
const STUCK: i32 = 5;
/// How long it stands still, in seconds. Longer than what Redis knows of pending entities lasts.
const SECONDS: usize = 70;
/// The pause between two messages on it.
const PAUSE: Duration = Duration::from_secs(1);

#[tokio::test(flavor = "multi_thread")]
#[ignore = "needs a release build and the whole machine: make proof"]
async fn nobody_elsewhere_notices_a_partition_that_stands_still_for_a_minute() {
    let mut proof = Proof::begin("stalled_partition");
    let site = Site::start().await;
    let mut pairs = Vec::new();
    for partition in (0..PARTITIONS).filter(|partition| *partition != STUCK) {
        pairs.push(Pair::create(&site.system, partition).await);
    }

    let pause = site.system.pause_partition(STUCK).await;
    let stands = Instant::now();
    let chats = Chats::start(&site.system, &pairs, Reads::AtOnce);
    let created = site.create().await;
    let until = stands + Duration::from_secs(scaled(SECONDS) as u64);
    let (late, named) = tokio::join!(site.use_stuck(&created, until), site.watch_names(until));
    let stood = stands.elapsed();
    pause.rollback().await.unwrap();
    site.assert_arrives(&late, &created).await;
    let observed = chats.stop().await;

    proof.row(site.elsewhere(&observed, stood));
    proof.row(Row {
        what: format!(
            "its own users, meanwhile: {} messages, each to a socket that has just connected; the reads of them, of \
             their conversation and of a new one",
            grouped(late.messages.len())
        ),
        figure: format!(
            "{} reads 503, none 404; messages on sockets within {:.1} s; all read after the partition went on",
            grouped(late.refused),
            late.max_delivery.as_secs_f64()
        ),
        bound: "503 or late, never 404",
        holds: true,
    });
    proof.row(Row {
        what: "`/readyz`, `projector_stalled_partitions` and `doctor`, meanwhile".to_owned(),
        figure: format!(
            "named after {:.1} s with the reason, {} looks and {} runs of doctor; nobody names it afterwards",
            named.after.as_secs_f64(),
            named.looks,
            named.doctors
        ),
        bound: "named by all until it goes on",
        holds: true,
    });
    proof.end();
}

/// A system in a process of its own, and two users of the partition.
struct Site {
    process: ServiceProcess,
    system: Arc<System>,
    stuck: Pair,
    /// What names the partition, with the reason.
    name: String,
}

/// What the users of the partition did.
#[derive(Default)]
struct Late {
    messages: Vec<Response>,
    refused: usize,
    max_delivery: Duration,
}

/// How the partition was named.
struct Named {
    /// How long after the partition stood still everything named it.
    after: Duration,
    looks: usize,
    doctors: usize,
}

impl Site {
    async fn start() -> Self {
        let mut config = config();
        unlimited(&mut config);
        config.kafka_partitions = PARTITIONS;
        let process = ServiceProcess::start(&config, &["all"]).await;
        let system = Arc::new(System::attach(config, &process.url));
        system.wait_until_projecting().await;
        let stuck = Pair::create(&system, STUCK).await;
        let reason = format!("another transaction holds the rows of partitions [{STUCK}]");
        Self { process, system, stuck, name: format!("no progress on partitions {STUCK}: {reason}") }
    }

    /// Begins another conversation on the partition.
    async fn create(&self) -> Response {
        let peer = self.system.peer_on(STUCK, &self.stuck.sender, "new");
        let body = json!({"action": "conversation", "participantIds": [peer]});
        let created = self.system.post(&self.stuck.sender, body).await;
        assert_eq!(created.status, 201, "{created:?}");
        created
    }

    /// Sends and reads on the partition until it goes on.
    async fn use_stuck(&self, created: &Response, until: Instant) -> Late {
        let mut late = Late::default();
        let Pair { sender, peer, conversation } = &self.stuck;
        let conversations = [
            (created, format!("/api/conversations/{}", created.id())),
            (created, format!("/api/messages?conversationId={}", created.id())),
        ];
        while Instant::now() < until {
            let mut socket = RawSocket::connect(&self.system, &self.system.url, peer).await;
            let began = Instant::now();
            let content = format!("late {}", late.messages.len());
            let sent = self.system.send(sender, conversation, &content).await;
            assert_eq!(sent.status, 201, "{sent:?}");
            let quoted = format!("\"{content}\"");
            while !socket.until("42[\"message:new\"").await.contains(&quoted) {}
            late.max_delivery = late.max_delivery.max(began.elapsed());
            late.messages.push(sent);
            let of_messages = [&late.messages[0], late.messages.last().unwrap()].into_iter().flat_map(|sent| {
                let page = format!("/api/messages?conversationId={conversation}");
                [(sent, format!("/api/messages/{}", sent.id())), (sent, page)]
            });
            let ask = |(done, path): (&Response, String)| {
                self.system.ask(sender, "GET", &path).header("Messages-Position", done.position())
            };
            let requests = of_messages.chain(conversations.iter().cloned()).map(ask).collect();
            for read in send_concurrently(requests).await {
                read.assert_problem(503, "projection_behind");
                late.refused += 1;
            }
            tokio::time::sleep(PAUSE).await;
        }
        late
    }

    /// Waits until everything names the partition, and asserts that everything goes on to do so.
    async fn watch_names(&self, until: Instant) -> Named {
        let began = Instant::now();
        eventually("everything names the partition", async || {
            (self.is_named().await && self.doctor_names().await).then_some(())
        })
        .await;
        let mut named = Named { after: began.elapsed(), looks: 1, doctors: 1 };
        while Instant::now() < until {
            assert!(self.is_named().await, "{}", self.degraded().await);
            named.looks += 1;
            if named.looks.is_multiple_of(10) {
                assert!(self.doctor_names().await, "the doctor doesn't name it");
                named.doctors += 1;
            }
            tokio::time::sleep(Duration::from_millis(500)).await;
        }
        named
    }

    async fn degraded(&self) -> Value {
        self.system.request("GET", "/readyz").send().await.body["degraded"].clone()
    }

    /// Whether `/readyz` and the metrics name the partition and no other.
    async fn is_named(&self) -> bool {
        let degraded = self.degraded().await;
        let projection = degraded.as_array().and_then(|it| it.iter().find(|it| it["field"] == "projection"));
        projection.and_then(|it| it["detail"].as_str()).is_some_and(|detail| detail.starts_with(&self.name))
            && self.process.metric("projector_stalled_partitions", "").await == 1.0
    }

    async fn doctor_names(&self) -> bool {
        let output = command(&self.system.config, &["doctor"]).output().await.unwrap();
        String::from_utf8(output.stdout).unwrap().contains(&self.name)
    }

    /// Asserts that everything can be read, and that nobody names the partition any more.
    async fn assert_arrives(&self, late: &Late, created: &Response) {
        self.system.wait_until_projected(late.messages.last().unwrap()).await;
        let sender = &self.stuck.sender;
        for (number, sent) in late.messages.iter().enumerate() {
            let read = self.system.get_after(sent, sender, &format!("/api/messages/{}", sent.id())).await;
            assert_eq!(read.data()["content"], format!("late {number}"), "{read:?}");
        }
        let read = self.system.get_after(created, sender, &format!("/api/conversations/{}", created.id())).await;
        assert_eq!(read.status, 200, "{read:?}");
        eventually("nobody names it any more", async || {
            let is_silent = self.degraded().await == json!([])
                && self.process.metric("projector_stalled_partitions", "").await == 0.0
                && !self.doctor_names().await;
            is_silent.then_some(())
        })
        .await;
    }

    fn elsewhere(&self, observed: &Observed, stood: Duration) -> Row {
        Row {
            what: format!(
                "a partition of {PARTITIONS} stands still for {} s; on the others {} messages, each to a socket that \
                 has just connected, and read in three ways with its token",
                stood.as_secs(),
                grouped(observed.messages)
            ),
            figure: format!(
                "{} reads refused; the oldest event that wasn't folded: {:.1} s; sockets ready within {:.1} s, \
                 messages there within {:.1} s",
                observed.refused_reads,
                observed.max_age.as_secs_f64(),
                observed.max_connect.as_secs_f64(),
                observed.max_delivery.as_secs_f64()
            ),
            bound: "no error, every message delivered",
            holds: observed.refused_reads == 0,
        }
    }
}
