//! Creates conversations in Messages.

use std::sync::Arc;

use anyhow::Context;
use serde_json::json;
use tokio::task::JoinSet;

use super::http::{self, HttpConnection};
use crate::server::Server;
use crate::workload::user_id;

/// How many connections create conversations at the same time.
const CONNECTIONS: usize = 16;

/// Creates a conversation for each list of members, by its first member. Returns the ids.
///
/// # Errors
/// When Messages refuses one.
pub(crate) async fn create(server: &Server, members: Vec<Vec<u32>>) -> anyhow::Result<Vec<String>> {
    let requests = members.into_iter().map(|members| {
        let members = members.into_iter().map(user_id).collect::<anyhow::Result<Vec<_>>>()?;
        let creator = members.first().context("a conversation has members")?;
        let body = json!({"action": "conversation", "participantIds": members, "title": "A conversation"});
        Ok(http::post("/api/messages", &server.token(creator)?, &body.to_string()))
    });
    let requests: Arc<Vec<Vec<u8>>> = Arc::new(requests.collect::<anyhow::Result<_>>()?);
    let mut tasks = JoinSet::new();
    for first in 0..CONNECTIONS.min(requests.len()) {
        tasks.spawn(create_some(server.address.to_string(), requests.clone(), first));
    }
    let mut ids = vec![String::new(); requests.len()];
    while let Some(created) = tasks.join_next().await {
        for (conversation, id) in created?? {
            ids[conversation] = id;
        }
    }
    Ok(ids)
}

/// Creates one of [`CONNECTIONS`] shares of the conversations. Returns their numbers and ids.
async fn create_some(
    address: String,
    requests: Arc<Vec<Vec<u8>>>,
    first: usize,
) -> anyhow::Result<Vec<(usize, String)>> {
    let mut connection = HttpConnection::open(&address).await?;
    let mut created = Vec::new();
    for (number, request) in requests.iter().enumerate().skip(first).step_by(CONNECTIONS) {
        let response = connection.json(request, 201).await?;
        let id = response["data"]["id"].as_str().context("a conversation without an id")?;
        created.push((number, id.to_owned()));
    }
    Ok(created)
}
