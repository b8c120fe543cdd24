//! Ratios of pairs, since the machine's speed changes from minute to minute and both runs of a pair see the same of it.

use baseline::job::Figures;

/// A median of pairs' ratios, and where it lies in 95 of 100 resamplings of the pairs.
#[derive(Debug, Clone, Copy, PartialEq)]
pub struct Ratio {
    pub median: f64,
    pub low: f64,
    pub high: f64,
}

impl Ratio {
    /// Of B's to A's, pair by pair.
    pub fn of(pairs: &[(Figures, Figures)], figure: impl Fn(&Figures) -> f64) -> Option<Self> {
        let ratios: Vec<f64> = pairs.iter().map(|(a, b)| figure(b) / figure(a)).filter(|it| it.is_finite()).collect();
        let median = median(&ratios)?;
        let mut chance = fastrand::Rng::with_seed(ratios.len() as u64);
        let mut resampled: Vec<f64> = (0..RESAMPLINGS)
            .filter_map(|_| median_of(ratios.iter().map(|_| ratios[chance.usize(..ratios.len())]).collect()))
            .collect();
        resampled.sort_by(f64::total_cmp);
        let at = |share: f64| resampled[((resampled.len() - 1) as f64 * share).round() as usize];
        Some(Ratio { median, low: at(0.025), high: at(0.975) })
    }

    /// Whether the interval excludes that both are equal.
    pub fn is_certain(&self) -> bool {
        self.low > 1.0 || self.high < 1.0
    }
}

const RESAMPLINGS: usize = 2_000;

pub fn median(values: &[f64]) -> Option<f64> {
    median_of(values.to_vec())
}

fn median_of(mut values: Vec<f64>) -> Option<f64> {
    values.sort_by(f64::total_cmp);
    let middle = values.len() / 2;
    match values.len() {
        0 => None,
        count if count % 2 == 1 => Some(values[middle]),
        _ => Some((values[middle - 1] + values[middle]) / 2.0),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn pairs(of: &[(f64, f64)]) -> Vec<(Figures, Figures)> {
        let figures = |cpu| Figures { events: 1, cpu, ..Figures::default() };
        of.iter().map(|&(a, b)| (figures(a), figures(b))).collect()
    }

    #[test]
    fn the_median_is_in_the_middle_also_between_two() {
        assert_eq!((median(&[3.0, 1.0, 2.0]), median(&[4.0, 1.0]), median(&[])), (Some(2.0), Some(2.5), None));
    }

    #[test]
    fn the_interval_holds_the_median_and_tells_whether_a_difference_is_certain() {
        let noisy = pairs(&[(1.0, 1.1), (1.0, 0.9), (1.0, 1.2), (1.0, 0.8), (1.0, 1.0)]);
        let ratio = Ratio::of(&noisy, |it| it.cpu).unwrap();
        assert!(ratio.low <= ratio.median && ratio.median <= ratio.high && !ratio.is_certain(), "{ratio:?}");
        let slower = pairs(&[(1.0, 1.5), (2.0, 3.1), (1.0, 1.4), (3.0, 4.4), (1.0, 1.6)]);
        assert!(Ratio::of(&slower, |it| it.cpu).unwrap().is_certain());
    }
}
