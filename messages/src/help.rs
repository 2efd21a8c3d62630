//! The `--help` of each command: it shows only the settings that the command uses.

use clap::{Command, CommandFactory};

use crate::cli::Cli;

/// The command line. A command accepts settings that it doesn't use, because all processes may share one environment;
/// its help hides them.
pub fn command() -> Command {
    Cli::command().mut_subcommands(hide_unused_settings)
}

fn hide_unused_settings(command: Command) -> Command {
    let prefixes = used_settings(command.get_name());
    let is_unused = |name: &str| prefixes.is_some_and(|prefixes| !prefixes.iter().any(|it| name.starts_with(it)));
    command
        .mut_args(|argument| {
            let hidden = argument.get_env().is_some() && is_unused(argument.get_id().as_str());
            argument.hide(hidden)
        })
        .mut_subcommands(hide_unused_settings)
}

/// The prefixes of the settings that a command uses; none if it uses all settings.
fn used_settings(command: &str) -> Option<&'static [&'static str]> {
    Some(match command {
        "projector" => &["environment", "host", "port", "auth", "kafka", "database", "redis", "log", "otlp"],
        "query-api" => &["environment", "host", "port", "auth", "kafka", "database", "redis", "cors", "log", "otlp"],
        "realtime" => &["environment", "host", "port", "auth", "kafka", "redis", "query", "cors", "log", "otlp"],
        "migrate" => &["database", "log"],
        "topic" => &["kafka", "log"],
        "doctor" => &["environment", "auth", "kafka", "database", "redis"],
        "demo" => &["environment", "kafka", "database", "log"],
        "replay" => &["environment", "auth_jwt", "kafka_brokers", "kafka_topic", "log"],
        "verify" => &["kafka_brokers", "kafka_topic", "database", "redis", "log"],
        "rebuild" => &["kafka", "database", "redis", "log"],
        "list" | "show" | "retry" | "discard" => &["kafka_brokers", "kafka_topic", "database", "log"],
        "token" => &["environment", "auth"],
        _ => return None,
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    fn help(command_line: &[&str]) -> String {
        let arguments = [&["messages"], command_line, &["--help"]].concat();
        command().try_get_matches_from(arguments).unwrap_err().to_string()
    }

    #[test]
    fn the_command_line_is_consistent() {
        command().debug_assert();
    }

    #[test]
    fn a_command_shows_the_settings_that_it_uses_and_accepts_the_others() {
        let all = help(&["all"]);
        for setting in ["AUTH_JWT_SECRET", "KAFKA_TOPIC", "DATABASE_URL", "REDIS_URL", "LIMIT_EDITS", "CORS_ORIGINS"] {
            assert!(all.contains(setting), "{setting}");
        }
        let token = help(&["token"]);
        assert!(token.contains("AUTH_JWT_SECRET") && token.contains("--hours") && !token.contains("KAFKA"), "{token}");
        let show = help(&["dead-letters", "show"]);
        assert!(show.contains("DATABASE_URL") && show.contains("<POSITION>") && !show.contains("LIMIT_"), "{show}");
        assert!(command().try_get_matches_from(["messages", "token", "alice", "--kafka-topic", "other"]).is_ok());
    }
}
