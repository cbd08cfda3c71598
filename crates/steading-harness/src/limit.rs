//! Time limits that can be added to any moment.

use std::time::Duration;

/// The longest limit: some 100 years. More than that, such as `Duration::MAX`, has no end as a moment.
const LONGEST: Duration = Duration::from_secs(100 * 366 * 24 * 3600);

/// The limit, or the longest one.
pub(crate) fn bounded(limit: Duration) -> Duration {
    limit.min(LONGEST)
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

    #[test]
    fn a_suite_without_limits_has_some_for_its_runner() {
        let suite = crate::Suite::new("s").limit(Duration::MAX).overall_limit(Duration::MAX);
        let options = crate::TestOptions::new().limit(Duration::MAX).retries(u32::MAX);
        let suite = suite.test("one", |_| Ok(())).test_with("two", options, |_| Ok(())).declared();
        assert_eq!(suite.overall_limit, LONGEST);
        assert!(suite.tree.all().all(|function| function.limit == LONGEST));
        assert!(crate::describe::limit(&suite) > LONGEST);
    }
}
