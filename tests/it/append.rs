//! Commands while Kafka fails: the answer says whether a command "was not done" or "may have been done", and a command
//! that has begun is finished although its client hung up.
//!
//! librdkafka's mock cluster injects the faults, so most tests here drive `command-api` without a process around it.

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
use read_path::PositionWait;
use serde_json::{Value, json};
use service::cors::CorsPolicy;
use service::lifecycle;
use service::token::PositionTokens;
use tokio::net::TcpListener;
use tokio::sync::watch;
use tokio_util::sync::{CancellationToken, DropGuard};

use crate::harness::eventually;
use crate::harness::log;
use crate::harness::process::command;
use crate::harness::proxy::Proxy;
use crate::harness::system::{SECRET, System, config};

/// Within this time a client has its answer although Kafka doesn't answer.
const ANSWERED_WITHIN: Duration = Duration::from_secs(8);
/// How often in a minute a user may do each kind of command.
const LIMIT: u32 = 30;
const MESSAGE_TOO_LARGE: RDKafkaRespErr = RDKafkaRespErr::RD_KAFKA_RESP_ERR_MSG_SIZE_TOO_LARGE;
const NOT_LEADER: RDKafkaRespErr = RDKafkaRespErr::RD_KAFKA_RESP_ERR_NOT_LEADER_FOR_PARTITION;

/// A command API that appends to a faulty broker. Everything else is shared with a whole, healthy system.
struct FaultyKafka {
    healthy: System,
    /// The system whose commands go to the faulty broker.
    system: System,
    broker: MockCluster<'static, DefaultProducerContext>,
    /// A conversation of alice and bob.
    conversation: String,
    _stop: DropGuard,
}

impl FaultyKafka {
    async fn start() -> Self {
        let healthy = System::start().await;
        healthy.age_reservation_epoch().await;
        let conversation = healthy.conversation("alice", &["bob"]).await;
        let config = &healthy.config;
        let partitions = config.kafka_partitions;
        let broker = MockCluster::new(1).unwrap();
        broker.create_topic(&config.kafka_topic, partitions, 1).unwrap();
        let spec = TopicSpec { name: config.kafka_topic.clone(), partitions };
        let topic = ensure_topic(&config.kafka_brokers, &spec).await.unwrap();
        let producer = Producer::new(&broker.bootstrap_servers(), (&topic).into(), None).unwrap();
        producer.warm_up().await.unwrap();
        let api = CommandApi::new(Parts {
            auth: healthy.auth.clone(),
            tokens: PositionTokens::new(SECRET, topic.id, topic.partitions),
            producer,
            log: Arc::new(LogConsumer::new(&config.kafka_brokers, &topic.name, "test")),
            partitions: topic.partitions,
            cache: healthy.cache(),
            wait: PositionWait::new(Progress::follow(healthy.cache()), healthy.read_model()),
            read_model: healthy.read_model(),
            limits: Limits {
                messages: LIMIT,
                reactions: LIMIT,
                edits: LIMIT,
                deletions: LIMIT,
                conversations: LIMIT,
                invitations: LIMIT,
                read_marks: LIMIT,
                typing: LIMIT,
                window: Duration::from_secs(60),
            },
            append_block: watch::channel(None).1,
        });
        let listener = TcpListener::bind(("127.0.0.1", 0)).await.unwrap();
        let system = System::attach(config.clone(), &format!("http://{}", listener.local_addr().unwrap()));
        let shutdown = CancellationToken::new();
        let document = command_api::routes().into_openapi();
        let router = service::http::with_middleware(api.router(), &document, CorsPolicy::default());
        tokio::spawn(lifecycle::serve(listener, router, shutdown.clone()));
        Self { healthy, system, broker, conversation, _stop: shutdown.drop_guard() }
    }

    /// Fails the next appends with these errors, one after the other.
    fn fail_appends(&self, errors: &[RDKafkaRespErr]) {
        self.broker.request_errors(RDKafkaApiKey::Produce, errors);
    }

    /// Delays every answer of the broker.
    fn answer_after(&self, delay: Duration) {
        self.broker.broker_round_trip_time(1, delay).unwrap();
    }

    fn message(&self, content: &str) -> Value {
        json!({"conversationId": self.conversation, "content": content})
    }

    async fn records(&self) -> Vec<log::Record> {
        log::records(&self.broker.bootstrap_servers(), &self.healthy.config.kafka_topic).await
    }

    /// The contents of the messages that the broker has.
    async fn appended(&self) -> Vec<String> {
        let records = self.records().await;
        records.iter().map(|record| record.value["data"]["content"].as_str().unwrap().to_owned()).collect()
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn a_refused_append_leaves_the_key_unused_and_the_limit_as_it_was() {
    let kafka = FaultyKafka::start().await;

    kafka.fail_appends(&[MESSAGE_TOO_LARGE]);
    let refused = kafka.system.post_with_key("alice", "a-key", kafka.message("hi")).await;
    refused.assert_problem(503, "append_refused");
    assert_eq!(refused.header("retry-after"), "1");
    assert_eq!(kafka.appended().await, [""; 0]);

    let sent = kafka.system.post_with_key("alice", "a-key", kafka.message("something else")).await;
    assert_eq!((sent.status, sent.header("idempotent-replayed")), (201, ""), "{sent:?}");
    sent.assert_rate_limit(LIMIT, LIMIT - 1);
    assert_eq!(kafka.appended().await, ["something else"]);
}

#[tokio::test(flavor = "multi_thread")]
async fn no_query_waits_for_a_conversation_whose_append_was_refused() {
    let kafka = FaultyKafka::start().await;

    kafka.fail_appends(&[MESSAGE_TOO_LARGE]);
    let refused = kafka.system.post("alice", json!({"action": "conversation", "participantIds": ["carol"]})).await;
    refused.assert_problem(503, "append_refused");

    let id = ConversationId::direct(&"alice".parse().unwrap(), &"carol".parse().unwrap());
    kafka.healthy.get("alice", &format!("/api/conversations/{id}")).await.assert_problem(404, "not_found");
}

#[tokio::test(flavor = "multi_thread")]
async fn a_client_never_sees_a_transient_error_of_kafka() {
    let kafka = FaultyKafka::start().await;
    kafka.fail_appends(&[NOT_LEADER, NOT_LEADER]);
    let sent = kafka.system.post("alice", kafka.message("hi")).await;
    assert_eq!(sent.status, 201, "{sent:?}");
    assert_eq!(kafka.appended().await, ["hi"]);
}

#[tokio::test(flavor = "multi_thread")]
async fn a_command_that_never_left_for_kafka_is_refused_until_kafka_is_back() {
    let kafka = FaultyKafka::start().await;

    kafka.broker.broker_down(1).unwrap();
    // Until the producer notices: an event that is on its way by then may have arrived.
    eventually("the command is refused", async || {
        let began = Instant::now();
        let answer = kafka.system.post("alice", kafka.message("hi")).await;
        assert_eq!(answer.status, 503, "{answer:?}");
        assert!(began.elapsed() < ANSWERED_WITHIN, "{:?}", began.elapsed());
        (answer.body["code"] == "append_refused").then_some(())
    })
    .await;

    kafka.broker.broker_up(1).unwrap();
    eventually("the command is accepted again", async || {
        let sent = kafka.system.post("alice", kafka.message("later")).await;
        (sent.status == 201).then_some(())
    })
    .await;
    assert!(kafka.appended().await.contains(&"later".to_owned()));
}

#[tokio::test(flavor = "multi_thread")]
async fn a_command_without_a_known_outcome_says_so_and_a_retry_finds_the_outcome() {
    let kafka = FaultyKafka::start().await;

    kafka.answer_after(Duration::from_secs(30));
    let began = Instant::now();
    let unknown = kafka.system.post_with_key("alice", "a-key", kafka.message("hi @bob")).await;
    unknown.assert_problem(503, "append_unknown");
    assert!(began.elapsed() < ANSWERED_WITHIN, "{:?}", began.elapsed());

    kafka.answer_after(Duration::ZERO);
    let other = kafka.system.post_with_key("alice", "a-key", kafka.message("something else")).await;
    other.assert_problem(409, "idempotency_key_reused");
    let retried = eventually("the retry is answered", async || {
        let retried = kafka.system.post_with_key("alice", "a-key", kafka.message("hi @bob")).await;
        (retried.status == 200).then_some(retried)
    })
    .await;
    assert_eq!(retried.header("idempotent-replayed"), "true");

    // The event may be on the log more than once, but then every copy is the same.
    let records = kafka.records().await;
    let sent: Vec<_> = records.iter().filter(|record| record.headers["ce_type"] == "MESSAGE_SENT").collect();
    assert!(!sent.is_empty() && sent.iter().all(|record| record.bytes == sent[0].bytes), "{records:?}");
    assert_eq!(sent[0].value["data"]["messageId"], retried.id());
}

#[tokio::test(flavor = "multi_thread")]
async fn a_client_that_hangs_up_does_not_stop_its_command() {
    let kafka = FaultyKafka::start().await;

    kafka.answer_after(Duration::from_millis(1_500));
    for number in 0..5 {
        let body = kafka.message(&number.to_string());
        let request = kafka.system.ask("alice", "POST", "/api/messages").key(&format!("key-{number}")).json(&body);
        // Long enough for the command to reach its append, too short for its answer.
        let answer = tokio::time::timeout(Duration::from_millis(300), request.send()).await;
        assert!(answer.is_err(), "{answer:?}");
    }
    kafka.answer_after(Duration::ZERO);

    eventually("all five messages are appended", async || {
        let mut appended = kafka.appended().await;
        appended.sort_unstable();
        appended.dedup();
        (appended == ["0", "1", "2", "3", "4"]).then_some(())
    })
    .await;
    // The healthy log, from which a retry would get its response, doesn't have the event.
    eventually("the key is used", async || {
        let another = kafka.system.post_with_key("alice", "key-3", kafka.message("another")).await;
        (another.body["code"] == "idempotency_key_reused").then_some(())
    })
    .await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_command_that_was_counted_is_appended_after_its_client_hung_up() {
    let mut config = config();
    let redis = Proxy::start(&config.redis_url).await;
    config.redis_url = redis.url.clone();
    let system = System::with_roles(config, Roles::ALL).await;
    let conversation = system.conversation("alice", &["bob"]).await;
    // From here on the process knows the participants, and a command asks Redis only to be counted.
    system.message("alice", &conversation, "before").await;

    redis.stall();
    let body = json!({"conversationId": conversation, "content": "after all"});
    let request = system.ask("alice", "POST", "/api/messages").json(&body);
    let answer = tokio::time::timeout(Duration::from_millis(150), request.send()).await;
    assert!(answer.is_err(), "{answer:?}");
    redis.restore();

    eventually("the message is on the log", async || {
        let records = system.records_of(&conversation).await;
        records.iter().any(|record| record.value["data"]["content"] == "after all").then_some(())
    })
    .await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_command_that_waits_for_the_fold_is_on_the_log_once_however_often_it_is_retried() {
    // Nobody folds, and Redis is too young to know whether the key was used before.
    let config = config();
    assert!(command(&config, &["migrate"]).status().await.unwrap().success());
    let system = System::with_roles(config, Roles::COMMAND_API).await;
    let body = json!({"action": "conversation", "participantIds": ["bob"]});
    for _ in 0..3 {
        system.post_with_key("alice", "once", body.clone()).await.assert_problem(503, "append_unknown");
    }
    let created: Vec<_> = system.records().await;
    assert_eq!(created.len(), 1, "{created:?}");
}
