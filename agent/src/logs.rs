//! A run's log: both of its streams in the order in which they came, in segments that are dropped oldest first when the
//! log meets its cap. Written by the run's supervisor, read by anybody, also while it is written.
//!
//! Places in it are counted in bytes since the run began, whatever was dropped, and every segment is named by the place
//! at which it begins: so a reader knows exactly how much it missed, and a position stays good after every restart.

pub mod follow;
mod format;
pub mod keep;
pub mod read;
pub(crate) mod write;

pub use format::Stream;

/// The cap of a log that was given none.
pub const CAP: u64 = 64 * 1024 * 1024;

/// A place in a run's log.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, PartialOrd, Ord)]
pub struct Position {
    /// Where the segment begins.
    pub segment: u64,
    /// How many bytes of output come before this place in the segment.
    pub offset: u64,
}

impl Position {
    /// How many bytes the run had written before this place.
    pub fn place(self) -> u64 {
        self.segment.saturating_add(self.offset)
    }
}

/// What a run wrote at once, or a part of it.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Chunk {
    pub stream: Stream,
    /// Milliseconds since 1970.
    pub time: i64,
    pub data: bytes::Bytes,
    /// How many bytes before it are gone: the log met its cap, or its disk was full.
    pub dropped: u64,
    /// Where to go on after this.
    pub next: Position,
}

/// Where to begin.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum From {
    #[default]
    Beginning,
    /// With this many lines from the end.
    Tail(u64),
    /// With what was written at this time or later, in milliseconds since 1970.
    Since(i64),
    After(Position),
}

#[cfg(test)]
mod tests;
