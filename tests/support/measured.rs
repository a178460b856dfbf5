//! Tests that measure: what they run, and how often they try.

use std::sync::{Mutex, PoisonError};

/// A file of a parametrised test that sleeps for these milliseconds; as often as `SLOWER` says where a machine has that variable.
pub fn sleeping(times: impl IntoIterator<Item = u64>) -> String {
    let times = times.into_iter();
    let times: Vec<String> = times
        .map(|ms| format!("{}.{:03}", ms / 1000, ms % 1000))
        .collect();
    format!(
        "import os, time, pytest\nSLOWER = float(os.environ.get('SLOWER', 1))\n\
         @pytest.mark.parametrize('s', [{}])\ndef test(s): time.sleep(s * SLOWER)\n",
        times.join(", ")
    )
}

/// So many files of so many tests that sleep for between 10 and 90 ms, 50 on average.
pub fn sleeping_files(files: u64, tests: u64) -> impl Iterator<Item = (String, String)> {
    (0..files).map(move |file| {
        let times = (0..tests).map(|test| (file * 37 + test * 61) % 80 + 10);
        (format!("test_{file:02}.py"), sleeping(times))
    })
}

/// What is measured has the machine for itself, as far as these tests go, and three tries: one that is busy with something else tells
/// nothing.
pub fn measured(mut difference: impl FnMut() -> Result<(), String>) {
    static ALONE: Mutex<()> = Mutex::new(());
    let _alone = ALONE.lock().unwrap_or_else(PoisonError::into_inner);
    let tries: Vec<String> = (0..3).map_while(|_| difference().err()).collect();
    assert!(tries.len() < 3, "{tries:?}");
}

pub fn close(simulated: f64, real: f64, by: f64) -> Result<(), String> {
    if (simulated - real).abs() < by {
        return Ok(());
    }
    Err(format!("simulated {simulated}, real {real}"))
}
