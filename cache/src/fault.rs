//! Why Redis can't do what the services need, in words for operators.

use redis::ErrorKind;

use crate::connection::CacheError;

/// Why Redis can't do what the services need.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum RedisFault {
    /// Nobody answers.
    #[error("{0}")]
    Gone(String),
    /// Redis answers, but refuses what the services do. The reason says what to do about it.
    #[error("{0}")]
    HalfWorks(String),
}

/// What Redis refuses with, and the reason in plain words. The first that an error contains counts: in some versions of
/// Redis, the error of a script has that of its command inside.
const REFUSALS: [(&str, &str); 19] = [
    ("READONLY", "Redis is a replica, and refuses to write: use the address of the primary"),
    ("OOM ", "Redis is full, and refuses to write: raise its maxmemory"),
    ("MISCONF", "Redis refuses to write because it can't save to its disk: make room, or turn saving off"),
    ("NOREPLICAS", "Redis refuses to write because too few replicas follow it: start them"),
    ("LOADING", "Redis is loading its data: wait until it has"),
    ("MASTERDOWN", "Redis is a replica that doesn't reach its primary: use the address of the primary"),
    ("BUSY", "Redis is busy with somebody's script: end it with SCRIPT KILL"),
    ("CROSSSLOT", CLUSTER),
    ("MOVED", CLUSTER),
    ("CLUSTERDOWN", CLUSTER),
    ("NOAUTH", "Redis wants a password: put it into the URL"),
    ("WRONGPASS", "Redis refuses the user or the password: correct the URL"),
    ("permissions to run", COMMAND_REFUSED),
    ("can't run this command", COMMAND_REFUSED),
    ("permissions to access one of the keys", KEY_REFUSED),
    ("can't access at least one of the keys", KEY_REFUSED),
    ("permissions to access one of the channels", CHANNEL_REFUSED),
    ("can't publish to the channel", CHANNEL_REFUSED),
    ("max number of clients", "Redis has as many clients as it may have: raise its maxclients"),
];

const CLUSTER: &str = "a Redis Cluster isn't supported: use one primary, with replicas if you like";
const COMMAND_REFUSED: &str =
    "the user of Redis may not use a command that the services need: allow it +@all -@dangerous";
const KEY_REFUSED: &str = "the user of Redis may not use the services' keys: allow it the pattern ~PREFIX:* of keys";
const CHANNEL_REFUSED: &str =
    "the user of Redis may not use the services' channels: allow it the pattern &PREFIX:* of channels";

impl CacheError {
    /// What this error says about Redis. `prefix` is that of the services' keys.
    pub(crate) fn fault(&self, prefix: &str) -> RedisFault {
        let error = &self.0;
        if error.is_timeout() {
            return RedisFault::Gone("Redis doesn't answer in time".to_owned());
        }
        if error.is_io_error() {
            return RedisFault::Gone(format!("nobody answers at the address of Redis: {error}"));
        }
        let text = format!("{} {error}", error.code().unwrap_or_default());
        let known = REFUSALS.iter().find(|(refusal, _)| text.contains(refusal));
        RedisFault::HalfWorks(match known {
            Some((_, reason)) => format!("{} ({error})", reason.replace("PREFIX", prefix)),
            None if error.kind() == ErrorKind::AuthenticationFailed => {
                format!("Redis refuses the user or the password: correct the URL ({error})")
            }
            None => format!("Redis refuses what the services need: {error}"),
        })
    }
}
