//! Runs that are told what happens, event by event, where a test is about one moment.

#![allow(clippy::unwrap_used)] // a test that cannot go on says where

mod alone;
mod awaited;
mod copies;
mod deadlines;
mod play;
