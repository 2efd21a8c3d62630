//! The JSON envelopes of successful responses: `data`, and `page` for lists.

use serde::Serialize;
use utoipa::ToSchema;

/// A response that isn't divided into pages.
#[derive(Debug, Clone, Serialize, ToSchema)]
pub struct DataResponse<T> {
    /// The requested data.
    pub data: T,
}

/// One page of a list, or of an object that includes a list.
#[derive(Debug, Clone, Serialize, ToSchema)]
pub struct PageResponse<T> {
    /// The data on this page.
    pub data: T,
    /// Where this page is in the list.
    pub page: PageInfo,
}

/// The position of a page in its list.
#[derive(Debug, Clone, Serialize, ToSchema)]
#[serde(rename_all = "camelCase")]
pub struct PageInfo {
    /// Send this as `cursor` to get the next page. Null on the last page.
    #[schema(required)]
    pub next_cursor: Option<String>,
    /// How many items a page has at most.
    #[schema(minimum = 1, maximum = 100, example = 20)]
    pub limit: i64,
}
