//! The table of plugins in docs/pytest.md.

use crate::support::here;
use std::collections::BTreeMap;
use std::fs;

/// Each row names the version that these tests install.
#[test]
fn the_table_tells_the_versions_that_are_tried() {
    let plain = |name: &str| name.to_lowercase().replace('_', "-");
    let pins = fs::read_to_string(here("plugins/requirements.txt")).unwrap();
    let older = fs::read_to_string(here("plugins/environment")).unwrap();
    let pinned: BTreeMap<String, &str> = pins
        .lines()
        .chain(older.split(['(', ')', ' ']))
        .filter_map(|line| line.split_once("=="))
        .map(|(name, version)| (plain(name), version))
        .collect();
    let page = fs::read_to_string(here("../docs/pytest.md")).unwrap();
    let rows: Vec<_> = page
        .lines()
        .filter_map(|line| line.strip_prefix("| ")?.split_once(" | "))
        .filter_map(|(name, rest)| {
            let version = rest.split(" |").next()?;
            let number = version.starts_with(|first: char| first.is_ascii_digit());
            number.then_some((name, version))
        })
        .collect();
    assert!(rows.len() > 40, "{rows:?}");
    for (name, version) in rows {
        assert_eq!(pinned.get(&plain(name)), Some(&version), "{name}");
    }
}
