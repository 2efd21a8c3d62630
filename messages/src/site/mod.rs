//! Pages and documents that a process serves next to the API: the chat page, the OpenAPI and the AsyncAPI document,
//! and the tokens of development mode.

pub(crate) mod asyncapi;
pub(crate) mod development_tokens;
pub(crate) mod openapi;
pub(crate) mod web_page;
