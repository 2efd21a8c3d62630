//! A requested page of a list, and the response with it.

use service::http::Params;
use service::problem::Problem;
use service::response::{PageInfo, PageResponse};

use crate::cursor::{self, List, PageKey};

/// The largest number of items in a page.
const MAX_LIMIT: i64 = 100;

domain::limit_rows! {
    Queries, "items of a page", Count MAX_LIMIT, "400 `invalid_limit`", "Postgres, and the process's memory";
}

/// The page of a list that a client requests.
#[derive(Clone, Copy)]
pub(crate) struct PageRequest<'a, P> {
    list: List<'a>,
    /// The largest number of items in the page.
    pub(crate) limit: i64,
    /// The page key of the cursor; none for the first page.
    pub(crate) from: Option<P>,
}

impl<'a, P: PageKey> PageRequest<'a, P> {
    /// Reads the parameters `limit` and `cursor`.
    ///
    /// # Errors
    /// 400 when one of them is wrong.
    pub(crate) fn read(list: List<'a>, params: &Params, default_limit: i64) -> Result<Self, Problem> {
        let limit = params.limit(default_limit, MAX_LIMIT)?;
        let from = params.get("cursor").map(|cursor| cursor::read(list, cursor)).transpose()?;
        Ok(Self { list, limit, from })
    }

    /// Whether this is the first page of its list. Redis stores only first pages: a client can make up as many cursors
    /// as it likes, and the cache must not grow with them.
    pub(crate) fn is_first(&self) -> bool {
        self.from.is_none()
    }

    /// The response with this page. `next` is the key of the next page, if there is one.
    pub(crate) fn response<T>(&self, data: T, next: Option<P>) -> PageResponse<T> {
        let next_cursor = next.map(|key| cursor::write(self.list, key));
        PageResponse { data, page: PageInfo { next_cursor, limit: self.limit } }
    }
}

#[cfg(test)]
mod tests {
    use domain::ConversationId;
    use http::Uri;
    use uuid::Uuid;

    use super::*;

    fn request(query: &str) -> Result<PageRequest<'static, i64>, Problem> {
        let uri: Uri = format!("/?{query}").parse().unwrap();
        let params = Params::read(&uri, &["limit", "cursor"])?;
        PageRequest::read(List::Messages(ConversationId(Uuid::from_u128(1))), &params, 20)
    }

    #[test]
    fn two_spellings_of_a_limit_request_one_page() {
        for query in ["", "limit=20", "limit=020"] {
            let request = request(query).unwrap();
            assert!(request.is_first() && request.limit == 20, "{query}");
        }
    }

    #[test]
    fn the_cursor_of_a_page_requests_the_next_one() {
        let next = request("").unwrap().response((), Some(7)).page.next_cursor.unwrap();
        let second = request(&format!("limit=5&cursor={next}")).unwrap();
        assert_eq!((second.limit, second.from, second.is_first()), (5, Some(7), false));
    }

    #[test]
    fn wrong_limits_and_cursors_are_refused() {
        for wrong in ["limit=0", "limit=101", "limit=+5", "limit=", "cursor=", "cursor=x", "page=2"] {
            assert!(request(wrong).is_err(), "{wrong}");
        }
    }
}
