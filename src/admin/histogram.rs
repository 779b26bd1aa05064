//! Histograms whose bounds are powers of two, so that counting is a shift and two additions.

/// Number of bounds: 0, 1, 2, 4 and so on up to 16,384.
const BOUNDS: usize = 16;

/// Counts values by range. Each range ends at a bound, which it includes; the last is unbounded.
#[derive(Debug, Clone, Copy, Default)]
pub(crate) struct Histogram {
    counts: [u64; BOUNDS + 1],
    sum: u64,
}

impl Histogram {
    /// Counts a value.
    pub(crate) fn count(&mut self, value: u64) {
        let index = match value {
            0 | 1 => value as usize,
            value => 65 - (value - 1).leading_zeros() as usize,
        };
        self.counts[index.min(BOUNDS)] += 1;
        self.sum += value;
    }

    /// The sum of all values.
    pub(crate) fn sum(&self) -> u64 {
        self.sum
    }

    /// The number of all values.
    pub(crate) fn total(&self) -> u64 {
        self.counts.iter().sum()
    }

    /// The bound of each range, `None` for the last, and the number of values in that range alone.
    pub(crate) fn ranges(&self) -> impl Iterator<Item = (Option<u64>, u64)> {
        let bound = |index: usize| match index {
            0 => Some(0),
            BOUNDS => None,
            index => Some(1 << (index - 1)),
        };
        self.counts
            .iter()
            .enumerate()
            .map(move |(index, &count)| (bound(index), count))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_value_is_counted_at_the_lowest_bound_that_is_not_below_it() {
        for (value, bound) in [
            (0, Some(0)),
            (1, Some(1)),
            (2, Some(2)),
            (3, Some(4)),
            (4, Some(4)),
            (5, Some(8)),
            (16_384, Some(16_384)),
            (16_385, None),
            (u64::MAX, None),
        ] {
            let mut histogram = Histogram::default();
            histogram.count(value);
            let found = histogram.ranges().find(|(_, count)| *count > 0);
            assert_eq!(
                (found, histogram.sum(), histogram.total()),
                (Some((bound, 1)), value, 1)
            );
        }
    }
}
