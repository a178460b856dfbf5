//! What the size of a unit's source tells of its duration: something, where nothing else is known.

use super::learner::UnitFacts;
use super::log;
use crate::Micros;

/// A unit of which nothing else is known: this, plus `PER_BYTE_NS` for each byte of its source.
const DEFAULT: Micros = Micros(50_000);
const PER_BYTE_NS: u64 = 20_000;
/// The exponent between what is so assumed and what units take, before units show one, and as how much evidence it counts.
const EXPONENT: f64 = 0.5;
const EVIDENCE: f64 = 5.0;
const LARGEST: f64 = 1.5;

/// What is added to the level of each unit, and the level of a suite of which nothing is known. `known` is the level of each unit
/// that has run before.
pub(super) fn by_size(units: &[UnitFacts<'_>], known: &[Option<f64>]) -> (Vec<f64>, f64) {
    let assumed = |size: u64| log(DEFAULT + Micros(size.saturating_mul(PER_BYTE_NS) / 1000));
    let sized = units.iter().filter(|unit| unit.size > 0);
    let count = sized.clone().count();
    if count == 0 {
        return (vec![0.0; units.len()], log(DEFAULT));
    }
    let usual = sized.map(|unit| assumed(unit.size)).sum::<f64>() / count as f64;
    let both = units.iter().zip(known).filter(|(unit, _)| unit.size > 0);
    let both: Vec<(f64, f64)> = both
        .filter_map(|(unit, level)| Some((assumed(unit.size), (*level)?)))
        .collect();
    let exponent = if both.is_empty() { 1.0 } else { slope(&both) };
    let offset = |unit: &UnitFacts<'_>| match unit.size {
        0 => 0.0,
        size => exponent * (assumed(size) - usual),
    };
    (units.iter().map(offset).collect(), usual)
}

/// The slope of a line through points, drawn towards what is assumed by how little they tell.
fn slope(points: &[(f64, f64)]) -> f64 {
    let count = points.len() as f64;
    let x = points.iter().map(|point| point.0).sum::<f64>() / count;
    let y = points.iter().map(|point| point.1).sum::<f64>() / count;
    let squares: f64 = points.iter().map(|point| (point.0 - x).powi(2)).sum();
    let products: f64 = points
        .iter()
        .map(|point| (point.0 - x) * (point.1 - y))
        .sum();
    ((products + EVIDENCE * EXPONENT) / (squares + EVIDENCE)).clamp(0.0, LARGEST)
}
