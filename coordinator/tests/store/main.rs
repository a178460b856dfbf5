//! The store, on both of its databases: each test of `both` runs on SQLite and on PostgreSQL.

#![allow(clippy::unwrap_used)] // a test that cannot go on says where

mod both;
mod faults;
mod file;
mod place;
mod restarts;
mod server;
