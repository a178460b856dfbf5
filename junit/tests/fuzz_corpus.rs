//! What the fuzzers have found to be worth keeping, each of it checked as they check it.

use std::fs;
use std::panic::{AssertUnwindSafe, catch_unwind};
use std::path::{Path, PathBuf};

#[path = "../fuzz/src/lib.rs"]
mod promises;

/// The kept inputs of one target, of which there are at least so many.
fn replay(target: &str, at_least: usize, check: fn(&[u8])) {
    let directory = Path::new(env!("CARGO_MANIFEST_DIR")).join("fuzz/corpus");
    let entries = fs::read_dir(directory.join(target)).expect("the corpus is there");
    let files: Vec<PathBuf> = entries.flatten().map(|entry| entry.path()).collect();
    assert!(files.len() >= at_least, "only {} inputs", files.len());
    let fails = |file: &&PathBuf| {
        let bytes = fs::read(file).expect("an input");
        catch_unwind(AssertUnwindSafe(|| check(&bytes))).is_err()
    };
    let failed: Vec<&PathBuf> = files.iter().filter(fails).collect();
    assert!(failed.is_empty(), "{failed:#?}");
}

#[test]
fn any_bytes_are_read_as_promised() {
    replay("read", 30, promises::read);
}

#[test]
fn any_cut_is_read_as_promised() {
    replay("cut", 30, promises::cut);
}
