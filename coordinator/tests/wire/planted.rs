//! Faults of the wire that are planted to see that they are found.

pub use evenkeel_coordinator::server::planted::{FAULTS, Fault, plant};
