//! What the JSON of an answer is in.

use serde::Serialize;
use utoipa::ToSchema;

/// An answer that isn't given in pages.
#[derive(Debug, Clone, Serialize, ToSchema)]
pub struct DataResponse<T> {
    /// What was asked for.
    pub data: T,
}

/// A page of a list, or of something with a list in it.
#[derive(Debug, Clone, Serialize, ToSchema)]
pub struct PageResponse<T> {
    /// What is on this page.
    pub data: T,
    /// How to go on.
    pub page: PageInfo,
}

/// Where in a list an answer is.
#[derive(Debug, Clone, Serialize, ToSchema)]
#[serde(rename_all = "camelCase")]
pub struct PageInfo {
    /// Leads to the next page, given back as `cursor`; null on the last one.
    #[schema(required)]
    pub next_cursor: Option<String>,
    /// How many a page has at most.
    #[schema(minimum = 1, maximum = 100, example = 20)]
    pub limit: i64,
}
