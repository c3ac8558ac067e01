//! The system calls that neither std nor rustix offers, and the only place of this crate with `unsafe`. Each function
//! here is safe to call as its comment says; nothing here decides anything.
#![allow(unsafe_code)]

use std::ffi::{c_int, c_long};
use std::io;
use std::os::fd::{AsFd, AsRawFd, BorrowedFd, FromRawFd, OwnedFd};
use std::os::unix::process::CommandExt;
use std::process::Command;
use std::time::Duration;

use rustix::process::Signal;

/// As the C library has it on 64-bit Linux: a bit for each signal, in 128 bytes.
#[repr(C)]
struct SignalSet([u64; 16]);

#[repr(C)]
#[derive(Clone, Copy)]
struct Length {
    seconds: c_long,
    micros: c_long,
}

/// `struct rusage`.
#[repr(C)]
struct Used {
    user: Length,
    system: Length,
    peak_kilobytes: c_long,
    rest: [c_long; 13],
}

/// `struct clone_args`.
#[repr(C)]
#[derive(Default)]
struct Birth {
    flags: u64,
    pidfd: u64,
    child_tid: u64,
    parent_tid: u64,
    exit_signal: u64,
    stack: u64,
    stack_size: u64,
    tls: u64,
    set_tid: u64,
    set_tid_size: u64,
    cgroup: u64,
}

unsafe extern "C" {
    fn fork() -> c_int;
    fn syscall(number: c_long, ...) -> c_long;
    fn _exit(code: c_int) -> !;
    fn sigprocmask(how: c_int, set: *const SignalSet, old: *mut SignalSet) -> c_int;
    fn signalfd(fd: c_int, set: *const SignalSet, flags: c_int) -> c_int;
    fn getrusage(who: c_int, used: *mut Used) -> c_int;
}

const SIG_BLOCK: c_int = 0;
const SIG_SETMASK: c_int = 2;
const SFD_CLOEXEC: c_int = 0o2_000_000;
const SFD_NONBLOCK: c_int = 0o4_000;
const RUSAGE_CHILDREN: c_int = -1;
/// On every architecture that is younger than 2011, and x86-64.
const SYS_CLONE3: c_long = 435;
const SYS_CLOSE_RANGE: c_long = 436;
const CLONE_INTO_CGROUP: u64 = 0x2_0000_0000;

/// Which of the two a process is after a fork.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Fork {
    /// With the child's pid.
    Parent(u32),
    Child,
}

impl Fork {
    fn of(returned: c_long) -> io::Result<Self> {
        match u32::try_from(returned) {
            Ok(0) => Ok(Self::Child),
            Ok(pid) => Ok(Self::Parent(pid)),
            Err(_) => Err(io::Error::last_os_error()),
        }
    }
}

/// Closes whatever a careless starter left open. For a program that has opened nothing itself yet.
pub(crate) fn close_inherited() {
    const FIRST: c_int = 3;
    // SAFETY: nothing of this program refers to a descriptor beyond the standard ones. An older kernel refuses, which
    // leaves them open.
    unsafe { syscall(SYS_CLOSE_RANGE, FIRST, c_int::MAX, 0) };
}

/// Doubles this process. Only for a program that has one thread: another one's locks would stay locked in the child.
pub(crate) fn split() -> io::Result<Fork> {
    // SAFETY: the caller has one thread (only the shim calls this), so that the child's memory is as consistent as the
    // parent's.
    Fork::of(unsafe { fork() }.into())
}

/// Doubles this process; the new one is born in the control group of this directory. That takes a quarter of a
/// millisecond, where moving it there takes twenty and holds up every fork of the machine. For one thread only.
pub(crate) fn split_into(cgroup: BorrowedFd<'_>) -> io::Result<Fork> {
    let birth = Birth {
        flags: CLONE_INTO_CGROUP,
        exit_signal: u64::from(Signal::CHILD.as_raw().unsigned_abs()),
        cgroup: u64::from(cgroup.as_raw_fd().unsigned_abs()),
        ..Birth::default()
    };
    // SAFETY: the arguments have the layout that the kernel reads and outlive the call; without a stack and shared
    // memory the call is a fork. The C library does not see it, which is of no consequence to a program with one thread.
    Fork::of(unsafe { syscall(SYS_CLONE3, &raw const birth, size_of::<Birth>()) })
}

/// Ends a process that was split off, and nothing else: what is to be done at the parent's end stays to be done.
pub(crate) fn leave(code: i32) -> ! {
    // SAFETY: it never returns and touches nothing of this process.
    unsafe { _exit(code) }
}

/// Keeps these signals from having an effect; they are read from the file instead. What is started by
/// [`before_exec`] hears them again.
pub(crate) fn signal_file(signals: &[Signal]) -> io::Result<OwnedFd> {
    let mut set = SignalSet([0; 16]);
    for signal in signals {
        set.0[0] |= 1 << (signal.as_raw() - 1);
    }
    // SAFETY: the set outlives both calls, has the layout that they read, and the old set is not asked for. The
    // descriptor is new and nobody else's.
    unsafe {
        if sigprocmask(SIG_BLOCK, &raw const set, std::ptr::null_mut()) != 0 {
            return Err(io::Error::last_os_error());
        }
        match signalfd(-1, &raw const set, SFD_CLOEXEC | SFD_NONBLOCK) {
            -1 => Err(io::Error::last_os_error()),
            file => Ok(OwnedFd::from_raw_fd(file)),
        }
    }
}

/// The next signal of a [`signal_file`]; none: none waits.
pub(crate) fn next_signal(file: impl AsFd) -> Option<i32> {
    let mut record = [0_u8; 128];
    match rustix::io::read(file, &mut record) {
        Ok(128) => Some(i32::from_ne_bytes([record[0], record[1], record[2], record[3]])),
        Ok(_) | Err(_) => None,
    }
}

/// What every descendant used that ended and was waited for: time on processors, and the peak memory of the largest.
pub(crate) fn used_by_children() -> Option<(Duration, u64)> {
    let zero = Length { seconds: 0, micros: 0 };
    let mut used = Used { user: zero, system: zero, peak_kilobytes: 0, rest: [0; 13] };
    // SAFETY: `used` has the layout of `struct rusage` on 64-bit Linux and is ours to write.
    if unsafe { getrusage(RUSAGE_CHILDREN, &raw mut used) } != 0 {
        return None;
    }
    let length = |length: Length| -> Option<Duration> {
        Some(Duration::new(u64::try_from(length.seconds).ok()?, u32::try_from(length.micros).ok()? * 1_000))
    };
    Some((length(used.user)? + length(used.system)?, u64::try_from(used.peak_kilobytes).ok()? * 1_024))
}

/// Has the new process hear every signal and do `prepare` before it becomes the program. Only for a program that has
/// one thread.
pub(crate) fn before_exec(
    command: &mut Command,
    mut prepare: impl FnMut() -> io::Result<()> + Send + Sync + 'static,
) {
    let none = SignalSet([0; 16]);
    let become_program = move || {
        // SAFETY: the set is alive, has the layout that is read, and the old one is not asked for.
        if unsafe { sigprocmask(SIG_SETMASK, &raw const none, std::ptr::null_mut()) } != 0 {
            return Err(io::Error::last_os_error());
        }
        prepare()
    };
    // SAFETY: between fork and exec a program with more threads may only do what is safe in a signal handler. The
    // shim has one thread.
    unsafe { command.pre_exec(become_program) };
}
