//! A run on virtual time: the same state machine, with agents, slots and processes that are played.
//!
//! A [`Scene`] says what there is to run, who runs it, and what the run believes of it; [`play`] has [`crate::run::Run`] decide
//! as it does in earnest, and gives its record. Nothing here reads a clock, does IO or draws: what is random is drawn into the scene
//! beforehand, so that a scene always plays the same.

mod draw;
mod explain;
mod model;
mod paces;
mod play;
mod recorded;
mod remembered;
mod scene;
mod slot;
mod sweep;
mod whatif;
mod words;

pub use draw::Draw;
pub use explain::{
    Cause, Change, Explained, Lost, Step, causes, dearest, explain, is_worth_explaining, outline,
};
pub use model::Model;
pub use play::{Input, Played, Stalled, play, play_noting};
pub use recorded::recorded;
pub use remembered::remembered;
pub use scene::{Agent, Case, Listing, Loss, Scene, Slot, Speed, Suite, Unit, Ways};
pub use sweep::{Point, slots_within, sweep};
pub use whatif::WhatIf;
pub use words::words;
