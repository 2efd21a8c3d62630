//! Sessions: a socket from its token to its end.
//!
//! A session must never send `connection:ready` before its user is in all rooms: from that frame on, the client relies
//! on every delivery. It must never outlive its token.
//!
//! # The timeline of a socket
//!
//! | When | What happens |
//! |---|---|
//! | authenticate | The handshake's token names the user, or, without one, the cookie of the request that opened the connection. The socket counts against the user's [`SocketLimit`]. Without a valid token, or beyond the limit, the client gets a `connect_error`. |
//! | enter | `Rooms::enter` adds the socket. From now on the user joins the rooms of new conversations as the relay delivers them. |
//! | join | Unless the user is in their rooms already, the session looks up memberships that include everything the relay had passed before, and joins those rooms. Of a partition on which the projector lags, memberships include less: the session finds the conversations that were created since in the relay's tail. |
//! | ready | The client gets `connection:ready` with a position token of the relayed offsets at this moment. Of a partition on which the projector lags, the token has the offset that the memberships include: a sync can't reach more. |
//! | tail | The client gets what the relay has passed since that token, from `RelayTail`. |
//! | live | The node delivers frames, and answers `presence:get`. It answers operations such as `message:send` with the HTTP route to use. |
//! | end | The client leaves, its connection ends, its token expires, rows that its user can see were repaired, or the node shuts down. The socket leaves the rooms. If it was the user's last on this node, their presence grace begins. |
//!
//! An example: Alice's socket enters when the relay is at offset 7 of a partition. At 8, Bob creates a conversation
//! with her: she joins its room although her memberships are still being looked up. The look-up demands offset 7, so it
//! covers all conversations before. Alice's `connection:ready` carries offset 9: what is below comes with her next
//! sync, and the node delivers everything from 9 on.
//!
//! At most [`CONCURRENT_JOINS`](context::CONCURRENT_JOINS) sockets look memberships up at once, so thousands of
//! reconnecting clients don't overload the query side.

mod connect;
mod context;
mod query_limit;
mod repairs;
mod socket_events;
mod socket_limit;
mod unsupported_operations;

pub(crate) use connect::{LIMIT_ROWS as JOIN_LIMITS, register};
pub(crate) use context::{CONCURRENT_JOINS, LIMIT_ROWS as LOOKUP_LIMITS, SessionContext};
pub(crate) use query_limit::LIMIT_ROWS as QUERY_LIMITS;
pub(crate) use repairs::close_repaired;
pub(crate) use socket_limit::{LIMIT_ROWS as SOCKET_LIMITS, SocketLimit};
pub(crate) use unsupported_operations::OPERATIONS;
