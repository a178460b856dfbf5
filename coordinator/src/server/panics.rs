//! Which run a panic comes of. A defect that one run brings to light ends its coordinator, and the next one takes the run up again: it would
//! hold down all others. So each panic is noted beside the run's outputs, and after [`MOST`] of them the run is set aside.
//!
//! Only panics count, and only those of a run's own work: a coordinator that is killed, however often, says nothing of what it ran.

use std::cell::RefCell;
use std::fs::OpenOptions;
use std::io::Write;
use std::path::{Path, PathBuf};
use std::pin::Pin;
use std::sync::Arc;
use std::task::{Context, Poll};

/// A run of which so many panics have come is not taken up again.
pub(super) const MOST: usize = 3;
/// In a run's directory: a line for each.
const FILE: &str = "panics";

thread_local! {
    /// The directory of the run that this thread works for.
    static AT_WORK: RefCell<Option<Arc<Path>>> = const { RefCell::new(None) };
}

/// The run that a thread worked for when it panicked.
pub struct Blamed(Arc<Path>);

/// To be asked on the thread that panics: the run that it works for, if it works for one.
pub fn blamed() -> Option<Blamed> {
    let current = AT_WORK.try_with(|current| current.try_borrow().ok()?.clone());
    current.ok().flatten().map(Blamed)
}

impl Blamed {
    /// Notes it for the next coordinator, durably.
    pub fn note(&self, what: &str) -> std::io::Result<()> {
        std::fs::create_dir_all(&self.0)?;
        let file = OpenOptions::new()
            .create(true)
            .append(true)
            .open(self.0.join(FILE));
        let mut file = file?;
        let line = what.split_whitespace().collect::<Vec<_>>().join(" ");
        writeln!(file, "{line}")?;
        file.sync_data()
    }
}

/// What has been noted of a run.
pub(super) fn noted(directory: &Path) -> Vec<String> {
    let text = std::fs::read_to_string(directory.join(FILE)).unwrap_or_default();
    text.lines().map(str::to_owned).collect()
}

/// The run that this thread works for.
pub(super) fn current() -> Option<Arc<Path>> {
    AT_WORK.with_borrow(Clone::clone)
}

/// Works for a run, or for none.
pub(super) fn within<T>(directory: Option<Arc<Path>>, work: impl FnOnce() -> T) -> T {
    struct Before(Option<Arc<Path>>);
    impl Drop for Before {
        fn drop(&mut self) {
            AT_WORK.set(self.0.take());
        }
    }
    let _before = Before(AT_WORK.replace(directory));
    work()
}

/// A future whose work is done for a run.
pub(super) struct ForRun<F> {
    directory: Arc<Path>,
    future: Pin<Box<F>>,
}

pub(super) fn for_run<F: Future>(directory: PathBuf, future: F) -> ForRun<F> {
    ForRun {
        directory: directory.into(),
        future: Box::pin(future),
    }
}

impl<F: Future> Future for ForRun<F> {
    type Output = F::Output;

    fn poll(mut self: Pin<&mut Self>, context: &mut Context<'_>) -> Poll<F::Output> {
        let directory = Some(Arc::clone(&self.directory));
        within(directory, || self.future.as_mut().poll(context))
    }
}
