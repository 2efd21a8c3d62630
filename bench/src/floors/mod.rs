//! The floors: processes with the same hops as Messages and nothing in them. What Messages costs beyond a floor is its
//! own; what the floor costs is the price of the hops. The program runs a floor as `bench floor NAME`.

mod insert;
pub(crate) mod kafka;
pub(crate) mod options;
mod pipeline;
pub(crate) mod reads;
mod rows;
mod sockets;

use axum::Router;
use axum::routing::get;
use axum::serve::ListenerExt;
use service::auth::Auth;
use tokio::net::TcpListener;

use options::{Floor, FloorOptions};

/// Runs a floor until somebody kills it.
///
/// # Errors
/// When it can't reach a service that it needs.
pub(crate) async fn run(options: &FloorOptions) -> anyhow::Result<()> {
    let auth = Auth::new(&options.secret);
    let router = match options.floor {
        Floor::Pipeline => pipeline::router(options, auth).await?,
        Floor::Reads => reads::router(options, auth).await?,
        Floor::Sockets => sockets::router(auth),
        Floor::Insert => insert::router(options).await?,
    };
    let router: Router = router.route("/readyz", get(|| async {}));
    let listener = TcpListener::bind((options.host, options.port)).await?;
    let listener = listener.tap_io(|stream| drop(stream.set_nodelay(true)));
    Ok(axum::serve(listener, router).await?)
}
