//! How much work an action costs: round trips to Redis, statements on Postgres, requests to Kafka and allocations.
//!
//! Times depend on the machine, and these numbers don't. Each service runs in a process of its own, behind proxies that
//! count on the wire what it asks of Redis and Postgres. The metrics of the product must agree with them. CONTRIBUTING.md
//! says how to move a bound.

mod batch;
mod delivery;
mod memberships;
mod query;
mod send;
mod wait;

use std::time::{Duration, Instant};

use service::config::Config;

use crate::harness::process::ServiceProcess;
use crate::harness::system::{config, unlimited};
use crate::harness::traffic::{PostgresTraffic, PostgresTransaction, RedisCommand, RedisTraffic};
use crate::harness::{System, eventually};

/// How often a test runs the action that it measures.
const ACTIONS: usize = 200;
/// An action that takes longer may legitimately do more: a look-up of a key expires after a second, and Redis counts as
/// down after half a second.
const SLOW: Duration = Duration::from_millis(400);
/// How long a process is watched while it has nothing to do.
const IDLE: Duration = Duration::from_secs(2);
/// The most that a process does by itself in a second: requests to Redis, and transactions on Postgres. A projector does
/// 20.
const BACKGROUND_PER_SECOND: f64 = 23.0;
/// How much more a process may do by itself right after its start.
const BACKGROUND_AT_ONCE: f64 = 20.0;

/// A configuration of its own, with limits that no test reaches.
fn measured_config() -> Config {
    let mut config = config();
    unlimited(&mut config);
    config
}

/// One service in a process of its own, and what it asks of Redis and Postgres.
struct MeasuredService {
    process: ServiceProcess,
    redis: RedisTraffic,
    postgres: PostgresTraffic,
    /// The system, with requests to this service.
    system: System,
    started: Instant,
}

impl MeasuredService {
    /// Starts `messages` with these arguments, and waits until the service is ready.
    async fn start(config: &Config, arguments: &[&str]) -> Self {
        let started = Instant::now();
        let redis = RedisTraffic::to(&config.redis_url).await;
        let postgres = PostgresTraffic::to(&config.database_url).await;
        let mut own = config.clone();
        own.redis_url.clone_from(&redis.url);
        own.database_url.clone_from(&postgres.url);
        let process = ServiceProcess::start(&own, arguments).await;
        let system = System::attach(config.clone(), &process.url);
        Self { process, redis, postgres, system, started }
    }

    /// Runs an action [`ACTIONS`] times, one after the other, and returns what the process did meanwhile.
    async fn measure(&self, name: &str, mut action: impl AsyncFnMut(usize)) -> Work {
        let (before_idle, idle_since) = (self.allocations().await, Instant::now());
        tokio::time::sleep(IDLE).await;
        let idle = (self.allocations().await - before_idle) / idle_since.elapsed().as_secs_f64();
        let (requests, allocations) = (self.process.metric("redis_requests_total", "").await, self.allocations().await);
        let since = Instant::now();
        self.foreground();
        let (mut actions, mut round_trips, mut background) = (Vec::new(), 0, 0);
        for number in 0..ACTIONS {
            let began = Instant::now();
            action(number).await;
            let Foreground { action, all_round_trips, left_out } = self.foreground();
            if began.elapsed() < SLOW {
                actions.push(action);
            }
            round_trips += all_round_trips;
            background += left_out;
        }
        let requests = self.process.metric("redis_requests_total", "").await - requests;
        let seconds = since.elapsed().as_secs_f64();
        let allocations = (self.allocations().await - allocations - idle * seconds) / ACTIONS as f64;
        println!("{name}: {allocations:.1} allocations");
        assert_little(background, seconds);
        let difference = (requests - round_trips as f64).abs();
        assert!(
            difference <= BACKGROUND_AT_ONCE,
            "redis_requests_total counts {requests}, and the proxy counts {round_trips}"
        );
        assert!(actions.len() > ACTIONS / 2, "most actions took longer than {SLOW:?}; this machine is too busy");
        Work { name: name.to_owned(), actions, allocations }
    }

    /// What the process has asked since the last call, without what it does by itself.
    fn foreground(&self) -> Foreground {
        let mut round_trips = self.redis.take();
        let all_round_trips = round_trips.len();
        let mut left_out = 0;
        for commands in &mut round_trips {
            left_out += commands.extract_if(.., |command| is_background_command(command)).count();
        }
        round_trips.retain(|commands| !commands.is_empty());
        let mut transactions = self.postgres.take();
        left_out += transactions.extract_if(.., |transaction| is_background_transaction(transaction)).count();
        let action = Action { round_trips, statements: transactions.concat() };
        Foreground { action, all_round_trips, left_out }
    }

    async fn allocations(&self) -> f64 {
        self.process.metric("allocations_total", "").await
    }

    /// The requests of one kind of Kafka client since the start, and the seconds until then. Waits until the metric, which
    /// is some seconds late, includes at least as many as expected.
    async fn kafka_requests(&self, client: &str, at_least: usize) -> (f64, f64) {
        let labels = format!("client=\"{client}\"");
        let requests = eventually("the metrics include the requests to Kafka", async || {
            let requests = self.process.metric("kafka_requests_total", &labels).await;
            (requests >= at_least as f64).then_some(requests)
        })
        .await;
        (requests, self.started.elapsed().as_secs_f64())
    }
}

/// What a process has asked in some time.
struct Foreground {
    /// What it asked for others.
    action: Action,
    all_round_trips: usize,
    /// How many commands and transactions were its own.
    left_out: usize,
}

/// What one action made a process ask of Redis and Postgres.
struct Action {
    /// The round trips, each with its commands.
    round_trips: Vec<Vec<RedisCommand>>,
    statements: Vec<String>,
}

/// What a process did for the measured actions.
struct Work {
    /// What the action is, for people.
    name: String,
    /// The actions that were not slow.
    actions: Vec<Action>,
    /// Allocations for each action.
    allocations: f64,
}

impl Work {
    /// The names of the commands of each round trip of an action, such as `HMGET GET`. All actions must have the same.
    #[track_caller]
    fn round_trips(&self) -> Vec<String> {
        self.of_each_action("round trips to Redis", |action| {
            let names = action.round_trips.iter().map(|commands| {
                let names: Vec<&str> = commands.iter().map(|command| command[0].as_str()).collect();
                names.join(" ")
            });
            names.collect()
        })
    }

    /// The statements of an action. All actions must have the same.
    #[track_caller]
    fn statements(&self) -> Vec<String> {
        self.of_each_action("statements on Postgres", |action| action.statements.clone())
    }

    #[track_caller]
    fn of_each_action(&self, what: &str, part: impl Fn(&Action) -> Vec<String>) -> Vec<String> {
        let first = part(&self.actions[0]);
        for action in &self.actions {
            assert_eq!(part(action), first, "{}: the {what} differ from action to action", self.name);
        }
        first
    }

    /// Asserts that an action allocates at most so often. Counted in a debug build; a release build has fewer.
    #[track_caller]
    fn assert_allocations(&self, max: f64) {
        assert!(
            self.allocations <= max,
            "{} allocates {:.1} times, more than {max}. If the work is worth it, raise the bound to 15 % above \
             this number, and say in the commit what it buys; see CONTRIBUTING.md",
            self.name,
            self.allocations
        );
    }
}

/// Asserts that a process did little by itself.
#[track_caller]
fn assert_little(background: usize, seconds: f64) {
    assert!(
        background as f64 <= BACKGROUND_PER_SECOND * seconds + BACKGROUND_AT_ONCE,
        "the process did {background} things by itself in {seconds:.1} s: is one of them part of the action?"
    );
}

/// Whether a process sends this command by itself: to connect, to follow the projector's progress, to keep a realtime
/// node alive, to trust the reservations and let them end, to publish unmoved progress and how fresh it is, and to check
/// its dependencies.
fn is_background_command(command: &RedisCommand) -> bool {
    let ends = |index: usize, endings: &[&str]| {
        command.get(index).is_some_and(|argument| endings.iter().any(|ending| argument.ends_with(ending)))
    };
    match command[0].as_str() {
        "CLIENT" | "HELLO" | "SUBSCRIBE" | "PING" => true,
        "GET" => ends(1, &[":generation", ":repairs"]) || command[1].contains(":node-counts:"),
        "HGETALL" => ends(1, &[":progress", ":as-of"]),
        "HVALS" => ends(1, &[":stalls"]),
        "TIME" => true,
        "ZRANGE" => ends(1, &[":nodes"]),
        "SCARD" => command[1].contains(":node-users:"),
        // The keys follow their number.
        "EVALSHA" if [":begun:", ":reservation:", ":readiness:"].iter().any(|kind| command[3].contains(kind)) => true,
        "EVALSHA" => match command[2].as_str() {
            "1" => ends(3, &[":reservations-since"]),
            "2" => ends(3, &[":nodes"]) || ends(3, &[":progress"]) && ends(4, &[":as-of"]),
            "3" => ends(3, &[":progress"]) && ends(5, &[":reservations-since"]),
            _ => false,
        },
        _ => false,
    }
}

/// Whether a process runs this transaction by itself: to connect, to hold its leases, to look for jobs, to check what the
/// read model is and whether Postgres answers, to trust the reservations, and to sample the lag for admins ("FROM
/// generations", too).
fn is_background_transaction(transaction: &PostgresTransaction) -> bool {
    let own = [
        "'messages.connection'",
        "set_config('search_path'",
        "FROM generations",
        "UPDATE leases",
        "UPDATE jobs",
        "FROM projection JOIN partitions",
        "SELECT 1 FROM projection",
        "\'health check\'",
        "FROM dead_letters",
        "SELECT noted_at, generation",
    ];
    transaction.iter().any(|statement| own.iter().any(|part| statement.contains(part)))
}
