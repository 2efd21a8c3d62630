//! Connections between services that are dead although they are open: nothing that either side sends arrives.

use std::time::Duration;

use futures_util::future::join_all;
use messages::process::Roles;
use service::config::Config;

use crate::harness::System;
use crate::harness::proxy::Proxy;
use crate::harness::raw_socket::RawSocket;
use crate::harness::system::{TIMEOUT, config};

/// How many connections to query-api go dead. One after the other, they would hold a socket up for more than a minute.
const CONNECTIONS: usize = 30;

#[tokio::test(flavor = "multi_thread")]
async fn a_socket_joins_although_all_connections_to_query_api_are_dead() {
    let system = System::with_roles(config(), Roles::ALL).await;
    system.wait_until_projecting().await;
    let query_api = Proxy::start(&system.url).await;
    let config = Config { query_api_url: Some(query_api.url.clone()), ..system.config.clone() };
    let realtime = System::with_roles(config, Roles::REALTIME).await;
    let connect = async |user: String| RawSocket::connect(&realtime, &realtime.url, &user).await;
    // While query-api is slow, each look-up needs a connection of its own. Afterwards they are all idle.
    query_api.delay(Duration::from_millis(300));
    let sockets = join_all((0..CONNECTIONS).map(|number| connect(format!("user-{number}")))).await;
    // A socket that ended would be looked up, too.
    let alive: Vec<_> = sockets
        .into_iter()
        .map(|mut socket| tokio::spawn(async move { socket.closed_within(3 * TIMEOUT).await }))
        .collect();
    query_api.restore();

    query_api.deaden();

    connect("alice".to_owned()).await;
    alive.iter().for_each(tokio::task::JoinHandle::abort);
}
