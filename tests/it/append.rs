//! What becomes of a command when Kafka fails it: "it was not done" and "it may have been done" are told apart, and what
//! was begun is finished whoever waits for it. The faults are those of librdkafka's mock cluster.

use std::sync::Arc;
use std::time::{Duration, Instant};

use cache::Progress;
use command_api::{CommandApi, Limits, Parts};
use domain::ConversationId;
use event_log::{LogConsumer, Producer, TopicSpec, ensure_topic};
use messages::process::Roles;
use rdkafka::mocking::MockCluster;
use rdkafka::producer::DefaultProducerContext;
use rdkafka::types::{RDKafkaApiKey, RDKafkaRespErr};
use serde_json::{Value, json};
use service::lifecycle;
use service::token::PositionTokens;
use tokio::net::TcpListener;
use tokio::sync::watch;
use tokio_util::sync::{CancellationToken, DropGuard};

use crate::harness::eventually;
use crate::harness::log;
use crate::harness::proxy::Proxy;
use crate::harness::system::{SECRET, System, config};

/// How soon a client hears of a Kafka that doesn't answer.
const WITHIN: Duration = Duration::from_secs(8);

/// A command API whose events go to a broker that does as it is told; everything else is a whole system's.
struct Failing {
    system: System,
    beside: System,
    broker: MockCluster<'static, DefaultProducerContext>,
    conversation: String,
    _stop: DropGuard,
}

impl Failing {
    async fn start() -> Self {
        let system = System::start().await;
        system.age_reservation_epoch().await;
        let conversation = system.conversation("alice", &["bob"]).await;
        let config = &system.config;
        let partitions = config.kafka_partitions;
        let broker = MockCluster::new(1).unwrap();
        broker.create_topic(&config.kafka_topic, partitions, 1).unwrap();
        let spec = TopicSpec { name: config.kafka_topic.clone(), partitions };
        let topic = ensure_topic(&config.kafka_brokers, &spec).await.unwrap();
        let producer = Producer::new(&broker.bootstrap_servers(), &topic.name, None).unwrap();
        producer.warm_up().await.unwrap();
        let per_window = 30;
        let api = CommandApi::new(Parts {
            auth: system.auth.clone(),
            tokens: PositionTokens::new(SECRET, topic.id, topic.partitions),
            producer,
            log: Arc::new(LogConsumer::new(&config.kafka_brokers, &topic.name, "test").unwrap()),
            partitions: topic.partitions,
            cache: system.cache(),
            progress: Progress::follow(system.cache()),
            read_model: system.read_model(),
            limits: Limits {
                messages: per_window,
                reactions: per_window,
                edits: per_window,
                deletions: per_window,
                conversations: per_window,
                read_marks: per_window,
                window: Duration::from_secs(60),
            },
            append_block: watch::channel(None).1,
        });
        let listener = TcpListener::bind(("127.0.0.1", 0)).await.unwrap();
        let beside = System::attach(config.clone(), &format!("http://{}", listener.local_addr().unwrap()));
        let shutdown = CancellationToken::new();
        let router = service::http::with_middleware(api.router(), &command_api::routes().into_openapi(), &[]);
        tokio::spawn(lifecycle::serve(listener, router, shutdown.clone()));
        Self { system, beside, broker, conversation, _stop: shutdown.drop_guard() }
    }

    fn body(&self, content: &str) -> Value {
        json!({"conversationId": self.conversation, "content": content})
    }

    /// The contents of the messages on the mock cluster's topic.
    async fn kept(&self) -> Vec<String> {
        let records = log::records(&self.broker.bootstrap_servers(), &self.system.config.kafka_topic).await;
        records.iter().map(|record| record.value["data"]["content"].as_str().unwrap().to_owned()).collect()
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn what_kafka_refuses_was_not_done_and_does_not_count() {
    let failing = Failing::start().await;
    let no = RDKafkaRespErr::RD_KAFKA_RESP_ERR_MSG_SIZE_TOO_LARGE;
    failing.broker.request_errors(RDKafkaApiKey::Produce, &[no]);
    let refused = failing.beside.post_with_key("alice", "a-key", failing.body("hi")).await;
    refused.assert_problem(503, "append_refused");
    assert_eq!(refused.header("retry-after"), "1");
    assert_eq!(failing.kept().await, [""; 0]);
    // The key is free, and the limit is as it was.
    let sent = failing.beside.post_with_key("alice", "a-key", failing.body("something else")).await;
    assert_eq!((sent.status, sent.header("idempotent-replayed")), (201, ""), "{sent:?}");
    sent.assert_rate_limit(30, 29);
    assert_eq!(failing.kept().await, ["something else"]);
    // Nobody waits for what will never be.
    failing.broker.request_errors(RDKafkaApiKey::Produce, &[no]);
    let begun = failing.beside.post("alice", json!({"action": "conversation", "participantIds": ["carol"]})).await;
    begun.assert_problem(503, "append_refused");
    let never = ConversationId::direct(&"alice".parse().unwrap(), &"carol".parse().unwrap());
    failing.system.get("alice", &format!("/api/conversations/{never}")).await.assert_problem(404, "not_found");
}

#[tokio::test(flavor = "multi_thread")]
async fn what_passes_by_itself_is_not_told() {
    let failing = Failing::start().await;
    let passing = RDKafkaRespErr::RD_KAFKA_RESP_ERR_NOT_LEADER_FOR_PARTITION;
    failing.broker.request_errors(RDKafkaApiKey::Produce, &[passing, passing]);
    let sent = failing.beside.post("alice", failing.body("hi")).await;
    assert_eq!(sent.status, 201, "{sent:?}");
    assert_eq!(failing.kept().await, ["hi"]);
}

#[tokio::test(flavor = "multi_thread")]
async fn what_never_left_was_not_done() {
    let failing = Failing::start().await;
    failing.broker.broker_down(1).unwrap();
    // Until the producer has noticed: what is on its way then may have arrived.
    let refused = eventually("it is refused", async || {
        let began = Instant::now();
        let answer = failing.beside.post("alice", failing.body("hi")).await;
        assert_eq!(answer.status, 503, "{answer:?}");
        assert!(began.elapsed() < WITHIN, "{:?}", began.elapsed());
        (answer.body["code"] == "append_refused").then_some(answer)
    });
    refused.await;
    failing.broker.broker_up(1).unwrap();
    let sent = eventually("it is taken again", async || {
        let sent = failing.beside.post("alice", failing.body("later")).await;
        (sent.status == 201).then_some(sent)
    });
    sent.await;
    assert!(failing.kept().await.contains(&"later".to_owned()));
}

#[tokio::test(flavor = "multi_thread")]
async fn what_may_have_been_done_is_told_and_a_retry_finds_out() {
    let failing = Failing::start().await;
    failing.broker.broker_round_trip_time(1, Duration::from_secs(30)).unwrap();
    let began = Instant::now();
    let unknown = failing.beside.post_with_key("alice", "a-key", failing.body("hi @bob")).await;
    unknown.assert_problem(503, "append_unknown");
    assert!(began.elapsed() < WITHIN, "{:?}", began.elapsed());
    failing.broker.broker_round_trip_time(1, Duration::ZERO).unwrap();
    let other = failing.beside.post_with_key("alice", "a-key", failing.body("something else")).await;
    other.assert_problem(409, "idempotency_key_reused");
    let retried = eventually("the retry is answered", async || {
        let retried = failing.beside.post_with_key("alice", "a-key", failing.body("hi @bob")).await;
        (retried.status == 200).then_some(retried)
    })
    .await;
    assert_eq!(retried.header("idempotent-replayed"), "true");
    // As often as it may be there, it is the same.
    let records = log::records(&failing.broker.bootstrap_servers(), &failing.system.config.kafka_topic).await;
    let sent: Vec<_> = records.iter().filter(|record| record.headers["ce_type"] == "MESSAGE_SENT").collect();
    assert!(!sent.is_empty() && sent.iter().all(|record| record.bytes == sent[0].bytes), "{records:?}");
    assert_eq!(sent[0].value["data"]["messageId"], retried.id());
}

#[tokio::test(flavor = "multi_thread")]
async fn whoever_hangs_up_changes_nothing() {
    let failing = Failing::start().await;
    failing.broker.broker_round_trip_time(1, Duration::from_millis(1_500)).unwrap();
    for number in 0..5 {
        let body = failing.body(&number.to_string());
        let request = failing.beside.ask("alice", "POST", "/api/messages").key(&format!("key-{number}")).json(&body);
        // Long enough for the command to come to its append, and not to be answered.
        let answer = tokio::time::timeout(Duration::from_millis(300), request.send()).await;
        assert!(answer.is_err(), "{answer:?}");
    }
    failing.broker.broker_round_trip_time(1, Duration::ZERO).unwrap();
    eventually("all are kept", async || {
        let mut kept = failing.kept().await;
        kept.sort_unstable();
        kept.dedup();
        (kept == ["0", "1", "2", "3", "4"]).then_some(())
    })
    .await;
    let retried = eventually("the answer is there", async || {
        let retried = failing.beside.post_with_key("alice", "key-3", failing.body("3")).await;
        (retried.status == 200).then_some(retried)
    })
    .await;
    assert_eq!(retried.data()["content"], "3");
}

#[tokio::test(flavor = "multi_thread")]
async fn what_was_counted_is_appended_although_its_client_has_hung_up() {
    let mut config = config();
    let redis = Proxy::start(&config.redis_url).await;
    config.redis_url = redis.url.clone();
    let system = System::with_roles(config, Roles::ALL).await;
    let conversation = system.conversation("alice", &["bob"]).await;
    // From here on the process knows who is in it, and a command asks Redis only to be counted.
    system.message("alice", &conversation, "before").await;
    redis.stall();
    let body = json!({"conversationId": conversation, "content": "after all"});
    let request = system.ask("alice", "POST", "/api/messages").json(&body);
    let answer = tokio::time::timeout(Duration::from_millis(150), request.send()).await;
    assert!(answer.is_err(), "{answer:?}");
    redis.restore();
    eventually("it is on the log", async || {
        let records = system.records_of(&conversation).await;
        records.iter().any(|record| record.value["data"]["content"] == "after all").then_some(())
    })
    .await;
}
