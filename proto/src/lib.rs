//! The wire and the ledger's payloads, as generated from `proto/`. Nothing here knows what a message means: each side
//! converts at its own door (`wire.rs`) and keeps generated types out of its core.

pub mod text;

/// The protocol between clients, coordinator and agents.
pub mod v1 {
    #![allow(clippy::all, missing_docs)]
    tonic::include_proto!("evenkeel.v1");
}

/// What is to be run and how, on the wire and in the ledger.
pub mod suite {
    #![allow(clippy::all, missing_docs)]
    tonic::include_proto!("evenkeel.suite.v1");
}

/// The payloads of the ledger's rows.
pub mod ledger {
    #![allow(clippy::all, missing_docs)]
    tonic::include_proto!("evenkeel.ledger.v1");
}

/// Every `.proto` file as a descriptor set, encoded.
pub const DESCRIPTORS: &[u8] = include_bytes!(concat!(env!("OUT_DIR"), "/evenkeel.descriptors"));

/// The range of protocol versions that this build speaks, lowest and highest.
pub const VERSIONS: (u32, u32) = (1, 2);

/// The largest message that either side accepts, in bytes.
pub const MAX_MESSAGE: usize = 32 << 20;
