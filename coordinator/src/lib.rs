//! The coordinator: runs, their ledgers, history, reports, and the server that agents and clients talk to.
//!
//! A run is decided by the pure state machine in [`run`]; what is known of it is a [`record`] rebuilt from its ledger in
//! the [`store`]. The [`server`] carries events to runs and effects away from them. What asks a coordinator from elsewhere is a [`client`]. This crate never sees an agent's
//! code: it knows agents by the wire only.

pub mod client;
pub mod record;
pub mod rehearsal;
pub mod report;
pub mod rules;
pub mod run;
pub mod server;
pub mod shards;
pub mod store;
mod wire;
