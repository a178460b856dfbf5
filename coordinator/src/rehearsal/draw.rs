//! Drawing: numbers that look random and are the same for the same seed, on every machine and in every version.

/// Splitmix64 (Steele, Lea and Flood, "Fast splittable pseudorandom number generators", 2014).
#[derive(Clone, Debug)]
pub struct Draw {
    state: u64,
}

impl Draw {
    pub fn new(seed: u64) -> Draw {
        Draw { state: seed }
    }

    /// One that goes its own way, for this purpose: what is drawn elsewhere does not change it.
    #[must_use]
    pub fn apart(&self, purpose: u64) -> Draw {
        let mut apart = Draw::new(self.state ^ purpose.wrapping_mul(0xd1b5_4a32_d192_ed03));
        apart.number();
        apart
    }

    pub fn number(&mut self) -> u64 {
        self.state = self.state.wrapping_add(0x9e37_79b9_7f4a_7c15);
        let mut mixed = self.state;
        mixed = (mixed ^ (mixed >> 30)).wrapping_mul(0xbf58_476d_1ce4_e5b9);
        mixed = (mixed ^ (mixed >> 27)).wrapping_mul(0x94d0_49bb_1331_11eb);
        mixed ^ (mixed >> 31)
    }

    /// From 0 up to and without 1.
    pub fn unit(&mut self) -> f64 {
        (self.number() >> 11) as f64 / (1u64 << 53) as f64
    }

    /// From 0 up to and without `end`; 0 where that is 0.
    pub fn below(&mut self, end: u64) -> u64 {
        let wide = u128::from(self.number()) * u128::from(end);
        (wide >> 64) as u64
    }

    /// Standard normal (Box and Muller, "A note on the generation of random normal deviates", 1958).
    pub fn normal(&mut self) -> f64 {
        let radius = (-2.0 * (1.0 - self.unit()).ln()).sqrt();
        radius * (std::f64::consts::TAU * self.unit()).cos()
    }

    /// A factor around 1: the exponential of a normal number with this deviation.
    pub fn factor(&mut self, deviation: f64) -> f64 {
        (deviation * self.normal()).exp()
    }

    pub fn shuffle<T>(&mut self, items: &mut [T]) {
        for at in (1..items.len()).rev() {
            let other = self.below(at as u64 + 1) as usize;
            items.swap(at, other);
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn numbers_are_the_same_for_the_same_seed_and_spread_as_they_should() {
        let mut draw = Draw::new(7);
        let drawn: Vec<f64> = (0..20_000).map(|_| draw.normal()).collect();
        let mut again = Draw::new(7);
        assert!(drawn.iter().all(|&number| number == again.normal()));
        let mean = drawn.iter().sum::<f64>() / drawn.len() as f64;
        let squares = drawn.iter().map(|number| (number - mean).powi(2));
        let variance = squares.sum::<f64>() / drawn.len() as f64;
        assert!(
            mean.abs() < 0.03 && (variance - 1.0).abs() < 0.05,
            "{mean} {variance}"
        );
        assert!((0..1000).all(|_| draw.below(3) < 3));
        assert_eq!(draw.below(0), 0);
    }

    #[test]
    fn what_is_drawn_apart_does_not_depend_on_what_is_drawn_elsewhere() {
        let draw = Draw::new(1);
        let mut first = draw.apart(4);
        let mut other = draw.apart(5);
        other.number();
        assert_eq!(first.number(), draw.apart(4).number());
        assert_ne!(draw.apart(4).number(), draw.apart(5).number());
    }
}
