//! Plugins of pytest, each tried for real: a suite that uses it runs under plain pytest and under Evenkeel, at one slot and at two, and
//! every report of every test is the same. What a plugin does besides is shown in its own test. The table in
//! docs/pytest.md has a row for each.
//!
//! The plugins live in one environment, which `environment` beside this file makes. pytest does not load them by itself there:
//! each suite names its own with `-p`.

#![allow(clippy::unwrap_used)] // a test that cannot go on says where

#[path = "../support/mod.rs"]
mod support;

mod again;
mod alike;
mod chance;
mod coverage;
mod databases;
mod files;
mod snapshots;
mod table;
mod trial;
mod whole;
mod xdist;
