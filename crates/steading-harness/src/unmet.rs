//! The error of a wait that ends without what it waited for. It is apart from the waits, since exit statuses depend on it.

/// Something that was waited for and did not happen in time, or cannot happen any more.
#[derive(Debug, thiserror::Error)]
#[error("{0}")]
pub(crate) struct Unmet(pub(crate) String);
