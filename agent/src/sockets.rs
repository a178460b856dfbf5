//! The directory in which processes of slots find their sockets.

use std::io;
use std::path::PathBuf;

/// A temporary directory with a longer name than this leaves no room for a socket's path.
const LONG: usize = 64;

/// A private directory with a short name: a socket's path has at most 107 bytes.
pub(crate) struct Sockets(pub PathBuf);

impl Sockets {
    pub(crate) fn create() -> io::Result<Sockets> {
        use std::os::unix::fs::DirBuilderExt;
        use std::sync::atomic::{AtomicU32, Ordering};
        static SESSIONS: AtomicU32 = AtomicU32::new(0);
        let session = SESSIONS.fetch_add(1, Ordering::Relaxed);
        let temporary = match std::env::temp_dir() {
            long if long.is_dir() && long.as_os_str().len() > LONG => PathBuf::from("/tmp"),
            fits => fits,
        };
        let path = temporary.join(format!(
            "{}{}-{session}",
            crate::guard::SOCKETS,
            std::process::id()
        ));
        std::fs::remove_dir_all(&path).ok();
        std::fs::DirBuilder::new().mode(0o700).create(&path)?;
        Ok(Sockets(path))
    }
}

impl Drop for Sockets {
    fn drop(&mut self) {
        std::fs::remove_dir_all(&self.0).ok();
    }
}
