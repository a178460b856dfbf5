//! Which units there are.

use super::settings::Settings;
use globset::{GlobBuilder, GlobSet, GlobSetBuilder};
use std::collections::HashSet;
use std::path::{Path, PathBuf};
use std::process::{Command, Stdio};

/// The units in their order; why not, in words for the user.
pub(super) fn list(settings: &Settings, directory: &Path) -> Result<Vec<String>, String> {
    let listed = if let Some(command) = &settings.units_from {
        of_command(command, directory)?
    } else if let Some(file) = &settings.units_file {
        let path = directory.join(file);
        std::fs::read_to_string(&path).map_err(|error| {
            format!(
                "the list of units {} cannot be read: {error}",
                path.display()
            )
        })?
    } else {
        return of_patterns(&settings.units, directory);
    };
    let mut seen = HashSet::new();
    let units = listed
        .lines()
        .map(str::trim)
        .filter(|line| !line.is_empty());
    let units = units.filter(|unit| seen.insert(*unit));
    Ok(units.map(str::to_owned).collect())
}

fn of_command(command: &str, directory: &Path) -> Result<String, String> {
    let output = Command::new("sh")
        .args(["-c", command])
        .current_dir(directory)
        .stdin(Stdio::null())
        .env_remove(crate::cargo::SOCKET)
        .output()
        .map_err(|error| format!("sh cannot be started: {error}"))?;
    if !output.status.success() {
        let said = String::from_utf8_lossy(&output.stderr);
        return Err(format!(
            "the command that lists units failed ({}): {command}\n{}",
            output.status,
            said.trim_end()
        ));
    }
    Ok(String::from_utf8_lossy(&output.stdout).into_owned())
}

fn of_patterns(patterns: &[String], directory: &Path) -> Result<Vec<String>, String> {
    let (mut wanted, mut unwanted) = (GlobSetBuilder::new(), GlobSetBuilder::new());
    let mut roots: Vec<PathBuf> = Vec::new();
    for pattern in patterns {
        let plain = pattern.strip_prefix('!').unwrap_or(pattern);
        let plain = plain.strip_prefix("./").unwrap_or(plain);
        let glob = GlobBuilder::new(plain).literal_separator(true).build();
        let glob = glob.map_err(|error| format!("the pattern {pattern:?} is none: {error}"))?;
        if pattern.starts_with('!') {
            unwanted.add(glob);
        } else {
            wanted.add(glob);
            roots.push(root(plain));
        }
    }
    let build = |set: &GlobSetBuilder| -> Result<GlobSet, String> {
        set.build().map_err(|error| error.to_string())
    };
    let (wanted, unwanted) = (build(&wanted)?, build(&unwanted)?);
    let mut found: HashSet<String> = HashSet::new();
    for root in roots {
        // What version control and package managers keep is no test of this suite, unless a pattern begins in it.
        let walk = walkdir::WalkDir::new(directory.join(&root)).follow_links(true);
        let walk = walk.into_iter().filter_entry(|entry| {
            let name = entry.file_name().to_string_lossy();
            entry.depth() == 0 || !matches!(&*name, ".git" | "node_modules" | ".evenkeel")
        });
        for entry in walk.flatten().filter(|entry| entry.file_type().is_file()) {
            let Ok(path) = entry.path().strip_prefix(directory) else {
                continue;
            };
            if wanted.is_match(path) && !unwanted.is_match(path) {
                found.insert(path.to_string_lossy().into_owned());
            }
        }
    }
    let mut units: Vec<String> = found.into_iter().collect();
    units.sort_unstable();
    Ok(units)
}

/// The directory below which everything is that a pattern matches.
fn root(pattern: &str) -> PathBuf {
    let special = |part: &&str| !part.contains(['*', '?', '[', '{']);
    let mut parts: Vec<&str> = pattern.split('/').take_while(special).collect();
    if parts.len() == pattern.split('/').count() {
        parts.pop();
    }
    parts.iter().collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn patterns_find_files_and_take_some_out() {
        let directory = std::env::temp_dir().join(format!("evenkeel-units-{}", std::process::id()));
        for file in [
            "test/a.js",
            "test/deep/b.ts",
            "test/c.txt",
            "test/node_modules/d.js",
            "e.js",
        ] {
            let path = directory.join(file);
            std::fs::create_dir_all(path.parent().expect("it has one")).expect("a directory");
            std::fs::write(path, "").expect("a file");
        }
        let found = |patterns: &[&str]| {
            let patterns: Vec<String> = patterns.iter().map(|p| (*p).to_owned()).collect();
            of_patterns(&patterns, &directory).expect("the patterns are fine")
        };
        assert_eq!(
            found(&["test/**/*.{js,ts}"]),
            ["test/a.js", "test/deep/b.ts"]
        );
        assert_eq!(found(&["test/**/*.js", "*.js", "!test/a.js"]), ["e.js"]);
        assert_eq!(found(&["./e.js"]), ["e.js"]);
        assert!(of_patterns(&["[".to_owned()], &directory).is_err());
        std::fs::remove_dir_all(&directory).ok();
    }
}
