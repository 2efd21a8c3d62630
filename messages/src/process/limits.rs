//! The limits of all crates, and those that are in force in a process.

use admin_api::LimitInForce;
use domain::limit_rows::{LimitRow, grouped};
use service::config::Config;

use super::{listener, shutdown, wait_for_services};

/// The limits of all crates, from the lowest up.
const LIMITS: [&[&[LimitRow]]; 13] = [
    domain::LIMITS,
    event_log::LIMITS,
    read_model::LIMITS,
    cache::LIMITS,
    service::LIMITS,
    read_path::LIMITS,
    replay::LIMITS,
    command_api::LIMITS,
    query_api::LIMITS,
    admin_api::LIMITS,
    projector::LIMITS,
    realtime::LIMITS,
    &[listener::LIMIT_ROWS, shutdown::LIMIT_ROWS, wait_for_services::LIMIT_ROWS],
];

/// The limits of all crates, for `docs/limits.md`.
pub fn limits() -> impl Iterator<Item = &'static LimitRow> {
    LIMITS.into_iter().flatten().copied().flatten()
}

/// The same limits with the values that they have under this configuration, section by section.
pub(super) fn limits_in_force(config: &Config) -> Vec<LimitInForce> {
    let in_force = limits().map(|row| {
        let value = row.value.in_words(|variable| setting(config, variable).map_or_else(String::new, grouped));
        LimitInForce { area: row.group.title(), limit: row.what, value, beyond: row.beyond, protects: row.protects }
    });
    let mut in_force: Vec<_> = limits().map(|row| row.group).zip(in_force).collect();
    in_force.sort_by_key(|(group, _)| *group);
    in_force.into_iter().map(|(_, limit)| limit).collect()
}

/// What a limit with a variable is set to. None for any other variable.
fn setting(config: &Config, variable: &str) -> Option<u64> {
    let limits = &config.limits;
    let value = match variable {
        "LIMIT_MESSAGES" => limits.limit_messages,
        "LIMIT_REACTIONS" => limits.limit_reactions,
        "LIMIT_EDITS" => limits.limit_edits,
        "LIMIT_DELETIONS" => limits.limit_deletions,
        "LIMIT_CONVERSATIONS" => limits.limit_conversations,
        "LIMIT_INVITATIONS" => limits.limit_invitations,
        "LIMIT_READ_MARKS" => limits.limit_read_marks,
        "LIMIT_TYPING" => limits.limit_typing,
        "LIMIT_QUERIES" => limits.limit_queries,
        "LIMIT_WINDOW_SECONDS" => limits.limit_window_seconds,
        "DATABASE_CONNECTIONS" => config.database_connections,
        _ => return None,
    };
    Some(value.into())
}

#[cfg(test)]
mod tests {
    use clap::Parser;
    use domain::limit_rows::LimitValue;

    use super::*;

    #[derive(Parser)]
    struct Settings {
        #[command(flatten)]
        config: Config,
    }

    #[test]
    fn every_limit_with_a_variable_has_the_value_that_is_set() {
        let mut config = Settings::parse_from(["messages"]).config;
        for row in limits() {
            if let LimitValue::Setting(variable) = row.value {
                assert!(setting(&config, variable).is_some(), "{variable}");
            }
        }
        config.limits.limit_invitations = 7_000;
        let in_force = limits_in_force(&config);
        let invitations = in_force.iter().find(|limit| limit.limit.starts_with("people invited")).unwrap();
        assert_eq!((invitations.area, invitations.value.as_str()), ("What a user may do in a window", "7,000"));
        assert_eq!(in_force.len(), limits().count());
    }
}
