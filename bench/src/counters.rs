//! The counters of the measured process, from its `/metrics`.

use std::net::SocketAddr;

use crate::load::http::{self, HttpConnection};
use crate::totals::Totals;

pub(crate) const ALLOCATIONS: &str = "allocations";
pub(crate) const ALLOCATED_BYTES: &str = "bytes allocated";
pub(crate) const REDIS_REQUESTS: &str = "round trips to Redis";
pub(crate) const POSTGRES_QUERIES: &str = "operations on Postgres";
pub(crate) const KAFKA_REQUESTS: &str = "requests to Kafka";

/// The names of the counters in reports and of their metrics, in the order in which reports show them.
const METRICS: [(&str, &str); 5] = [
    (ALLOCATIONS, "allocations_total"),
    (ALLOCATED_BYTES, "allocated_bytes_total"),
    (REDIS_REQUESTS, "redis_requests_total"),
    (POSTGRES_QUERIES, "postgres_queries_total"),
    (KAFKA_REQUESTS, "kafka_requests_total"),
];

/// The names of the counters in reports.
pub(crate) fn names() -> impl Iterator<Item = &'static str> {
    METRICS.into_iter().map(|(name, _)| name)
}

/// Reads the counters. A floor has none.
pub(crate) async fn read(address: SocketAddr) -> Totals {
    let mut totals = Totals::default();
    let Ok(mut connection) = HttpConnection::open(&address.to_string()).await else { return totals };
    let Ok(response) = connection.send(&http::get("/metrics", "", "")).await else { return totals };
    if response.status == 200 {
        let text = String::from_utf8_lossy(connection.body(response));
        for (name, metric) in METRICS {
            totals.set(name, sum(&text, metric));
        }
    }
    totals
}

/// The sum of all series of a metric in Prometheus's text format; none without any.
fn sum(text: &str, metric: &str) -> Option<f64> {
    let values = text.lines().filter_map(|line| {
        let rest = line.strip_prefix(metric)?;
        let value = if rest.starts_with('{') { rest.rsplit_once('}')?.1 } else { rest };
        value.strip_prefix(' ')?.trim().parse::<f64>().ok()
    });
    values.fold(None, |sum, value| Some(sum.unwrap_or_default() + value))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn all_series_of_a_metric_add_up_and_a_missing_metric_is_missing() {
        let text =
            "# TYPE a_total counter\na_total{operation=\"x } y\"} 3\na_total{operation=\"z\"} 4\na_total_more 9\nb 1\n";
        assert_eq!(sum(text, "a_total"), Some(7.0));
        assert_eq!(sum(text, "b"), Some(1.0));
        assert_eq!(sum(text, "c_total"), None);
    }
}
