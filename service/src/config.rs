//! Configuration: everything can be set in the environment, and the comments here are the `--help`.

use std::fmt;
use std::net::{IpAddr, Ipv4Addr};

use ::http::{HeaderValue, Uri};
use clap::builder::NonEmptyStringValueParser;
use clap::{Args, ValueEnum};
use tracing_subscriber::EnvFilter;

use crate::cors;
use crate::telemetry::LogFormat;

/// The secret of development mode. It protects nothing: there, everything listens on loopback unless HOST is set.
const DEVELOPMENT_SECRET: &str = "messages-development-secret-not-for-production";

/// How long a secret should be at least: as long as the hashes that it makes (RFC 7518, section 3.2).
pub const SECRET_BYTES: usize = 32;

/// How the process is run.
#[derive(Debug, Clone, Copy, PartialEq, Eq, ValueEnum)]
pub enum Environment {
    /// On one's own machine: a fixed secret, loopback by default, tokens for two users are printed.
    Development,
    /// For others.
    Production,
}

/// What every process can be told.
#[derive(Clone, Args)]
pub struct Config {
    /// development: a fixed secret unless one is set, listens on loopback, prints tokens for two users.
    /// production: refuses to start without a secret.
    #[arg(
        long,
        env = "MESSAGES_ENV",
        help_heading = "Process",
        value_name = "MESSAGES_ENV",
        value_enum,
        default_value = "production"
    )]
    pub environment: Environment,
    /// The address to listen on. Default: 127.0.0.1 in development, 0.0.0.0 otherwise.
    #[arg(long, env = "HOST", help_heading = "Process")]
    pub host: Option<IpAddr>,
    /// The port to listen on; 0 for any that is free.
    #[arg(long, env = "PORT", help_heading = "Process", default_value_t = 8080)]
    pub port: u16,
    /// The secret with which tokens are signed (HS256; its UTF-8 bytes are the key). The same for all
    /// processes. At least 32 characters are recommended.
    #[arg(long, env = "AUTH_JWT_SECRET", help_heading = "Process", hide_env_values = true)]
    pub auth_jwt_secret: Option<String>,
    /// Kafka's addresses, separated by commas.
    #[arg(long, env = "KAFKA_BROKERS", help_heading = "Kafka", default_value = "127.0.0.1:9092", value_parser = NonEmptyStringValueParser::new())]
    pub kafka_brokers: String,
    /// The topic: the system of record.
    #[arg(long, env = "KAFKA_TOPIC", help_heading = "Kafka", default_value = "messages", value_parser = topic_name)]
    pub kafka_topic: String,
    /// Another topic for typing events. Default: the same topic.
    #[arg(long, env = "KAFKA_TYPING_TOPIC", help_heading = "Kafka", value_parser = topic_name)]
    pub kafka_typing_topic: Option<String>,
    /// How many partitions the topic gets when it is made. Fixed for life.
    #[arg(long, env = "KAFKA_PARTITIONS", help_heading = "Kafka", default_value_t = 12, value_parser = clap::value_parser!(i32).range(1..=10_000))]
    pub kafka_partitions: i32,
    /// Postgres, for the read model.
    #[arg(
        long,
        env = "DATABASE_URL",
        help_heading = "Postgres",
        hide_env_values = true,
        default_value = "postgres://messages@127.0.0.1:5432/messages"
    )]
    pub database_url: String,
    /// The schema of the read model; made when it isn't there.
    #[arg(long, env = "DATABASE_SCHEMA", help_heading = "Postgres", default_value = "messages", value_parser = schema_name)]
    pub database_schema: String,
    /// The most connections to Postgres that a process opens.
    #[arg(long, env = "DATABASE_CONNECTIONS", help_heading = "Postgres", default_value_t = 16, value_parser = clap::value_parser!(u32).range(2..=1_000))]
    pub database_connections: u32,
    /// Redis, for caches, limits, reservations and presence.
    #[arg(
        long,
        env = "REDIS_URL",
        help_heading = "Redis",
        hide_env_values = true,
        default_value = "redis://127.0.0.1:6379"
    )]
    pub redis_url: String,
    /// What every key in Redis begins with.
    #[arg(long, env = "REDIS_PREFIX", help_heading = "Redis", default_value = "messages", value_parser = NonEmptyStringValueParser::new())]
    pub redis_prefix: String,
    /// Where realtime finds query-api, such as http://query-api:8080. Default: this process, in `messages all`.
    #[arg(long, env = "QUERY_API_URL", help_heading = "Process", value_parser = http_url)]
    pub query_api_url: Option<String>,
    /// The origins whose pages may use the API and the sockets, separated by commas, such as https://app.example; or *
    /// for any. Default: none but their own.
    #[arg(long, env = "CORS_ORIGINS", help_heading = "Process", value_delimiter = ',', value_parser = cors::origin)]
    pub cors_origins: Vec<HeaderValue>,
    /// What is logged: a level, or a filter such as info,projector=debug.
    #[arg(long, env = "LOG", help_heading = "Logs and traces", default_value = "info", value_parser = log_filter)]
    pub log: String,
    /// How log lines look.
    #[arg(long, env = "LOG_FORMAT", help_heading = "Logs and traces", value_enum, default_value = "text")]
    pub log_format: LogFormat,
    /// Where traces are sent (OTLP over HTTP), such as http://collector:4318. Default: nowhere. OpenTelemetry's other
    /// variables (OTEL_SERVICE_NAME, OTEL_TRACES_SAMPLER, OTEL_EXPORTER_OTLP_HEADERS, …) count, too.
    #[arg(long, env = "OTEL_EXPORTER_OTLP_ENDPOINT", value_name = "OTEL_EXPORTER_OTLP_ENDPOINT", help_heading = "Logs and traces", value_parser = http_url)]
    pub otlp_endpoint: Option<String>,
    #[command(flatten)]
    #[expect(missing_docs, reason = "its fields are the documentation")]
    pub limits: LimitConfig,
}

/// How much a user may do in a window.
#[derive(Debug, Clone, Copy, Args)]
pub struct LimitConfig {
    /// Messages a user may send in a window.
    #[arg(long, env = "LIMIT_MESSAGES", help_heading = "Limits of a user", default_value_t = 30, value_parser = clap::value_parser!(u32).range(1..))]
    pub limit_messages: u32,
    /// Reactions a user may add and remove in a window.
    #[arg(long, env = "LIMIT_REACTIONS", help_heading = "Limits of a user", default_value_t = 100, value_parser = clap::value_parser!(u32).range(1..))]
    pub limit_reactions: u32,
    /// Edits a user may make in a window.
    #[arg(long, env = "LIMIT_EDITS", help_heading = "Limits of a user", default_value_t = 20, value_parser = clap::value_parser!(u32).range(1..))]
    pub limit_edits: u32,
    /// Messages a user may delete in a window.
    #[arg(long, env = "LIMIT_DELETIONS", help_heading = "Limits of a user", default_value_t = 10, value_parser = clap::value_parser!(u32).range(1..))]
    pub limit_deletions: u32,
    /// Conversations a user may begin in a window.
    #[arg(long, env = "LIMIT_CONVERSATIONS", help_heading = "Limits of a user", default_value_t = 20, value_parser = clap::value_parser!(u32).range(1..))]
    pub limit_conversations: u32,
    /// Read marks a user may set in a window.
    #[arg(long, env = "LIMIT_READ_MARKS", help_heading = "Limits of a user", default_value_t = 120, value_parser = clap::value_parser!(u32).range(1..))]
    pub limit_read_marks: u32,
    /// The window, in seconds from the first counted command.
    #[arg(long, env = "LIMIT_WINDOW_SECONDS", help_heading = "Limits of a user", default_value_t = 60, value_parser = clap::value_parser!(u32).range(1..=86_400))]
    pub limit_window_seconds: u32,
}

/// A configuration with which nothing can be started.
#[derive(Debug, thiserror::Error)]
pub enum ConfigError {
    /// Production without a secret.
    #[error(
        "AUTH_JWT_SECRET is not set: it is the key that tokens are signed with. Set it, or run with \
         MESSAGES_ENV=development on your own machine"
    )]
    MissingSecret,
    /// A secret that is none.
    #[error("AUTH_JWT_SECRET is empty; set it to at least 32 random characters")]
    EmptySecret,
}

impl Config {
    /// The secret that tokens are signed with.
    ///
    /// # Errors
    /// When there is none and this is not development.
    pub fn secret(&self) -> Result<&str, ConfigError> {
        match (&self.auth_jwt_secret, self.environment) {
            (Some(secret), _) if secret.trim().is_empty() => Err(ConfigError::EmptySecret),
            (Some(secret), _) => Ok(secret),
            (None, Environment::Development) => Ok(DEVELOPMENT_SECRET),
            (None, Environment::Production) => Err(ConfigError::MissingSecret),
        }
    }

    /// Whether the secret is one that can be guessed.
    pub fn has_weak_secret(&self) -> bool {
        self.environment == Environment::Production && self.secret().is_ok_and(|secret| secret.len() < SECRET_BYTES)
    }

    /// The address to listen on.
    pub fn listen_on(&self) -> (IpAddr, u16) {
        let default = match self.environment {
            Environment::Development => Ipv4Addr::LOCALHOST,
            Environment::Production => Ipv4Addr::UNSPECIFIED,
        };
        (self.host.unwrap_or(default.into()), self.port)
    }
}

/// What can be told to anyone: no secret, and no address that may have a password in it.
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
    let plain = |byte: u8| byte.is_ascii_alphanumeric() || matches!(byte, b'.' | b'_' | b'-');
    if (1..=249).contains(&text.len()) && text.bytes().all(plain) && text != "." && text != ".." {
        Ok(text.to_owned())
    } else {
        Err("must be 1 to 249 letters, digits, dots, underscores and hyphens, as Kafka has it".to_owned())
    }
}

fn http_url(text: &str) -> Result<String, String> {
    let url: Option<Uri> = text.parse().ok();
    let http = url.is_some_and(|url| matches!(url.scheme_str(), Some("http" | "https")) && url.host().is_some());
    if http {
        Ok(text.to_owned())
    } else {
        Err("must be an http or https URL with a host, such as http://127.0.0.1:8080".to_owned())
    }
}

fn log_filter(text: &str) -> Result<String, String> {
    EnvFilter::try_new(text).map(|_| text.to_owned()).map_err(|error| error.to_string())
}

fn schema_name(text: &str) -> Result<String, String> {
    let plain = |byte: u8| byte.is_ascii_lowercase() || byte.is_ascii_digit() || byte == b'_';
    let starts = text.bytes().next().is_some_and(|byte| byte.is_ascii_lowercase() || byte == b'_');
    if starts && text.len() <= 63 && text.bytes().all(plain) {
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
    fn a_wrong_value_refuses_to_start_and_names_its_key() {
        for (argument, wrong, key) in [
            ("--environment", "staging", "MESSAGES_ENV"),
            ("--port", "70000", "PORT"),
            ("--kafka-brokers", "", "KAFKA_BROKERS"),
            ("--kafka-topic", "a topic", "KAFKA_TOPIC"),
            ("--kafka-typing-topic", "", "KAFKA_TYPING_TOPIC"),
            ("--kafka-partitions", "0", "KAFKA_PARTITIONS"),
            ("--database-schema", "a; drop", "DATABASE_SCHEMA"),
            ("--redis-prefix", "", "REDIS_PREFIX"),
            ("--query-api-url", "query-api:8080", "QUERY_API_URL"),
            ("--cors-origins", "https://app.example/path", "CORS_ORIGINS"),
            ("--log", "info,=", "LOG"),
            ("--limit-messages", "0", "LIMIT_MESSAGES"),
            ("--limit-window-seconds", "0", "LIMIT_WINDOW_SECONDS"),
        ] {
            let refused = config(&[argument, wrong]).unwrap_err();
            assert!(refused.contains(&format!("<{key}>")), "{refused}");
        }
    }

    #[test]
    fn every_value_is_called_in_messages_as_in_the_environment() {
        let command = Cli::command();
        for argument in command.get_arguments().filter(|argument| argument.get_env().is_some()) {
            let names = argument.get_value_names().unwrap();
            assert_eq!(names[0].as_str(), argument.get_env().unwrap(), "{}", argument.get_id());
        }
    }

    #[test]
    fn production_has_no_secret_unless_it_is_set() {
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
    fn a_configuration_can_be_logged_without_its_secrets() {
        let shown = format!(
            "{:?}",
            config(&[
                "--auth-jwt-secret",
                "hush-jwt",
                "--database-url",
                "postgres://a:hush-pg@b/c",
                "--redis-url",
                "redis://:hush-redis@b"
            ])
            .unwrap()
        );
        assert!(!shown.contains("hush"), "{shown}");
    }
}
