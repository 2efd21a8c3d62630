//! Closes the sockets of the users whom a repair concerns (see [`domain::repair`]). No frame tells them; they come back,
//! sync, and learn that their data is older than the repair.

use std::sync::Arc;

use cache::Cache;
use domain::repair::{Repair, RepairScope};
use tokio_util::sync::CancellationToken;

use crate::rooms::Rooms;
use crate::transport::Connections;

/// Follows the repairs until the shutdown.
pub(crate) async fn close_repaired(
    cache: Cache,
    rooms: Arc<Rooms>,
    connections: Connections,
    shutdown: CancellationToken,
) {
    let mut repairs = cache.follow_repairs();
    let mut known = repairs.borrow_and_update().number;
    while let Some(Ok(())) = shutdown.run_until_cancelled(repairs.changed()).await {
        let told = repairs.borrow_and_update().clone();
        let everybody = [Repair { number: told.number, scope: RepairScope::Everybody }];
        let sockets: Vec<_> =
            told.after(known).unwrap_or(&everybody).iter().flat_map(|repair| rooms.evict(&repair.scope)).collect();
        tracing::info!(sockets = sockets.len(), repairs = told.number - known, "rows were repaired; closing sockets");
        for socket in &sockets {
            connections.close(socket);
        }
        known = told.number;
    }
}
