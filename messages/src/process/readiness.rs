//! What `/readyz` checks, for the roles of a process.

use std::collections::BTreeMap;
use std::sync::Arc;

use cache::RedisFault;
use event_log::LogError;
use read_model::ReadModelError;
use service::health::{Fault, HealthChecks};

use super::resources::SharedResources;
use super::roles::Roles;

/// The checks of the services that the process requires; of Redis, which is optional; and of the partitions that make no
/// progress, which hurt only what is on them. Realtime adds checks of its own.
pub(super) fn checks(resources: &SharedResources, roles: Roles) -> HealthChecks {
    let cache = resources.cache.clone();
    let mut checks = HealthChecks::default().with_optional("redis", move || {
        let cache = cache.clone();
        async move { cache.check_writable().await.map_err(redis_fault) }
    });
    if resources.cache.has_evictable_instance() {
        let cache = resources.cache.clone();
        checks = checks.with_optional("redis-cache", move || {
            let cache = cache.clone();
            async move { cache.check_evictable_writable().await.map_err(redis_fault) }
        });
    }
    let (progress, stalls, partitions) =
        (resources.progress.clone(), resources.stalls.clone(), resources.topic.partitions);
    checks = checks.with_optional("projection", move || {
        let mut stalled = progress.stalled(partitions);
        // What this process's own projector knows counts without Redis, too.
        stalled.extend(stalls.get());
        async move { stalls_report(&stalled).map_or(Ok(()), |report| Err(Fault::HalfWorks(report))) }
    });
    if roles.need_kafka() {
        let log = Arc::new(resources.consumer(&resources.topic.name, "readiness"));
        checks = checks.with_required("kafka", move || {
            let log = log.clone();
            async move { log.end_offsets().await.map(drop).map_err(kafka_fault) }
        });
    }
    let topic_guard = resources.topic_guard.clone();
    checks = checks.with_required("topic", move || {
        let mismatch = topic_guard.borrow().clone();
        async move { mismatch.map_or(Ok(()), |reason| Err(Fault::HalfWorks(reason))) }
    });
    if roles.need_postgres() {
        let read_model = resources.read_model.clone();
        checks = checks.with_required("postgres", move || {
            let read_model = read_model.clone();
            async move { read_model.check_readable().await.map_err(postgres_fault) }
        });
    }
    if roles.projector {
        let read_model = resources.read_model.clone();
        let check = move || {
            let read_model = read_model.clone();
            async move { read_model.check_writable().await.map_err(postgres_fault) }
        };
        // Other services go on with what is folded. Were they not ready, no process would serve them.
        checks = if roles == Roles::PROJECTOR {
            checks.with_required("postgres-writes", check)
        } else {
            checks.with_optional("postgres-writes", check)
        };
    }
    checks
}

fn redis_fault(fault: RedisFault) -> Fault {
    match fault {
        RedisFault::Gone(reason) => Fault::Gone(reason),
        RedisFault::HalfWorks(reason) => Fault::HalfWorks(reason),
    }
}

fn kafka_fault(error: LogError) -> Fault {
    if error.is_without_answer() { Fault::Gone(error.to_string()) } else { Fault::HalfWorks(error.to_string()) }
}

fn postgres_fault(error: ReadModelError) -> Fault {
    match error {
        ReadModelError::Unreachable(_) => Fault::Gone(error.to_string()),
        _ => Fault::HalfWorks(error.to_string()),
    }
}

/// Names the partitions that make no progress, by reason; none if there are none.
pub(crate) fn stalls_report(stalled: &BTreeMap<i32, String>) -> Option<String> {
    let mut by_reason: BTreeMap<&str, Vec<String>> = BTreeMap::new();
    for (partition, reason) in stalled {
        by_reason.entry(reason).or_default().push(partition.to_string());
    }
    let parts: Vec<String> = by_reason
        .into_iter()
        .map(|(reason, partitions)| format!("no progress on partitions {}: {reason}", partitions.join(", ")))
        .collect();
    (!parts.is_empty()).then(|| parts.join("; "))
}
