//! The scheduling core: estimates, plans, dispatch and bounds, as pure functions of their inputs.
//!
//! Nothing here reads a clock, does IO or knows what a test is. Units and slots are small numbers that the caller gives
//! out; time is whole microseconds on the caller's clock. The same calls in the same order give the same answers: ties
//! break on the unit's number, and no sum is taken in floating point.

mod bound;
mod dispatch;
mod estimate;
mod plan;
mod split;
mod time;

pub use bound::{Bound, SlotCapacity, lower_bound};
pub use dispatch::{Dispatcher, Lap, Needs, Order, Weight, planted as planted_dispatch};
pub use estimate::{Estimate, Experience, Guess, Learner, Past, PastRun, Sample, UnitFacts};
pub use plan::{Plan, PlanError, Problem, Rule, SlotOffer, lpt, multifit, plan, planted, solve};
pub use split::{Piece, Split, split};
pub use time::Micros;
