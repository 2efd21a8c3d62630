//! Pages of lists: what was asked for, and what is given.

use service::envelope::{Page, Paged};
use service::http::Params;
use service::problem::Problem;

use crate::cursor::{self, List, Place};

/// The most that a page has.
const MOST: i64 = 100;

/// The page of a list that was asked for.
#[derive(Clone, Copy)]
pub(crate) struct PageAsked<'a, P> {
    list: List<'a>,
    /// How many it has at most.
    pub(crate) limit: i64,
    /// The place at which it begins; none for the first page.
    pub(crate) from: Option<P>,
}

impl<'a, P: Place> PageAsked<'a, P> {
    /// From the parameters `limit` and `cursor`.
    ///
    /// # Errors
    /// 400 when one of them is wrong.
    pub(crate) fn read(list: List<'a>, params: &Params, default_limit: i64) -> Result<Self, Problem> {
        let limit = params.limit(default_limit, MOST)?;
        let from = params.get("cursor").map(|cursor| cursor::read(list, cursor)).transpose()?;
        Ok(Self { list, limit, from })
    }

    /// The page in the key of its view: made anew, so that no text of a client is ever part of a key.
    pub(crate) fn key(&self) -> String {
        let cursor = self.from.map_or_else(|| "-".to_owned(), |place| cursor::write(self.list, place));
        format!("{}:{cursor}", self.limit)
    }

    /// The answer with this page, when the next one begins at `next`.
    pub(crate) fn envelope<T>(&self, data: T, next: Option<P>) -> Paged<T> {
        let next_cursor = next.map(|place| cursor::write(self.list, place));
        Paged { data, page: Page { next_cursor, limit: self.limit } }
    }
}

#[cfg(test)]
mod tests {
    use domain::ConversationId;
    use http::Uri;
    use uuid::Uuid;

    use super::*;

    fn asked(query: &str) -> Result<PageAsked<'static, i64>, Problem> {
        let uri: Uri = format!("/?{query}").parse().unwrap();
        let params = Params::read(&uri, &["limit", "cursor"])?;
        PageAsked::read(List::Messages(ConversationId(Uuid::from_u128(1))), &params, 20)
    }

    #[test]
    fn a_page_that_is_asked_for_in_two_ways_has_one_key() {
        assert_eq!(asked("").unwrap().key(), "20:-");
        assert_eq!(asked("limit=020").unwrap().key(), "20:-");
    }

    #[test]
    fn the_next_page_is_asked_for_with_the_cursor_of_this_one() {
        let next = asked("").unwrap().envelope((), Some(7)).page.next_cursor.unwrap();
        let second = asked(&format!("limit=5&cursor={next}")).unwrap();
        assert_eq!((second.limit, second.from), (5, Some(7)));
        assert_eq!(second.key(), format!("5:{next}"));
    }

    #[test]
    fn wrong_limits_and_cursors_are_refused() {
        for wrong in ["limit=0", "limit=101", "limit=+5", "limit=", "cursor=", "cursor=x", "page=2"] {
            assert!(asked(wrong).is_err(), "{wrong}");
        }
    }
}
