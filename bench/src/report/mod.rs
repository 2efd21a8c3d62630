//! What a run measured, and the forms in which it is shown.

pub(crate) mod figures;
mod number;
pub(crate) mod table;
