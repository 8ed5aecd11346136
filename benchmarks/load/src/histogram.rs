//! Latencies, in buckets that are at most 1.6 % wide.

use std::time::Duration;

/// Each power of two is cut into this many buckets.
const STEPS: u64 = 64;
/// 64 buckets for 0–63 µs, then 64 for each power of two up to 2^36 µs (19 hours).
const BUCKETS: usize = (STEPS as usize) * 32;

/// Counts durations by the microsecond.
pub(crate) struct Histogram {
    counts: Box<[u64]>,
    total: u64,
    maximum: u64,
}

impl Histogram {
    pub(crate) fn new() -> Self {
        Self { counts: vec![0; BUCKETS].into_boxed_slice(), total: 0, maximum: 0 }
    }

    pub(crate) fn record(&mut self, value: Duration) {
        self.record_many(value, 1);
    }

    pub(crate) fn record_many(&mut self, value: Duration, times: u64) {
        let microseconds = u64::try_from(value.as_micros()).unwrap_or(u64::MAX);
        self.counts[bucket(microseconds)] += times;
        self.total += times;
        self.maximum = self.maximum.max(microseconds);
    }

    pub(crate) fn clear(&mut self) {
        self.counts.fill(0);
        self.total = 0;
        self.maximum = 0;
    }

    pub(crate) fn total(&self) -> u64 {
        self.total
    }

    /// The largest value, in milliseconds.
    pub(crate) fn maximum(&self) -> Option<f64> {
        (self.total > 0).then_some(self.maximum as f64 / 1000.0)
    }

    /// The value below which a share of all values lies, in milliseconds.
    ///
    /// `missing` values are counted as larger than all others: `None` says that the percentile is one of them.
    pub(crate) fn percentile(&self, share: f64, missing: u64) -> Option<f64> {
        let rank = ((self.total + missing) as f64 * share).ceil().max(1.0) as u64;
        let mut seen = 0;
        for (index, count) in self.counts.iter().enumerate() {
            seen += count;
            if seen >= rank {
                return Some(middle(index).min(self.maximum as f64) / 1000.0);
            }
        }
        None
    }
}

fn bucket(microseconds: u64) -> usize {
    if microseconds < STEPS {
        return microseconds as usize;
    }
    let power = u64::from(microseconds.ilog2()) - 5;
    let step = (microseconds >> (power - 1)) - STEPS;
    ((power * STEPS + step) as usize).min(BUCKETS - 1)
}

fn middle(bucket: usize) -> f64 {
    let (power, step) = (bucket as u64 / STEPS, bucket as u64 % STEPS);
    if power == 0 {
        return step as f64;
    }
    let width = 1u64 << (power - 1);
    ((STEPS + step) * width) as f64 + width as f64 / 2.0
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn percentiles_are_within_two_percent() {
        let mut histogram = Histogram::new();
        for value in 1..=100_000 {
            histogram.record(Duration::from_micros(value));
        }
        for share in [0.01, 0.5, 0.99, 0.999] {
            let found = histogram.percentile(share, 0).expect("there are values");
            assert!((found / (share * 100.0) - 1.0).abs() < 0.02, "{share}: {found}");
        }
        assert_eq!(histogram.maximum(), Some(100.0));
    }

    #[test]
    fn what_never_came_is_later_than_all_else() {
        let mut histogram = Histogram::new();
        histogram.record_many(Duration::from_millis(1), 98);
        assert!(histogram.percentile(0.5, 2).is_some());
        assert_eq!(histogram.percentile(0.99, 2), None);
    }

    #[test]
    fn an_endless_wait_has_a_bucket() {
        let mut histogram = Histogram::new();
        histogram.record(Duration::MAX);
        assert_eq!(histogram.total(), 1);
    }
}
