//! Counts the requests to Redis: each is one round trip.

use std::sync::Arc;

use redis::aio::ConnectionLike;
use redis::{Cmd, Pipeline, RedisFuture, RedisResult, Value};

use crate::reconnecting::ReconnectingConnection;

/// Executes commands in the place of Redis: a model of Redis, with which a simulation needs no sockets and no clock.
pub trait CommandExecutor: Send + Sync {
    /// Executes commands one after the other, with no others between them. Returns their replies.
    ///
    /// # Errors
    /// When Redis would reply to one of them with an error, or not at all.
    fn execute(&self, commands: &[&Cmd]) -> RedisResult<Vec<Value>>;
}

/// The connection that clones of a cache share.
#[derive(Clone)]
pub(crate) enum SharedConnection {
    Redis(ReconnectingConnection),
    Executor(Arc<dyn CommandExecutor>),
}

/// A connection that counts the requests of one operation: a command, a script or a pipeline.
pub(crate) struct CountedConnection {
    pub(crate) connection: SharedConnection,
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
        match &self.connection {
            SharedConnection::Redis(connection) => Box::pin(connection.execute(command)),
            SharedConnection::Executor(executor) => {
                let reply =
                    executor.execute(&[command]).map(|replies| replies.into_iter().next().unwrap_or(Value::Nil));
                Box::pin(std::future::ready(reply))
            }
        }
    }

    fn req_packed_commands<'a>(
        &'a mut self,
        pipeline: &'a Pipeline,
        offset: usize,
        count: usize,
    ) -> RedisFuture<'a, Vec<Value>> {
        self.count();
        match &self.connection {
            SharedConnection::Redis(connection) => Box::pin(connection.execute_all(pipeline, offset, count)),
            SharedConnection::Executor(executor) => {
                let replies = executor.execute(&pipeline.cmd_iter().collect::<Vec<_>>());
                // Of a transaction, only the reply to `EXEC` counts, which has all others.
                let replies = if offset == 0 { replies } else { replies.map(|all| vec![Value::Array(all)]) };
                Box::pin(std::future::ready(replies))
            }
        }
    }

    fn get_db(&self) -> i64 {
        match &self.connection {
            SharedConnection::Redis(connection) => connection.client().get_connection_info().redis_settings().db(),
            SharedConnection::Executor(_) => 0,
        }
    }
}
