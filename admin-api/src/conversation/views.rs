//! The cached views of a conversation in Redis, next to what Postgres has.

use std::time::Duration;

use axum::Json;
use axum::extract::rejection::PathRejection;
use axum::extract::{Path, State};
use cache::ViewKey;
use domain::{ConversationId, MessageId, UserId};
use http::Uri;
use read_path::{CompareError, ViewDifference, ViewFinding, compare_view};
use serde::Serialize;
use service::auth::AdminCaller;
use service::http::{Params, path_id};
use service::openapi::{ADMIN, AdminErrors, CommonHeaderParams};
use service::problem::Problem;
use service::response::DataResponse;
use utoipa::ToSchema;

use crate::{AdminApi, postgres_problem};

/// Of how many participants the views are compared.
const PARTICIPANTS_MAX: usize = 20;
/// Of how many messages, the newest ones.
const MESSAGES_MAX: i64 = 20;
/// How often a view is looked at that changes meanwhile.
const VIEW_LOOKS_MAX: u32 = 3;
/// How many characters of a value are shown.
const VALUE_CHARACTERS_MAX: usize = 1_000;
/// How long a comparison may take.
const COMPARE_TIMEOUT: Duration = Duration::from_secs(5);

domain::limit_rows! {
    Queries, "participants whose views of a conversation the admin API compares", Count PARTICIPANTS_MAX, "it compares those of the first ones", "Redis and Postgres";
    Queries, "messages whose views it compares", Count MESSAGES_MAX, "it compares those of the newest ones", "Redis and Postgres";
    Queries, "its looks at a view that changes meanwhile", Count VIEW_LOOKS_MAX, "the view counts as `changing`", "Redis and Postgres";
    Queries, "characters that it shows of a value that differs", Count VALUE_CHARACTERS_MAX, "it shows the first ones", "memory, and pages that show them";
    Queries, "time for this comparison", Time COMPARE_TIMEOUT, "503 `unavailable`", "Redis and Postgres";
}

/// Whether Redis has what Postgres has.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, ToSchema)]
#[serde(rename_all = "camelCase")]
pub(crate) enum ViewStatus {
    /// Both have the same.
    Same,
    /// Redis has something else, and readers get it.
    Stale,
    /// Redis doesn't have it: the next reader gets it from Postgres.
    Absent,
    /// It changed at each look.
    Changing,
}

/// A cached view, compared.
#[derive(Debug, Clone, Serialize, ToSchema)]
#[serde(rename_all = "camelCase")]
pub(crate) struct ComparedView {
    /// What it shows, in words.
    #[schema(example = "the memberships of alice")]
    view: String,
    /// Whether Redis has what Postgres has.
    status: ViewStatus,
    /// Where a stale view first differs, such as `[0].content`; empty for the whole view.
    #[schema(required)]
    path: Option<String>,
    /// What Redis has there, as JSON: its beginning.
    #[schema(required)]
    found: Option<String>,
    /// What Postgres has there.
    #[schema(required)]
    expected: Option<String>,
}

impl ComparedView {
    fn new(view: String, finding: ViewFinding) -> Self {
        let empty = |view, status| Self { view, status, path: None, found: None, expected: None };
        match finding {
            ViewFinding::Same => empty(view, ViewStatus::Same),
            ViewFinding::Absent => empty(view, ViewStatus::Absent),
            ViewFinding::Changing => empty(view, ViewStatus::Changing),
            ViewFinding::Stale(ViewDifference { path, found, expected }) => {
                let shown = |text: String| Some(text.chars().take(VALUE_CHARACTERS_MAX).collect());
                Self {
                    path: Some(path),
                    found: shown(found),
                    expected: shown(expected),
                    ..empty(view, ViewStatus::Stale)
                }
            }
        }
    }
}

/// Compare the cached views of a conversation
///
/// Compares what Redis has of its message list, of its newest messages, and of the lists of its first participants with
/// Postgres. A view that is no longer fresh counts as absent: no reader gets it.
#[utoipa::path(
    get,
    path = "/admin/api/conversations/{id}/views",
    operation_id = "adminConversationViews",
    tag = ADMIN,
    params(("id" = ConversationId, Path, description = "The conversation's id."), CommonHeaderParams),
    responses((status = 200, description = "The views.", body = DataResponse<Vec<ComparedView>>), AdminErrors)
)]
pub(crate) async fn list(
    State(api): State<AdminApi>,
    _: AdminCaller,
    path: Result<Path<String>, PathRejection>,
    uri: Uri,
) -> Result<Json<DataResponse<Vec<ComparedView>>>, Problem> {
    Params::read(&uri, &[])?;
    let conversation: ConversationId = path_id("id", path)?;
    let _turn = api.0.view_turns.take().await?;
    let compared = tokio::time::timeout(COMPARE_TIMEOUT, compare_all(&api, conversation)).await;
    let data = compared.map_err(|_| Problem::dependency_unavailable())??;
    Ok(Json(DataResponse { data }))
}

async fn compare_all(api: &AdminApi, conversation: ConversationId) -> Result<Vec<ComparedView>, Problem> {
    let (read_model, cache) = (&api.0.read_model, &api.0.cache);
    let found =
        tokio::try_join!(read_model.participants(conversation), read_model.messages(conversation, MESSAGES_MAX, None));
    let (participants, messages) = found.map_err(|error| postgres_problem(&error))?;
    let participants = participants.value.ok_or_else(|| Problem::not_found("id"))?;
    let messages: Vec<MessageId> = messages.value.items.iter().map(|message| message.id).collect();
    let mut compared = Vec::new();
    for KnownView { view, name } in known_views(conversation, participants, &messages) {
        let stored = cache.stored_page_sizes(view).await.map_err(|error| compare_problem(&error.into()))?;
        if stored.is_empty() {
            compared.push(ComparedView::new(name, ViewFinding::Absent));
        }
        for view in stored {
            let finding = compare_view(read_model, cache, &view, VIEW_LOOKS_MAX).await;
            let finding = finding.map_err(|error| compare_problem(&error))?;
            compared.push(ComparedView::new(view.to_string(), finding));
        }
    }
    Ok(compared)
}

fn compare_problem(error: &CompareError) -> Problem {
    tracing::warn!(%error, "comparing cached views for an admin failed");
    Problem::dependency_unavailable()
}

/// A view that Redis may have, in one or several page sizes.
struct KnownView {
    view: ViewKey,
    /// What to call it if Redis has it in no page size.
    name: String,
}

/// The views that show something of a conversation.
fn known_views(
    conversation: ConversationId,
    participants: Vec<UserId>,
    messages: &[MessageId],
) -> impl Iterator<Item = KnownView> {
    const ANY: i64 = 0;
    let list = KnownView {
        view: ViewKey::Messages { conversation, page_size: ANY },
        name: format!("the messages of the conversation {conversation}"),
    };
    let of_messages = messages.iter().flat_map(|id| [ViewKey::Message(*id), ViewKey::MessageFacts(*id)]);
    let of_messages = of_messages.map(|view| KnownView { name: view.to_string(), view });
    let of_users = participants.into_iter().take(PARTICIPANTS_MAX).flat_map(move |user| {
        let memberships = ViewKey::Memberships(user.clone());
        [
            KnownView {
                name: format!("the conversation {conversation} for {user}"),
                view: ViewKey::Conversation { conversation, user: user.clone(), page_size: ANY },
            },
            KnownView { name: memberships.to_string(), view: memberships },
            KnownView {
                name: format!("the conversations of {user}"),
                view: ViewKey::Conversations { user, page_size: ANY },
            },
        ]
    });
    [list].into_iter().chain(of_messages).chain(of_users)
}
