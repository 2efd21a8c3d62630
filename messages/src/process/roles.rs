//! The services that a process runs.

use std::fmt;

/// Which services a process runs: one of them, or all.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Roles {
    pub(super) command_api: bool,
    pub(super) projector: bool,
    pub(super) query_api: bool,
    pub(super) realtime: bool,
}

impl Roles {
    const NONE: Self = Self { command_api: false, projector: false, query_api: false, realtime: false };
    /// All services, and the chat page.
    pub const ALL: Self = Self { command_api: true, projector: true, query_api: true, realtime: true };
    /// Validates commands and appends events.
    pub const COMMAND_API: Self = Self { command_api: true, ..Self::NONE };
    /// Folds events into the read model.
    pub const PROJECTOR: Self = Self { projector: true, ..Self::NONE };
    /// Answers queries.
    pub const QUERY_API: Self = Self { query_api: true, ..Self::NONE };
    /// Relays events to sockets.
    pub const REALTIME: Self = Self { realtime: true, ..Self::NONE };

    pub(super) fn need_kafka(self) -> bool {
        self.command_api || self.projector || self.realtime
    }

    pub(super) fn need_postgres(self) -> bool {
        self.command_api || self.projector || self.query_api
    }

    /// The process's name in traces: `all`, or its service.
    pub fn service_name(self) -> &'static str {
        if self == Self::ALL { "all" } else { self.names().next().unwrap_or("none") }
    }

    /// The names of the services.
    pub(super) fn names(self) -> impl Iterator<Item = &'static str> {
        let all = [
            (self.command_api, "command-api"),
            (self.projector, "projector"),
            (self.query_api, "query-api"),
            (self.realtime, "realtime"),
        ];
        all.into_iter().filter_map(|(runs, name)| runs.then_some(name))
    }
}

impl fmt::Display for Roles {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.names().collect::<Vec<_>>().join(", "))
    }
}
