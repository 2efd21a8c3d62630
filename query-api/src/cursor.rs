//! Cursors: where the next page of a list begins, as an opaque text.
//!
//! A cursor is base64url of: a version byte, the list's kind, sixteen bytes that say whose list it is, and the
//! place in it. It isn't signed: a made-up one reaches nothing but other places in the caller's own lists.

use base64::Engine;
use base64::engine::general_purpose::URL_SAFE_NO_PAD;
use domain::{ConversationId, Timestamp, UserId};
use service::problem::Problem;
use sha2::{Digest, Sha256};
use uuid::Uuid;

const VERSION: u8 = 1;
const OWNER_BYTES: usize = 16;
const HEAD_BYTES: usize = 2 + OWNER_BYTES;
/// More characters than any cursor has.
const MAX_CHARS: usize = 64;

/// A list that is given in pages.
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
    /// What its cursors begin with, so that none can be taken for another list's.
    fn head(self) -> [u8; HEAD_BYTES] {
        let (kind, owner) = match self {
            Self::Conversations(user) => {
                let hash = Sha256::digest(user.as_str().as_bytes());
                (1, std::array::from_fn(|index| hash[index]))
            }
            Self::Messages(conversation) => (2, conversation.0.into_bytes()),
            Self::Participants(conversation) => (3, conversation.0.into_bytes()),
        };
        let mut head = [0; HEAD_BYTES];
        head[0] = VERSION;
        head[1] = kind;
        head[2..].copy_from_slice(&owner);
        head
    }
}

/// A place in a list, at which one page ends and the next begins.
pub(crate) trait Place: Copy {
    /// As bytes: the same for the same place, always.
    fn write(self) -> Vec<u8>;
    /// From what [`Place::write`] gave; none for anything else.
    fn read(bytes: &[u8]) -> Option<Self>;
}

/// A message's `seq`.
impl Place for i64 {
    fn write(self) -> Vec<u8> {
        self.to_be_bytes().to_vec()
    }

    fn read(bytes: &[u8]) -> Option<Self> {
        bytes.try_into().map(i64::from_be_bytes).ok().filter(|place| *place >= 0)
    }
}

/// A participant's place in the conversation.
impl Place for i32 {
    fn write(self) -> Vec<u8> {
        self.to_be_bytes().to_vec()
    }

    fn read(bytes: &[u8]) -> Option<Self> {
        bytes.try_into().map(i32::from_be_bytes).ok().filter(|place| *place >= 0)
    }
}

/// A conversation's last activity, and its id where several were active at once.
impl Place for (Timestamp, ConversationId) {
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

/// The cursor to a place.
pub(crate) fn write(list: List<'_>, place: impl Place) -> String {
    let mut bytes = list.head().to_vec();
    bytes.extend(place.write());
    URL_SAFE_NO_PAD.encode(bytes)
}

/// The place that a cursor leads to.
///
/// # Errors
/// 400 `invalid_cursor` when it is no cursor, or another list's.
pub(crate) fn read<P: Place>(list: List<'_>, cursor: &str) -> Result<P, Problem> {
    let bytes = Some(cursor).filter(|cursor| cursor.len() <= MAX_CHARS);
    let bytes = bytes.and_then(|cursor| URL_SAFE_NO_PAD.decode(cursor).ok());
    let place = bytes.as_deref().and_then(|bytes| P::read(bytes.strip_prefix(&list.head())?));
    place.ok_or_else(|| {
        let detail = "must be a nextCursor that an earlier page of this same list gave";
        Problem::invalid_parameter("cursor", "invalid_cursor", detail)
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    fn conversation(number: u128) -> ConversationId {
        ConversationId(Uuid::from_u128(number))
    }

    fn code<P: Place>(list: List<'_>, cursor: &str) -> Option<&'static str> {
        read::<P>(list, cursor).err().map(|problem| problem.code())
    }

    #[test]
    fn a_cursor_leads_back_to_its_place() {
        let alice: UserId = "alice".parse().unwrap();
        let place = (Timestamp::from_millis(1_795_424_400_123).unwrap(), conversation(9));
        let list = List::Conversations(&alice);
        assert_eq!(read::<(Timestamp, ConversationId)>(list, &write(list, place)).unwrap(), place);
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
        let place = (Timestamp::from_millis(0).unwrap(), conversation(9));
        let cursor = write(List::Conversations(&alice), place);
        assert_eq!(code::<(Timestamp, ConversationId)>(List::Conversations(&bob), &cursor), Some("invalid_cursor"));
    }

    #[test]
    fn a_place_has_one_cursor() {
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
