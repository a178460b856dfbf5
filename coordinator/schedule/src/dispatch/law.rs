//! How much longer something takes that has taken so long already.

use crate::Micros;

/// What is left of a unit on average, of whose duration the logarithm is normal with this mean and deviation, after so long.
///
/// E[X | X > t] − t = exp(μ + σ²/2) Φ(σ − z) / Φ(−z) − t with z = (ln t − μ) / σ.
pub(super) fn remaining((mean, sigma): (f64, f64), elapsed: Micros) -> Micros {
    if elapsed == Micros::ZERO {
        return micros((mean + sigma * sigma / 2.0).exp());
    }
    let t = elapsed.0 as f64;
    // Farther out the quotient of two tails is lost in rounding; what is expected there grows with the time that has passed.
    let z = ((t.ln() - mean) / sigma).min(FARTHEST);
    let t_at = (mean + sigma * z).exp();
    let longer = (mean + sigma * sigma / 2.0).exp() * tail(z - sigma) / tail(z) / t_at;
    micros(t * (longer - 1.0).max(0.0))
}

const FARTHEST: f64 = 4.0;

fn micros(value: f64) -> Micros {
    Micros(value.round() as u64)
}

/// The normal distribution's upper tail, to a part in ten million: the rational Chebyshev fit of Press et al., "Numerical
/// recipes" (1988), `erfcc`.
fn tail(z: f64) -> f64 {
    let x = z.abs() / std::f64::consts::SQRT_2;
    let t = 1.0 / (1.0 + 0.5 * x);
    let coefficients = [
        -1.265_512_23,
        1.000_023_68,
        0.374_091_96,
        0.096_784_18,
        -0.186_288_06,
        0.278_868_07,
        -1.135_203_98,
        1.488_515_87,
        -0.822_152_23,
        0.170_872_77,
    ];
    let sum = coefficients.iter().rev().fold(0.0, |sum, c| sum * t + c);
    let half = 0.5 * t * (sum - x * x).exp();
    if z >= 0.0 { half } else { 1.0 - half }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_has_just_begun_takes_its_mean_and_what_is_late_takes_longer() {
        let law = (13.8, 0.3);
        let mean = remaining(law, Micros::ZERO);
        assert!(mean.0.abs_diff(1_031_000) < 20_000, "{mean}");
        let half = remaining(law, Micros(mean.0 / 2));
        assert!(half.0.abs_diff(mean.0 / 2) < mean.0 / 50, "{half}");
        let late = remaining(law, mean);
        assert!(
            late > Micros(mean.0 / 8) && late < Micros(mean.0 / 3),
            "{late}"
        );
        let very = remaining(law, Micros(mean.0 * 100));
        assert!(
            very > Micros(mean.0) && very < Micros(mean.0 * 100),
            "{very}"
        );
    }
}
