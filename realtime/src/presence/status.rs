//! The words for presence in frames and acknowledgements.

/// The `status` of a user.
pub(super) fn status(online: bool) -> &'static str {
    if online { "online" } else { "offline" }
}
