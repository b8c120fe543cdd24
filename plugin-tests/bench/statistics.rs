//! Statistics of pairs of runs. The speed of the machine changes from minute to minute, which
//! affects both runs of a pair alike, so only the ratios within pairs are compared.

use baseline::job::Figures;

/// The median of the pairs' ratios and its 95 % confidence interval, by the bootstrap method.
#[derive(Debug, Clone, Copy, PartialEq)]
pub struct Ratio {
    pub median: f64,
    pub low: f64,
    pub high: f64,
}

impl Ratio {
    /// Returns the ratio of a figure of B to that of A.
    pub fn of(pairs: &[(Figures, Figures)], figure: impl Fn(&Figures) -> f64) -> Option<Self> {
        let ratios: Vec<f64> = pairs.iter().map(|(a, b)| figure(b) / figure(a)).filter(|it| it.is_finite()).collect();
        let median = median(&ratios)?;
        let mut random = fastrand::Rng::with_seed(ratios.len() as u64);
        let mut resampled: Vec<f64> = (0..RESAMPLINGS)
            .filter_map(|_| median_of(ratios.iter().map(|_| ratios[random.usize(..ratios.len())]).collect()))
            .collect();
        resampled.sort_by(f64::total_cmp);
        let at = |share: f64| resampled[((resampled.len() - 1) as f64 * share).round() as usize];
        Some(Ratio { median, low: at(0.025), high: at(0.975) })
    }

    /// Whether the interval excludes 1, so that A and B differ.
    pub fn is_significant(&self) -> bool {
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
    fn median_of_even_count_is_mean_of_middle_two() {
        assert_eq!((median(&[3.0, 1.0, 2.0]), median(&[4.0, 1.0]), median(&[])), (Some(2.0), Some(2.5), None));
    }

    #[test]
    fn interval_contains_median_and_shows_significance() {
        let noisy = pairs(&[(1.0, 1.1), (1.0, 0.9), (1.0, 1.2), (1.0, 0.8), (1.0, 1.0)]);
        let ratio = Ratio::of(&noisy, |it| it.cpu).unwrap();
        assert!(ratio.low <= ratio.median && ratio.median <= ratio.high && !ratio.is_significant(), "{ratio:?}");
        let slower = pairs(&[(1.0, 1.5), (2.0, 3.1), (1.0, 1.4), (3.0, 4.4), (1.0, 1.6)]);
        assert!(Ratio::of(&slower, |it| it.cpu).unwrap().is_significant());
    }
}
