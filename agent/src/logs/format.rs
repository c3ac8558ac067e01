//! How a log lies on disk. A segment is a file named by the place of its first byte of output: a line that tells format
//! and version, then frames. A frame is a header of 24 bytes and the output. A frame that does not hold (cut off by a
//! crash, or never written out before a power cut) ends its segment.

use std::fs;
use std::io;
use std::path::{Path, PathBuf};

/// What a segment begins with.
pub(super) const HEAD: &[u8; 16] = b"DROVER LOG 0001\n";
pub(super) const FRAME: usize = 24;
/// The most output in one frame.
pub(super) const LONGEST: usize = 64 * 1024;
const MARK: u8 = 0xD7;

/// Which stream of a run.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Stream {
    Output,
    Error,
    /// What Drover itself says.
    Drover,
}

impl Stream {
    fn number(self) -> u8 {
        match self {
            Self::Output => 1,
            Self::Error => 2,
            Self::Drover => 3,
        }
    }

    fn of(number: u8) -> Option<Self> {
        [Self::Output, Self::Error, Self::Drover].into_iter().find(|stream| stream.number() == number)
    }
}

/// A frame's header.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct Frame {
    pub(super) stream: Stream,
    pub(super) time: i64,
    /// The place of its first byte: no frame is ever missing unseen.
    pub(super) place: u64,
    pub(super) length: usize,
}

impl Frame {
    pub(super) fn bytes(&self) -> [u8; FRAME] {
        let mut bytes = [0; FRAME];
        (bytes[0], bytes[1]) = (MARK, self.stream.number());
        bytes[4..8].copy_from_slice(&u32::try_from(self.length).unwrap_or(u32::MAX).to_le_bytes());
        bytes[8..16].copy_from_slice(&self.time.to_le_bytes());
        bytes[16..24].copy_from_slice(&self.place.to_le_bytes());
        bytes
    }

    /// `None`: this is no frame, or only a part of its header.
    pub(super) fn parse(bytes: &[u8]) -> Option<Self> {
        let bytes: &[u8; FRAME] = bytes.first_chunk()?;
        let length = u32::from_le_bytes(*bytes[4..].first_chunk()?) as usize;
        let frame = Self {
            stream: Stream::of(bytes[1])?,
            time: i64::from_le_bytes(*bytes[8..].first_chunk()?),
            place: u64::from_le_bytes(*bytes[16..].first_chunk()?),
            length,
        };
        (bytes[0] == MARK && (1..=LONGEST).contains(&length)).then_some(frame)
    }
}

/// The file of the segment that begins at this place.
pub(super) fn segment(directory: &Path, place: u64) -> PathBuf {
    directory.join(format!("{place:020}"))
}

/// Where the segments begin that are there, in order.
pub(super) fn segments(directory: &Path) -> io::Result<Vec<u64>> {
    let mut found = Vec::new();
    for entry in fs::read_dir(directory)? {
        let name = entry?.file_name();
        found.extend(name.to_str().filter(|name| name.len() == 20).and_then(|name| name.parse::<u64>().ok()));
    }
    found.sort_unstable();
    Ok(found)
}
