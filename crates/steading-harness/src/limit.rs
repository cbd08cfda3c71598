//! Time limits that can be added to any moment.

use std::time::Duration;

use jiff::SignedDuration;

/// The longest limit: some 100 years. More than that, such as `Duration::MAX`, has no end as a moment.
pub(crate) const LONGEST: Duration = Duration::from_secs(100 * 366 * 24 * 3600);

/// The limit, or the longest one.
pub(crate) fn bounded(limit: Duration) -> Duration {
    limit.min(LONGEST)
}

/// Reads a limit on the command line.
pub(crate) fn limit(text: &str) -> Result<Duration, String> {
    let limit: SignedDuration = text.parse().map_err(|_| "expected a duration (10s, 5min)".to_owned())?;
    Duration::try_from(limit).map(bounded).map_err(|_| "expected a positive duration".to_owned())
}

#[cfg(test)]
mod tests {
    use std::time::Instant;

    use super::*;

    #[test]
    fn a_limit_without_an_end_can_be_added_to_a_moment() {
        assert!(Instant::now().checked_add(bounded(Duration::MAX)).is_some());
        assert_eq!(bounded(Duration::from_secs(5)), Duration::from_secs(5));
    }
}
