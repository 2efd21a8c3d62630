//! Listing the views that Redis has stored, to compare them with the read model.

use std::str::FromStr;

use domain::{ConversationId, UserId};

use crate::connection::{Cache, CacheError};
use crate::counted_connection::CountedConnection;
use crate::keys::{Keys, ViewKey};

/// How many keys Redis looks at in one step. It serves nobody else meanwhile.
const SCAN_COUNT: usize = 500;

/// A part of the stored views.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct StoredViews {
    /// The views; one can come again.
    pub views: Vec<ViewKey>,
    /// Where the next part begins; 0 after the last one.
    pub next: u64,
}

impl Cache {
    /// Lists a part of the views that Redis has stored of the generation that is served. Begin with 0.
    ///
    /// # Errors
    /// When Redis doesn't answer.
    pub async fn stored_views(&self, from: u64) -> Result<StoredViews, CacheError> {
        let keys = self.keys();
        let mut connection = self.evictable_connection("stored_views");
        let mut scan = redis::cmd("SCAN");
        scan.arg(from).arg("MATCH").arg(format!("{}*", escape(&keys.views()))).arg("COUNT").arg(SCAN_COUNT);
        let (next, found): (u64, Vec<String>) = scan.query_async(&mut connection).await?;
        let mut views = Vec::new();
        for key in &found {
            let Some(list) = parse(&keys, key) else { continue };
            views.extend(stored_sizes(&mut connection, key, list).await?);
        }
        Ok(StoredViews { views, next })
    }

    /// The page sizes of a list that Redis has stored, each as a view of its own. Any other view as it is, whether Redis
    /// has it or not.
    ///
    /// # Errors
    /// When Redis doesn't answer.
    pub async fn stored_page_sizes(&self, view: ViewKey) -> Result<Vec<ViewKey>, CacheError> {
        let key = self.keys().view(&view);
        stored_sizes(&mut self.evictable_connection("stored_page_sizes"), &key, view).await
    }
}

async fn stored_sizes(
    connection: &mut CountedConnection,
    key: &str,
    view: ViewKey,
) -> Result<Vec<ViewKey>, CacheError> {
    if view.page_size().is_none() {
        return Ok(vec![view]);
    }
    let fields: Vec<String> = redis::cmd("HKEYS").arg(key).query_async(connection).await?;
    Ok(fields.iter().filter_map(|field| field.parse().ok()).map(|size| view.with_page_size(size)).collect())
}

/// A text as a pattern that matches only the text.
fn escape(text: &str) -> String {
    text.chars().flat_map(|it| r"*?[]\^-".contains(it).then_some('\\').into_iter().chain([it])).collect()
}

/// Reads the key of a view; of a list, with any page size. None for any other key.
fn parse(keys: &Keys<'_>, key: &str) -> Option<ViewKey> {
    let (kind, rest) = key.strip_prefix(&keys.views())?.split_once(':')?;
    let view = match kind.split_once('.')?.0 {
        "conversations" => ViewKey::Conversations { user: rest.parse().ok()?, page_size: 0 },
        "messages" => ViewKey::Messages { conversation: parsed(rest)?, page_size: 0 },
        "message" => ViewKey::Message(parsed(rest)?),
        "conversation" => {
            let (conversation, user) = rest.split_once(':')?;
            let user: UserId = user.parse().ok()?;
            ViewKey::Conversation { conversation: parsed::<ConversationId>(conversation)?, user, page_size: 0 }
        }
        "message_facts" => ViewKey::MessageFacts(parsed(rest)?),
        "memberships" => ViewKey::Memberships(rest.parse().ok()?),
        _ => return None,
    };
    // Another release's views have another format.
    (keys.view(&view) == key).then_some(view)
}

fn parsed<T: FromStr>(text: &str) -> Option<T> {
    text.parse().ok()
}

#[cfg(test)]
mod tests {
    use uuid::Uuid;

    use super::*;

    #[test]
    fn the_key_of_a_view_says_which_view_it_is() {
        let keys = Keys { prefix: "a:b*", generation: 7 };
        let (conversation, user) = (ConversationId(Uuid::from_u128(5)), "x:y".parse::<UserId>().unwrap());
        for view in [
            ViewKey::Conversations { user: user.clone(), page_size: 0 },
            ViewKey::Messages { conversation, page_size: 0 },
            ViewKey::Message(domain::MessageId(Uuid::from_u128(6))),
            ViewKey::Conversation { conversation, user: user.clone(), page_size: 0 },
            ViewKey::MessageFacts(domain::MessageId(Uuid::from_u128(6))),
            ViewKey::Memberships(user),
        ] {
            assert_eq!(parse(&keys, &keys.view(&view)), Some(view));
        }
        assert_eq!(parse(&keys, &keys.progress()), None);
        assert_eq!(parse(&Keys { generation: 8, ..keys }, "a:b*:7:message.3:x"), None);
        assert_eq!(escape("a*b"), r"a\*b");
    }
}
