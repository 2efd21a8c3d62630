//! What others publish to one channel, on a connection of its own that is known to be alive.

use std::time::Duration;

use futures_util::StreamExt;
use redis::aio::{PubSubSink, PubSubStream};
use redis::{ErrorKind, Msg, RedisError, Value};
use tokio::task::JoinHandle;

use crate::connection::CacheError;
use crate::reconnecting::{CONNECT_TIMEOUT, RESPONSE_TIMEOUT, ReconnectingConnection, Replacements};

/// The pause between two signs of life. On a connection that is dead although it is open, nothing else would tell.
const PING_INTERVAL: Duration = Duration::from_secs(2);

domain::limit_rows! {
    Services, "pause between two pings of a subscription to Redis", Time PING_INTERVAL, "the process subscribes again if Redis doesn't answer", "readers and sockets, who would hear nothing any more";
}

/// A subscription to one channel. It ends when its connection is dead, and when the connection for commands has been
/// replaced: the server at the other end is then no longer the right one.
pub(crate) struct Subscription {
    messages: PubSubStream,
    /// Ends when Redis doesn't answer a ping.
    pings: JoinHandle<()>,
    replacements: Replacements,
}

impl Subscription {
    /// Subscribes to a channel.
    ///
    /// # Errors
    /// When Redis doesn't answer in time, or refuses it.
    pub(crate) async fn open(connection: &ReconnectingConnection, channel: &str) -> Result<Self, CacheError> {
        let replacements = connection.replacements();
        let subscribe = async {
            let (mut sink, messages) = connection.client().get_async_pubsub().await?.split();
            sink.subscribe(channel).await?;
            Ok::<_, RedisError>((sink, messages))
        };
        let opened = tokio::time::timeout(CONNECT_TIMEOUT + RESPONSE_TIMEOUT, subscribe).await;
        let (sink, messages) = opened.map_err(|_| failed("subscribing took too long"))??;
        Ok(Self { messages, pings: tokio::spawn(ping(sink)), replacements })
    }

    /// Waits for the next publication. A call that is dropped loses nothing.
    ///
    /// # Errors
    /// When the subscription has ended.
    pub(crate) async fn next(&mut self) -> Result<Msg, CacheError> {
        tokio::select! {
            message = self.messages.next() => message.ok_or_else(|| failed("Redis closed the subscription")),
            _ = &mut self.pings => Err(failed("Redis doesn't answer on the connection of the subscription")),
            () = self.replacements.next() => Err(failed("the connection to Redis was replaced")),
        }
    }
}

impl Drop for Subscription {
    fn drop(&mut self) {
        self.pings.abort();
    }
}

/// Pings until there is no answer. An error is an answer, too.
async fn ping(mut sink: PubSubSink) {
    loop {
        tokio::time::sleep(PING_INTERVAL).await;
        match tokio::time::timeout(RESPONSE_TIMEOUT, sink.ping::<Value>()).await {
            Ok(Err(error)) if error.is_io_error() => return,
            Ok(_) => {}
            Err(_) => return,
        }
    }
}

fn failed(what: &'static str) -> CacheError {
    RedisError::from((ErrorKind::Io, what)).into()
}
