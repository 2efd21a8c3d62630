//! The configuration of every process, from options or the environment.
//!
//! The comments on the options are the text of `--help`: the first line is the summary, which `-h` shows alone. A
//! configuration must never reveal its secrets when it is logged.

use std::fmt;
use std::net::{IpAddr, Ipv4Addr};

use ::http::{HeaderValue, Uri};
use clap::builder::NonEmptyStringValueParser;
use clap::{Args, ValueEnum};

use crate::auth::{Auth, parse_cookie_name};
use crate::cors::{self, CorsPolicy};
use crate::telemetry::{LogFormat, parse_filter};

/// The secret of development mode. It protects nothing: development mode listens on loopback unless HOST is set.
const DEVELOPMENT_SECRET: &str = "messages-development-secret-not-for-production";

/// The topic of events, unless the operator names another one.
pub const DEFAULT_TOPIC: &str = "messages";
/// The number of partitions of a new topic, unless the operator chooses another one.
pub const DEFAULT_PARTITIONS: i32 = 12;

/// How many bytes a secret should have at least: as many as the hashes made with it (RFC 7518, section 3.2).
pub const SECRET_BYTES: usize = 32;

domain::limit_rows! {
    Rates, "messages sent", Setting "LIMIT_MESSAGES", "429 `rate_limited`", "the log, and all who read the conversation";
    Rates, "reactions added and removed, together", Setting "LIMIT_REACTIONS", "429 `rate_limited`", "the log, and all who read the conversation";
    Rates, "messages edited", Setting "LIMIT_EDITS", "429 `rate_limited`", "the log, and all who read the conversation";
    Rates, "messages deleted", Setting "LIMIT_DELETIONS", "429 `rate_limited`", "the log, and all who read the conversation";
    Rates, "conversations created", Setting "LIMIT_CONVERSATIONS", "429 `rate_limited`", "the lists of those who are invited";
    Rates, "people invited to them", Setting "LIMIT_INVITATIONS", "429 `rate_limited`", "the projector, which writes a row for each";
    Rates, "read marks set", Setting "LIMIT_READ_MARKS", "429 `rate_limited`", "the log, and the others' sockets";
    Rates, "typing starts and stops, together", Setting "LIMIT_TYPING", "429 `rate_limited`", "the log, and the others' sockets";
    Rates, "queries", Setting "LIMIT_QUERIES", "429 `rate_limited`", "Postgres, and the other users' queries";
    Rates, "seconds of a window, from the first request that counts", Setting "LIMIT_WINDOW_SECONDS", "the next window begins", "what the rows above protect";
    Services, "connections to Postgres that a process opens for requests", Setting "DATABASE_CONNECTIONS", "operations wait for a connection", "Postgres, and the other processes";
}

/// For whom the process runs.
#[derive(Debug, Clone, Copy, PartialEq, Eq, ValueEnum)]
pub enum Environment {
    /// On your own machine: a fixed secret unless you set one, loopback unless you set HOST, and printed tokens for two users
    Development,
    /// For real users: the process refuses to start without a secret
    Production,
}

/// The settings that all commands share.
#[derive(Clone, Args)]
pub struct Config {
    /// Choose the defaults for development or production
    #[arg(
        long,
        env = "MESSAGES_ENV",
        help_heading = "Process",
        value_name = "MESSAGES_ENV",
        value_enum,
        default_value = "production"
    )]
    pub environment: Environment,
    /// Listen on this IP address
    ///
    /// Default: 127.0.0.1 in development, 0.0.0.0 (all interfaces) in production.
    #[arg(long, env = "HOST", help_heading = "Process")]
    pub host: Option<IpAddr>,
    /// Listen on this port; 0 picks a free one
    #[arg(long, env = "PORT", help_heading = "Process", default_value_t = 8080)]
    pub port: u16,
    /// Sign and verify users' tokens with this secret (HS256)
    ///
    /// Use the same secret for all processes, and at least 32 random characters. Its UTF-8 bytes are the key. Required
    /// in production.
    #[arg(long, env = "AUTH_JWT_SECRET", help_heading = "Process", hide_env_values = true)]
    pub auth_jwt_secret: Option<String>,
    /// Connect to these Kafka brokers: host:port, separated by commas
    #[arg(long, env = "KAFKA_BROKERS", help_heading = "Kafka", default_value = "127.0.0.1:9092", value_parser = NonEmptyStringValueParser::new())]
    pub kafka_brokers: String,
    /// Store all events in this topic, which is the system of record
    #[arg(long, env = "KAFKA_TOPIC", help_heading = "Kafka", default_value = DEFAULT_TOPIC, value_parser = topic_name)]
    pub kafka_topic: String,
    /// Write typing events to this topic instead of the main one
    #[arg(long, env = "KAFKA_TYPING_TOPIC", help_heading = "Kafka", value_parser = topic_name)]
    pub kafka_typing_topic: Option<String>,
    /// Create a missing topic with this many partitions
    ///
    /// You can't change the number later.
    #[arg(long, env = "KAFKA_PARTITIONS", help_heading = "Kafka", default_value_t = DEFAULT_PARTITIONS, value_parser = clap::value_parser!(i32).range(1..=10_000))]
    pub kafka_partitions: i32,
    /// Keep the read model in this Postgres database
    #[arg(
        long,
        env = "DATABASE_URL",
        help_heading = "Postgres",
        hide_env_values = true,
        default_value = "postgres://messages@127.0.0.1:5432/messages"
    )]
    pub database_url: String,
    /// Keep the read model in this schema; the projector creates it when it is missing
    #[arg(long, env = "DATABASE_SCHEMA", help_heading = "Postgres", default_value = "messages", value_parser = schema_name)]
    pub database_schema: String,
    /// Open at most this many connections to Postgres per process
    #[arg(long, env = "DATABASE_CONNECTIONS", help_heading = "Postgres", default_value_t = 16, value_parser = clap::value_parser!(u32).range(2..=1_000))]
    pub database_connections: u32,
    /// Use this Redis for caches, limits, idempotency reservations and presence
    ///
    /// Without Redis, commands and queries still work, but slower.
    #[arg(
        long,
        env = "REDIS_URL",
        help_heading = "Redis",
        hide_env_values = true,
        default_value = "redis://127.0.0.1:6379"
    )]
    pub redis_url: String,
    /// Keep what Redis may evict, such as cached views, in this other Redis
    ///
    /// It may have any eviction policy. Default: everything is in the Redis of REDIS_URL, which must not evict.
    #[arg(long, env = "REDIS_CACHE_URL", help_heading = "Redis", hide_env_values = true, value_parser = NonEmptyStringValueParser::new())]
    pub redis_cache_url: Option<String>,
    /// Begin the name of every key in Redis with this prefix
    #[arg(long, env = "REDIS_PREFIX", help_heading = "Redis", default_value = "messages", value_parser = NonEmptyStringValueParser::new())]
    pub redis_prefix: String,
    /// Let realtime query this URL, such as http://query-api:8080
    ///
    /// Default: the process itself, in `messages all`. Required for `messages realtime`.
    #[arg(long, env = "QUERY_API_URL", help_heading = "Process", value_parser = http_url)]
    pub query_api_url: Option<String>,
    /// Allow pages of these origins to use the API and the sockets (CORS)
    ///
    /// Separate origins such as https://app.example by commas, or allow any origin with *. Default: only pages of the
    /// API's own origin.
    #[arg(long, env = "CORS_ORIGINS", help_heading = "Process", value_delimiter = ',', value_parser = cors::parse_origin)]
    pub cors_origins: Vec<HeaderValue>,
    /// Also accept users' tokens in the cookie of this name
    ///
    /// A request that changes something, and a socket, must then come from a page of the same site, or of an origin that
    /// CORS_ORIGINS names (* names none). Give the cookie the attributes HttpOnly, Secure and SameSite. Default: cookies
    /// are ignored.
    #[arg(long, env = "AUTH_COOKIE", help_heading = "Process", value_parser = parse_cookie_name)]
    pub auth_cookie: Option<String>,
    /// Log at this level, or by a filter such as info,projector=debug
    #[arg(long, env = "LOG", help_heading = "Logs and traces", default_value = "info", value_parser = log_filter)]
    pub log: String,
    /// Write log lines in this format
    #[arg(long, env = "LOG_FORMAT", help_heading = "Logs and traces", value_enum, default_value = "text")]
    pub log_format: LogFormat,
    /// Export traces to this collector (OTLP over HTTP), such as http://collector:4318
    ///
    /// Default: traces aren't exported. OpenTelemetry's other variables apply too: OTEL_SERVICE_NAME,
    /// OTEL_TRACES_SAMPLER, OTEL_EXPORTER_OTLP_HEADERS, …
    #[arg(long, env = "OTEL_EXPORTER_OTLP_ENDPOINT", value_name = "OTEL_EXPORTER_OTLP_ENDPOINT", help_heading = "Logs and traces", value_parser = http_url)]
    pub otlp_endpoint: Option<String>,
    #[command(flatten)]
    #[expect(missing_docs, reason = "its fields are the documentation")]
    pub limits: LimitConfig,
}

/// How many requests of each kind a user may send in a window.
#[derive(Debug, Clone, Copy, Args)]
pub struct LimitConfig {
    /// Allow each user this many new messages per window
    #[arg(long, env = "LIMIT_MESSAGES", help_heading = "Limits per user", default_value_t = 30, value_parser = clap::value_parser!(u32).range(1..))]
    pub limit_messages: u32,
    /// Allow each user this many added and removed reactions per window
    #[arg(long, env = "LIMIT_REACTIONS", help_heading = "Limits per user", default_value_t = 100, value_parser = clap::value_parser!(u32).range(1..))]
    pub limit_reactions: u32,
    /// Allow each user this many edits per window
    #[arg(long, env = "LIMIT_EDITS", help_heading = "Limits per user", default_value_t = 20, value_parser = clap::value_parser!(u32).range(1..))]
    pub limit_edits: u32,
    /// Allow each user this many deleted messages per window
    #[arg(long, env = "LIMIT_DELETIONS", help_heading = "Limits per user", default_value_t = 10, value_parser = clap::value_parser!(u32).range(1..))]
    pub limit_deletions: u32,
    /// Allow each user this many new conversations per window
    #[arg(long, env = "LIMIT_CONVERSATIONS", help_heading = "Limits per user", default_value_t = 20, value_parser = clap::value_parser!(u32).range(1..))]
    pub limit_conversations: u32,
    /// Let each user invite this many people to new conversations per window
    #[arg(long, env = "LIMIT_INVITATIONS", help_heading = "Limits per user", default_value_t = 2_000, value_parser = clap::value_parser!(u32).range(1..))]
    pub limit_invitations: u32,
    /// Allow each user this many read marks per window
    #[arg(long, env = "LIMIT_READ_MARKS", help_heading = "Limits per user", default_value_t = 120, value_parser = clap::value_parser!(u32).range(1..))]
    pub limit_read_marks: u32,
    /// Allow each user this many typing starts and stops per window
    #[arg(long, env = "LIMIT_TYPING", help_heading = "Limits per user", default_value_t = 60, value_parser = clap::value_parser!(u32).range(1..))]
    pub limit_typing: u32,
    /// Allow each user this many queries per window
    #[arg(long, env = "LIMIT_QUERIES", help_heading = "Limits per user", default_value_t = 600, value_parser = clap::value_parser!(u32).range(1..))]
    pub limit_queries: u32,
    /// Let a window last this many seconds; it begins with the first counted request
    #[arg(long, env = "LIMIT_WINDOW_SECONDS", help_heading = "Limits per user", default_value_t = 60, value_parser = clap::value_parser!(u32).range(1..=86_400))]
    pub limit_window_seconds: u32,
}

/// Why a process refuses to start with its configuration.
#[derive(Debug, thiserror::Error)]
pub enum ConfigError {
    /// Production has no secret.
    #[error(
        "AUTH_JWT_SECRET is not set: it is the key that signs users' tokens. Set it, or run with \
         MESSAGES_ENV=development on your own machine"
    )]
    MissingSecret,
    /// The secret is empty or blank.
    #[error("AUTH_JWT_SECRET is empty; set it to at least 32 random characters")]
    EmptySecret,
}

impl Config {
    /// The secret that signs users' tokens.
    ///
    /// # Errors
    /// When the secret is blank, or missing in production.
    pub fn secret(&self) -> Result<&str, ConfigError> {
        match (&self.auth_jwt_secret, self.environment) {
            (Some(secret), _) if secret.trim().is_empty() => Err(ConfigError::EmptySecret),
            (Some(secret), _) => Ok(secret),
            (None, Environment::Development) => Ok(DEVELOPMENT_SECRET),
            (None, Environment::Production) => Err(ConfigError::MissingSecret),
        }
    }

    /// What verifies and signs tokens.
    ///
    /// # Errors
    /// When the secret is blank, or missing in production.
    pub fn auth(&self) -> Result<Auth, ConfigError> {
        let auth = Auth::new(self.secret()?);
        Ok(match &self.auth_cookie {
            Some(name) => auth.with_cookie(name, &self.cors_origins),
            None => auth,
        })
    }

    /// The pages of other origins that may use the API. They may let the browser add cookies only if we read one.
    pub fn cors_policy(&self) -> CorsPolicy<'_> {
        CorsPolicy { origins: &self.cors_origins, allows_credentials: self.auth_cookie.is_some() }
    }

    /// Whether the secret is too short for production: an attacker may guess it.
    pub fn has_weak_secret(&self) -> bool {
        self.environment == Environment::Production && self.secret().is_ok_and(|secret| secret.len() < SECRET_BYTES)
    }

    /// The IP address and the port to listen on.
    pub fn listen_on(&self) -> (IpAddr, u16) {
        let default = match self.environment {
            Environment::Development => Ipv4Addr::LOCALHOST,
            Environment::Production => Ipv4Addr::UNSPECIFIED,
        };
        (self.host.unwrap_or(default.into()), self.port)
    }
}

/// Shows only what anyone may read: no secret, and no URL that may include a password.
impl fmt::Debug for Config {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Config")
            .field("environment", &self.environment)
            .field("listen_on", &self.listen_on())
            .field("kafka_brokers", &self.kafka_brokers)
            .field("kafka_topic", &self.kafka_topic)
            .field("kafka_typing_topic", &self.kafka_typing_topic)
            .field("database_schema", &self.database_schema)
            .field("redis_prefix", &self.redis_prefix)
            .field("limits", &self.limits)
            .finish_non_exhaustive()
    }
}

fn topic_name(text: &str) -> Result<String, String> {
    let is_allowed = |byte: u8| byte.is_ascii_alphanumeric() || matches!(byte, b'.' | b'_' | b'-');
    if (1..=249).contains(&text.len()) && text.bytes().all(is_allowed) && text != "." && text != ".." {
        Ok(text.to_owned())
    } else {
        Err("must be a name that Kafka allows: 1 to 249 letters, digits, dots, underscores and hyphens, not . or .."
            .to_owned())
    }
}

fn http_url(text: &str) -> Result<String, String> {
    let url: Option<Uri> = text.parse().ok();
    let is_http = url.is_some_and(|url| matches!(url.scheme_str(), Some("http" | "https")) && url.host().is_some());
    if is_http {
        Ok(text.to_owned())
    } else {
        Err("must be an http or https URL with a host, such as http://127.0.0.1:8080".to_owned())
    }
}

fn log_filter(text: &str) -> Result<String, String> {
    parse_filter(text).map(|_| text.to_owned())
}

fn schema_name(text: &str) -> Result<String, String> {
    let is_allowed = |byte: u8| byte.is_ascii_lowercase() || byte.is_ascii_digit() || byte == b'_';
    let has_valid_start = text.bytes().next().is_some_and(|byte| byte.is_ascii_lowercase() || byte == b'_');
    if has_valid_start && text.len() <= 63 && text.bytes().all(is_allowed) {
        Ok(text.to_owned())
    } else {
        Err("must be 1 to 63 lower-case letters, digits and underscores, not starting with a digit".to_owned())
    }
}

#[cfg(test)]
mod tests {
    use clap::{CommandFactory, Parser};

    use super::*;

    #[derive(Parser)]
    struct Cli {
        #[command(flatten)]
        config: Config,
    }

    fn config(arguments: &[&str]) -> Result<Config, String> {
        let all = [&["messages"], arguments].concat();
        Cli::try_parse_from(all).map(|cli| cli.config).map_err(|error| error.to_string())
    }

    #[test]
    fn an_error_names_the_variable_of_an_invalid_value() {
        for (argument, invalid, variable) in [
            ("--environment", "staging", "MESSAGES_ENV"),
            ("--port", "70000", "PORT"),
            ("--kafka-brokers", "", "KAFKA_BROKERS"),
            ("--kafka-topic", "a topic", "KAFKA_TOPIC"),
            ("--kafka-typing-topic", "", "KAFKA_TYPING_TOPIC"),
            ("--kafka-partitions", "0", "KAFKA_PARTITIONS"),
            ("--database-schema", "a; drop", "DATABASE_SCHEMA"),
            ("--redis-cache-url", "", "REDIS_CACHE_URL"),
            ("--redis-prefix", "", "REDIS_PREFIX"),
            ("--query-api-url", "query-api:8080", "QUERY_API_URL"),
            ("--cors-origins", "https://app.example/path", "CORS_ORIGINS"),
            ("--auth-cookie", "my session", "AUTH_COOKIE"),
            ("--log", "info,=", "LOG"),
            ("--limit-messages", "0", "LIMIT_MESSAGES"),
            ("--limit-window-seconds", "0", "LIMIT_WINDOW_SECONDS"),
        ] {
            let error = config(&[argument, invalid]).unwrap_err();
            assert!(error.contains(&format!("<{variable}>")), "{error}");
        }
    }

    #[test]
    fn errors_call_a_value_by_its_environment_variable() {
        let command = Cli::command();
        for argument in command.get_arguments().filter(|argument| argument.get_env().is_some()) {
            let names = argument.get_value_names().unwrap();
            assert_eq!(names[0].as_str(), argument.get_env().unwrap(), "{}", argument.get_id());
        }
    }

    #[test]
    fn production_needs_a_secret() {
        let mut config = config(&["--environment", "production"]).unwrap();
        config.auth_jwt_secret = None;
        assert!(config.secret().unwrap_err().to_string().contains("AUTH_JWT_SECRET"));
        config.auth_jwt_secret = Some(" ".to_owned());
        assert!(config.secret().unwrap_err().to_string().contains("AUTH_JWT_SECRET"));
        for (length, weak) in [(31, true), (32, false)] {
            config.auth_jwt_secret = Some("x".repeat(length));
            assert_eq!(config.has_weak_secret(), weak, "{length}");
        }
        config.auth_jwt_secret = None;
        config.environment = Environment::Development;
        assert!(config.secret().is_ok() && !config.has_weak_secret());
    }

    #[test]
    fn a_logged_configuration_has_no_secrets() {
        let secrets = [
            "--auth-jwt-secret=hush",
            "--database-url=postgres://a:hush@b/c",
            "--redis-url=redis://:hush@b",
            "--redis-cache-url=redis://:hush@c",
        ];
        let logged = format!("{:?}", config(&secrets).unwrap());
        assert!(!logged.contains("hush"), "{logged}");
    }
}
