//! Acknowledgements of the clients' events.

use std::convert::Infallible;
use std::sync::Arc;

use socketioxide::adapter::LocalAdapter;
use socketioxide::extract::AckSender;
use socketioxide::handler::{FromMessageParts, Value};
use socketioxide::socket::Socket;

/// A client's request for an acknowledgement: with its id, the node can write the acknowledgement itself. None if the
/// client wants none.
pub(crate) struct AckRequest(pub(super) Option<(i64, AckSender)>);

impl FromMessageParts<LocalAdapter> for AckRequest {
    type Error = Infallible;

    fn from_message_parts(
        socket: &Arc<Socket<LocalAdapter>>,
        value: &mut Value,
        id: &Option<i64>,
    ) -> Result<Self, Infallible> {
        let sender = AckSender::from_message_parts(socket, value, id)?;
        Ok(Self(id.map(|id| (id, sender))))
    }
}
