//! What the checkout tells: the project's name, the commit, and whether the working tree differs from it.
//!
//! Outside a repository nothing is started; inside one only the digest of local changes takes git.

use evenkeel_proto::v1;
use std::path::{Path, PathBuf};
use std::process::{Command, Stdio};

/// The repository's name: from its remote, else the name of its top directory, else that of the directory itself.
pub fn name(directory: &Path) -> String {
    let base = |path: &Path| {
        path.file_name()
            .map(|name| name.to_string_lossy().into_owned())
    };
    let top = top(directory);
    let remote = top
        .as_ref()
        .and_then(|_| git(directory, &["config", "--get", "remote.origin.url"]));
    let from_remote = remote.and_then(|url| {
        let last = url
            .trim_end_matches('/')
            .rsplit(['/', ':'])
            .next()?
            .trim_end_matches(".git")
            .to_owned();
        (!last.is_empty()).then_some(last)
    });
    from_remote
        .or_else(|| base(top.as_deref().unwrap_or(directory)))
        .unwrap_or_else(|| "project".to_owned())
}

/// The commit that is checked out, its branch, and a digest of local changes to tracked files. Empty outside a repository.
pub fn commit(directory: &Path) -> v1::Commit {
    if top(directory).is_none() {
        return v1::Commit::default();
    }
    let Some(told) = git(directory, &["rev-parse", "HEAD", "--abbrev-ref", "HEAD"]) else {
        return v1::Commit::default();
    };
    let (id, branch) = told.split_once('\n').unwrap_or((told.as_str(), ""));
    let changes =
        git(directory, &["diff", "HEAD", "--no-ext-diff"]).filter(|diff| !diff.is_empty());
    let changes = changes.map(|diff| blake3::hash(diff.as_bytes()).to_hex()[..16].to_owned());
    v1::Commit {
        id: id.to_owned(),
        branch: branch.to_owned(),
        changes: changes.unwrap_or_default(),
    }
}

/// The directory at or above this one that holds `.git`.
fn top(directory: &Path) -> Option<PathBuf> {
    directory
        .ancestors()
        .find(|above| above.join(".git").exists())
        .map(Path::to_owned)
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
