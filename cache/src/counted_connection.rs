//! Counts the requests to Redis: each is one round trip.

use redis::aio::{ConnectionLike, ConnectionManager};
use redis::{Cmd, Pipeline, RedisFuture, Value};

/// A connection that counts the requests of one operation: a command, a script or a pipeline.
pub(crate) struct CountedConnection {
    pub(crate) connection: ConnectionManager,
    pub(crate) operation: &'static str,
}

impl CountedConnection {
    fn count(&self) {
        metrics::counter!("redis_requests_total", "operation" => self.operation).increment(1);
    }
}

impl ConnectionLike for CountedConnection {
    fn req_packed_command<'a>(&'a mut self, command: &'a Cmd) -> RedisFuture<'a, Value> {
        self.count();
        self.connection.req_packed_command(command)
    }

    fn req_packed_commands<'a>(
        &'a mut self,
        pipeline: &'a Pipeline,
        offset: usize,
        count: usize,
    ) -> RedisFuture<'a, Vec<Value>> {
        self.count();
        self.connection.req_packed_commands(pipeline, offset, count)
    }

    fn get_db(&self) -> i64 {
        self.connection.get_db()
    }
}
