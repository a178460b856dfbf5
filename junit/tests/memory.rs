//! Memory stays bounded, however many cases a suite has and however much they print.

use std::alloc::{GlobalAlloc, Layout, System};
use std::io;
use std::ops::Range;
use std::sync::atomic::{AtomicUsize, Ordering::Relaxed};

use evenkeel_junit::{Case, Counts, Source, Suite, write};

/// The system's allocator, with a record of how much is allocated and how much ever was.
struct Metered;

static NOW: AtomicUsize = AtomicUsize::new(0);
static PEAK: AtomicUsize = AtomicUsize::new(0);

// SAFETY: every call goes on to the system's allocator unchanged.
unsafe impl GlobalAlloc for Metered {
    unsafe fn alloc(&self, layout: Layout) -> *mut u8 {
        let now = NOW.fetch_add(layout.size(), Relaxed) + layout.size();
        PEAK.fetch_max(now, Relaxed);
        unsafe { System.alloc(layout) }
    }

    unsafe fn dealloc(&self, pointer: *mut u8, layout: Layout) {
        NOW.fetch_sub(layout.size(), Relaxed);
        unsafe { System.dealloc(pointer, layout) }
    }
}

#[global_allocator]
static ALLOCATOR: Metered = Metered;

/// One suite whose cases are made when they are asked for.
struct Giant {
    tests: usize,
    output_bytes: usize,
}

impl Source for Giant {
    fn suites(&self) -> usize {
        1
    }

    fn suite(&self, _: usize) -> Suite<'_> {
        let counts = Counts {
            tests: self.tests,
            ..Counts::default()
        };
        Suite {
            counts,
            ..Suite::default()
        }
    }

    fn cases(&self, _: usize, range: Range<usize>) -> Vec<Case<'_>> {
        let case = |number: usize| Case {
            name: format!("case {number}").into(),
            system_out: Some("x".repeat(self.output_bytes).into()),
            ..Case::default()
        };
        range.map(case).collect()
    }
}

/// Two giants in one test: the record is the whole process's.
#[test]
fn memory_is_bounded_in_cases_and_in_bytes() {
    let used = peak(&Giant {
        tests: 50_000,
        output_bytes: 10,
    });
    assert!(used < 8 << 20, "{used} bytes for many cases");

    // Two windows of eight batches, each of up to two mebibytes, and some copies of each thread's fragment of one.
    let used = peak(&Giant {
        tests: 1_500,
        output_bytes: 64 << 10,
    });
    assert!(used < 48 << 20, "{used} bytes for long outputs");
}

/// Most bytes allocated at once while two of rayon's threads make the report.
fn peak(giant: &Giant) -> usize {
    let pool = rayon::ThreadPoolBuilder::new()
        .num_threads(2)
        .build()
        .expect("two threads");
    let before = NOW.load(Relaxed);
    PEAK.store(before, Relaxed);
    let totals = pool.install(|| write(giant, "giant", &mut io::sink()));
    assert_eq!(
        totals.expect("a sink takes everything").counts.tests,
        giant.tests
    );
    PEAK.load(Relaxed) - before
}
