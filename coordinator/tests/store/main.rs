//! The store, on both of its databases: each test of `both` runs on SQLite and on PostgreSQL.

mod both;
mod faults;
mod file;
mod place;
mod restarts;
mod server;
