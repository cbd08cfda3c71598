//! Medians and percentiles of a few measurements.

use std::time::Duration;

/// The value below which this share (0 to 1) of the measurements lies, by the nearest rank.
pub(crate) fn percentile(measured: &[Duration], share: f64) -> Duration {
    let mut sorted = measured.to_vec();
    sorted.sort_unstable();
    #[expect(
        clippy::cast_possible_truncation,
        clippy::cast_sign_loss,
        clippy::cast_precision_loss,
        reason = "there are few measurements, and a share is between 0 and 1"
    )]
    let rank = (sorted.len() as f64 * share).ceil() as usize;
    sorted.get(rank.saturating_sub(1)).copied().unwrap_or_default()
}

/// A line of a table: what, and p50 and p95 in milliseconds.
pub(crate) fn row(what: &str, measured: &[Duration]) -> String {
    let ms = |share| percentile(measured, share).as_secs_f64() * 1000.0;
    format!("{what:<28} p50 {:>7.1} ms   p95 {:>7.1} ms   ({} runs)", ms(0.5), ms(0.95), measured.len())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn percentiles_are_measurements_by_nearest_rank() {
        let measured: Vec<_> = (1..=20).rev().map(Duration::from_millis).collect();
        assert_eq!(percentile(&measured, 0.5), Duration::from_millis(10));
        assert_eq!(percentile(&measured, 0.95), Duration::from_millis(19));
        assert_eq!(percentile(&[], 0.5), Duration::ZERO);
    }
}
