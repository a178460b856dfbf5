//! What makes a seed repeat itself: while a simulation is played, its thread is told the time by the simulation and is given the same
//! random bytes each time. Hash tables, tokio's choice among branches and every clock come of these.
//!
//! Both are asked of the C library, whose functions a program may have of its own; other threads, SQLite's for one, get what they ask.

use std::cell::Cell;
use std::time::Duration;

thread_local! {
    /// Time on this thread's clocks, in nanoseconds; nothing where no simulation is played.
    static NOW: Cell<Option<u64>> = const { Cell::new(None) };
    /// By how much the wall clock is wrong, in nanoseconds.
    static SHIFT: Cell<i64> = const { Cell::new(0) };
    static RANDOM: Cell<u64> = const { Cell::new(0) };
}

/// Seconds since 1970 when a simulation begins.
const BEGIN: i64 = 1_900_000_000;

/// From now on a simulation is played on this thread.
pub fn begin(seed: u64) {
    RANDOM.set(seed);
    NOW.set(Some(1_000_000_000));
}

/// So much time of the simulation has passed.
pub fn set(elapsed: Duration) {
    NOW.set(Some(1_000_000_000 + elapsed.as_nanos() as u64));
}

/// When it was so late on the wall clock, in microseconds since 1970, as long as that has not jumped.
pub fn elapsed_at(unix_us: u64) -> Duration {
    Duration::from_micros(unix_us.saturating_sub((BEGIN as u64 + 1) * 1_000_000))
}

/// The wall clock jumps.
pub fn jump(seconds: i64) {
    SHIFT.set(SHIFT.get() + seconds * 1_000_000_000);
}

/// # Safety
/// As in the C library: `into` is a place for a time.
#[unsafe(no_mangle)]
pub unsafe extern "C" fn clock_gettime(
    clock: libc::clockid_t,
    into: *mut libc::timespec,
) -> libc::c_int {
    let Some(now) = NOW.get() else {
        // SAFETY: the same call, passed on.
        return unsafe { libc::syscall(libc::SYS_clock_gettime, clock, into) } as libc::c_int;
    };
    let mut nanoseconds = now as i64;
    if clock == libc::CLOCK_REALTIME {
        nanoseconds += BEGIN * 1_000_000_000 + SHIFT.get();
    }
    // SAFETY: the caller gives a place for a time.
    unsafe {
        (*into).tv_sec = nanoseconds.div_euclid(1_000_000_000);
        (*into).tv_nsec = nanoseconds.rem_euclid(1_000_000_000);
    }
    0
}

/// # Safety
/// As in the C library: `into` has room for `length` bytes.
#[unsafe(no_mangle)]
pub unsafe extern "C" fn getrandom(
    into: *mut libc::c_void,
    length: libc::size_t,
    flags: libc::c_uint,
) -> libc::ssize_t {
    if NOW.get().is_none() {
        // SAFETY: the same call, passed on.
        return unsafe { libc::syscall(libc::SYS_getrandom, into, length, flags) } as libc::ssize_t;
    }
    for byte in 0..length {
        // A multiplicative generator is random enough for hash tables.
        let next = RANDOM
            .get()
            .wrapping_mul(6_364_136_223_846_793_005)
            .wrapping_add(1);
        RANDOM.set(next);
        // SAFETY: the caller gives room for `length` bytes.
        unsafe { *into.cast::<u8>().add(byte) = (next >> 56) as u8 };
    }
    length as libc::ssize_t
}
