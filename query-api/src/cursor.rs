//! Cursors: opaque texts that say where the next page of a list begins.
//!
//! A cursor is base64url of a version byte, the list's kind, sixteen bytes that identify the list's owner, and the page
//! key. It is not signed: a made-up cursor reaches only other pages of lists that the caller may read anyway. It must
//! never carry anything that the caller may not know.

use base64::Engine;
use base64::engine::general_purpose::URL_SAFE_NO_PAD;
use domain::{ConversationId, Timestamp, UserId};
use service::problem::Problem;
use sha2::{Digest, Sha256};
use uuid::Uuid;

const VERSION: u8 = 1;
const OWNER_BYTES: usize = 16;
const PREFIX_BYTES: usize = 2 + OWNER_BYTES;
/// A limit that no real cursor reaches.
const MAX_CHARS: usize = 64;

domain::limit_rows! {
    Queries, "characters of a cursor", Count MAX_CHARS, "400 `invalid_cursor`", "the time that it takes to read one";
}

/// A list that clients read in pages.
#[derive(Debug, Clone, Copy)]
pub(crate) enum List<'a> {
    /// A user's conversations.
    Conversations(&'a UserId),
    /// A conversation's messages.
    Messages(ConversationId),
    /// A conversation's participants.
    Participants(ConversationId),
}

impl List<'_> {
    /// The first bytes of its cursors: no cursor of another list begins with them.
    fn prefix(self) -> [u8; PREFIX_BYTES] {
        let (kind, owner) = match self {
            Self::Conversations(user) => {
                let hash = Sha256::digest(user.as_str().as_bytes());
                (1, std::array::from_fn(|index| hash[index]))
            }
            Self::Messages(conversation) => (2, conversation.0.into_bytes()),
            Self::Participants(conversation) => (3, conversation.0.into_bytes()),
        };
        let mut prefix = [0; PREFIX_BYTES];
        prefix[0] = VERSION;
        prefix[1] = kind;
        prefix[2..].copy_from_slice(&owner);
        prefix
    }
}

/// The key at which one page of a list ends and the next begins.
pub(crate) trait PageKey: Copy {
    /// The key as bytes. Equal keys have equal bytes.
    fn write(self) -> Vec<u8>;
    /// Reads the bytes that [`PageKey::write`] gives; none for any others.
    fn read(bytes: &[u8]) -> Option<Self>;
}

/// A message's `seq`.
impl PageKey for i64 {
    fn write(self) -> Vec<u8> {
        self.to_be_bytes().to_vec()
    }

    fn read(bytes: &[u8]) -> Option<Self> {
        bytes.try_into().map(i64::from_be_bytes).ok().filter(|key| *key >= 0)
    }
}

/// A participant's ordinal.
impl PageKey for i32 {
    fn write(self) -> Vec<u8> {
        self.to_be_bytes().to_vec()
    }

    fn read(bytes: &[u8]) -> Option<Self> {
        bytes.try_into().map(i32::from_be_bytes).ok().filter(|key| *key >= 0)
    }
}

/// A conversation's last activity, then its id.
impl PageKey for (Timestamp, ConversationId) {
    fn write(self) -> Vec<u8> {
        let (active, id) = self;
        [active.as_millis().to_be_bytes().as_slice(), id.0.as_bytes()].concat()
    }

    fn read(bytes: &[u8]) -> Option<Self> {
        let (active, id) = bytes.split_first_chunk::<8>()?;
        let active = Timestamp::from_millis(i64::from_be_bytes(*active)).ok()?;
        Some((active, ConversationId(Uuid::from_slice(id).ok()?)))
    }
}

/// Writes the cursor of a page key.
pub(crate) fn write(list: List<'_>, key: impl PageKey) -> String {
    let mut bytes = list.prefix().to_vec();
    bytes.extend(key.write());
    URL_SAFE_NO_PAD.encode(bytes)
}

/// Reads the page key of a cursor.
///
/// # Errors
/// 400 `invalid_cursor` when it is no cursor, or another list's.
pub(crate) fn read<P: PageKey>(list: List<'_>, cursor: &str) -> Result<P, Problem> {
    let bytes = Some(cursor).filter(|cursor| cursor.len() <= MAX_CHARS);
    let bytes = bytes.and_then(|cursor| URL_SAFE_NO_PAD.decode(cursor).ok());
    let key = bytes.as_deref().and_then(|bytes| P::read(bytes.strip_prefix(&list.prefix())?));
    key.ok_or_else(|| {
        let detail = "must be the nextCursor of an earlier page of the same list";
        Problem::invalid_parameter("cursor", "invalid_cursor", detail)
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    fn conversation(number: u128) -> ConversationId {
        ConversationId(Uuid::from_u128(number))
    }

    fn code<P: PageKey>(list: List<'_>, cursor: &str) -> Option<&'static str> {
        read::<P>(list, cursor).err().map(|problem| problem.code())
    }

    #[test]
    fn a_cursor_leads_back_to_its_page_key() {
        let alice: UserId = "alice".parse().unwrap();
        let key = (Timestamp::from_millis(1_795_424_400_123).unwrap(), conversation(9));
        let list = List::Conversations(&alice);
        assert_eq!(read::<(Timestamp, ConversationId)>(list, &write(list, key)).unwrap(), key);
        let list = List::Messages(conversation(1));
        assert_eq!(read::<i64>(list, &write(list, 42_i64)).unwrap(), 42);
    }

    #[test]
    fn a_cursor_is_good_for_its_own_list_only() {
        let (alice, bob): (UserId, UserId) = ("alice".parse().unwrap(), "bob".parse().unwrap());
        let cursor = write(List::Messages(conversation(1)), 42_i64);
        assert_eq!(code::<i64>(List::Messages(conversation(1)), &cursor), None);
        assert_eq!(code::<i64>(List::Messages(conversation(2)), &cursor), Some("invalid_cursor"));
        assert_eq!(code::<i64>(List::Participants(conversation(1)), &cursor), Some("invalid_cursor"));
        let key = (Timestamp::from_millis(0).unwrap(), conversation(9));
        let cursor = write(List::Conversations(&alice), key);
        assert_eq!(code::<(Timestamp, ConversationId)>(List::Conversations(&bob), &cursor), Some("invalid_cursor"));
    }

    #[test]
    fn a_page_key_has_one_cursor() {
        let list = List::Messages(conversation(1));
        let cursor = write(list, 42_i64);
        let padded = format!("{cursor}=");
        let longer = format!("{cursor}AA");
        let negative = write(list, -1_i64);
        for wrong in ["", "x", "é", &cursor[1..], &cursor[..cursor.len() - 2], &padded, &longer, &negative] {
            assert_eq!(code::<i64>(list, wrong), Some("invalid_cursor"), "{wrong}");
        }
    }
}
