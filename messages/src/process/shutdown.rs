//! Stops the services of a process in order: sockets, commands, then the projector.

use std::time::Duration;

use command_api::CommandApi;
use event_log::Producer;
use realtime::Realtime;
use tokio::task::JoinHandle;
use tokio_util::sync::CancellationToken;

/// How long each service may take to stop.
const STOP_TIMEOUT: Duration = Duration::from_secs(10);

domain::limit_rows! {
    Services, "the stop of each service", Time STOP_TIMEOUT, "the process ends without it", "the restart";
}

/// The running services that must stop in order. The query API isn't among them: it holds nothing to finish.
#[derive(Default)]
pub(super) struct RunningServices {
    pub(super) realtime: Option<Realtime>,
    pub(super) command_api: Option<CommandApi>,
    /// Sends the events of the command API, and is flushed after its last command.
    pub(super) producer: Option<Producer>,
    pub(super) projector: Option<RunningProjector>,
}

pub(super) struct RunningProjector {
    pub(super) stop: CancellationToken,
    pub(super) task: JoinHandle<()>,
}

impl RunningServices {
    /// Stops the services. Requests have ended, or are cut off, before this is called.
    pub(super) async fn stop(self) {
        if let Some(realtime) = self.realtime {
            realtime.finish(STOP_TIMEOUT).await;
        }
        if let Some(command_api) = self.command_api {
            command_api.finish(STOP_TIMEOUT).await;
        }
        if let Some(producer) = self.producer {
            producer.flush().await;
        }
        if let Some(projector) = self.projector {
            projector.stop.cancel();
            if tokio::time::timeout(STOP_TIMEOUT, projector.task).await.is_err() {
                tracing::warn!(
                    "the projector was stopped in the middle of a batch; it folds the batch after a restart"
                );
            }
        }
    }
}
