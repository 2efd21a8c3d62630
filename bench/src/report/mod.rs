//! What a run measured, and the forms in which it is shown.

pub(crate) mod compare;
pub(crate) mod docs;
pub(crate) mod figures;
mod number;
mod svg;
pub(crate) mod table;
