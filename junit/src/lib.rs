//! JUnit XML: writes the merged report of a run, and reads the reports of others.
//!
//! The crate owns the report's format and nothing of a run: it is given suites and cases through [`Source`] and hands
//! bytes to any [`std::io::Write`]. It does not open files, read clocks, retry tests or decide a verdict.
//!
//! The crate junit-report builds each fragment of a suite; one pass of quick-xml over the fragment's events then adds
//! what junit-report has no words for (lines, properties, earlier attempts, `skipped=` on the suite). Fragments are made
//! in parallel and written in order, and only a bounded number of them exists at any time.
//!
//! # Text
//! Tests print anything. XML 1.0 cannot hold the control characters U+0000–U+001F other than tab, line feed and
//! carriage return, nor U+FFFE and U+FFFF, in any spelling. They are replaced and never dropped: a control character by
//! its picture 2400 hexadecimal above it (ESC, U+001B, becomes U+241B `␛`), U+FFFE and U+FFFF by U+FFFD `�`. Whatever
//! else a string holds, an XML parser gives back character for character.

mod element;
mod fragment;
mod model;
mod read;
mod text;
mod times;
mod trim;
mod write;

pub use fragment::FragmentError;
pub use model::{Case, Counts, Fault, Outcome, Property, Rerun, RerunKind, Source, Suite, Totals};
pub use read::{ReadCase, ReadOutcome, ReadSuite, Summary, read};
pub use times::{SuiteTimes, Taken};
pub use write::{WriteError, write};
