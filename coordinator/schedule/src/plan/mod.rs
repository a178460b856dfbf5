//! Static plans: which unit on which slot, before anything has run.
//!
//! [`plan`], [`lpt`] and [`multifit`] take slots of one speed and units that fit each of them, which is what the dispatcher asks all
//! the time. [`solve`] takes the whole [`Problem`]: slots of their own speeds, and [`Rule`]s about what runs where, with what and beside what.
//! What happens while a plan is carried out is the dispatcher's.

mod blocks;
mod ends;
mod equal;
mod exact;
mod pack;
mod place;
pub mod planted;
mod problem;
mod room;
mod solve;

pub use equal::{lpt, multifit, plan};
pub use problem::{PlanError, Problem, Rule, SlotOffer};
pub use solve::solve;

use crate::Micros;

/// An assignment of every unit to one slot.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Plan {
    /// Unit numbers for each slot, in the order in which they should start.
    pub shards: Vec<Vec<u32>>,
    /// When the last slot should end, on the clock on which slots are ready.
    pub makespan: Micros,
    /// Units that wait for others and when they start, by their numbers. Every other unit starts as soon as the one before
    /// it on its slot has ended, or its slot is ready.
    pub held: Vec<(u32, Micros)>,
}
