//! Which revision of a unit's source there is: what was changed since it ran last may well fail.

use std::io;
use std::path::Path;

/// What is longer is no source.
const LONGEST: u64 = 16 << 20;

/// A digest of the file that a unit is: by `path`, or else by its name, both below the suite's directory. 0 where there is no
/// such file, or it cannot be read.
pub(crate) fn revision(directory: &Path, unit: &str, path: &str) -> u64 {
    let path = directory.join(if path.is_empty() { unit } else { path });
    read(&path).unwrap_or_default()
}

fn read(path: &Path) -> io::Result<u64> {
    let about = std::fs::metadata(path)?;
    if !about.is_file() || about.len() > LONGEST {
        return Ok(0);
    }
    let digest = blake3::hash(&std::fs::read(path)?);
    let (first, _) = (digest.as_bytes().split_first_chunk()).expect("a digest has 32 bytes");
    // The store has no numbers beyond 63 bits, and 0 says that nothing is known.
    Ok((u64::from_le_bytes(*first) >> 1).max(1))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_file_has_another_revision_when_it_was_changed_and_what_is_none_has_none() {
        let directory =
            std::env::temp_dir().join(format!("evenkeel-revision-{}", std::process::id()));
        std::fs::create_dir_all(&directory).unwrap();
        let at = |unit: &str, path: &str| revision(&directory, unit, path);
        std::fs::write(directory.join("a"), "1").unwrap();
        let before = at("a", "");
        assert_ne!(before, 0);
        assert_eq!(at("otherwise called", "a"), before);
        std::fs::write(directory.join("a"), "2").unwrap();
        assert!(![0, before].contains(&at("a", "")));
        assert_eq!([at("b", ""), at(".", ""), at("", "")], [0; 3]);
        std::fs::remove_dir_all(&directory).unwrap();
    }
}
