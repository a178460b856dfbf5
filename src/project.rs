//! What the checkout tells: the project's name, the commit, and whether the working tree differs from it.

use evenkeel_proto::v1;
use std::path::Path;
use std::process::{Command, Stdio};

/// The repository's name: from its remote, else the name of its top directory, else that of the directory itself.
pub fn name(directory: &Path) -> String {
    let from_remote = git(directory, &["config", "--get", "remote.origin.url"]).and_then(|url| {
        let last = url
            .trim_end_matches('/')
            .rsplit(['/', ':'])
            .next()?
            .trim_end_matches(".git")
            .to_owned();
        (!last.is_empty()).then_some(last)
    });
    let top = || git(directory, &["rev-parse", "--show-toplevel"]);
    let base = |path: String| {
        Path::new(&path)
            .file_name()
            .map(|name| name.to_string_lossy().into_owned())
    };
    from_remote
        .or_else(|| top().and_then(base))
        .or_else(|| base(directory.to_string_lossy().into_owned()))
        .unwrap_or_else(|| "project".to_owned())
}

/// The commit that is checked out, its branch, and a digest of local changes to tracked files.
pub fn commit(directory: &Path) -> v1::Commit {
    let Some(id) = git(directory, &["rev-parse", "HEAD"]) else {
        return v1::Commit::default();
    };
    let branch = git(directory, &["rev-parse", "--abbrev-ref", "HEAD"]).unwrap_or_default();
    let changes =
        git(directory, &["diff", "HEAD", "--no-ext-diff"]).filter(|diff| !diff.is_empty());
    let changes = changes.map(|diff| blake3::hash(diff.as_bytes()).to_hex()[..16].to_owned());
    v1::Commit {
        id,
        branch,
        changes: changes.unwrap_or_default(),
    }
}

fn git(directory: &Path, arguments: &[&str]) -> Option<String> {
    let output = Command::new("git")
        .args(arguments)
        .current_dir(directory)
        .stdin(Stdio::null())
        .stderr(Stdio::null())
        .output()
        .ok()?;
    let text = String::from_utf8_lossy(&output.stdout).trim().to_owned();
    output.status.success().then_some(text)
}
