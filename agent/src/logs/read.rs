//! Reading a log, also while it is written. A reader gives what there is, in order and each byte once, and says how much
//! was dropped where something is missing. It keeps nothing on disk: its position is all there is to remember.

use std::fs::File;
use std::io;
use std::os::unix::fs::FileExt;
use std::path::{Path, PathBuf};

use bytes::Bytes;
use thiserror::Error;

use super::format::{FRAME, Frame, HEAD, LONGEST, segment, segments};
use super::{Chunk, From, Position, Stream};

#[derive(Debug, Error)]
#[error("cannot read the log in {}: {source}", directory.display())]
pub struct Error {
    pub directory: PathBuf,
    pub source: io::Error,
}

/// Reads one log.
#[derive(Debug)]
pub struct Reader {
    directory: PathBuf,
    /// Only this stream.
    only: Option<Stream>,
    /// The next byte to give.
    place: u64,
    /// Bytes that were found missing and not told of yet.
    missed: u64,
    current: Option<Open>,
}

#[derive(Debug)]
struct Open {
    file: File,
    begins: u64,
    /// The place of the next frame's first byte. One that says another is not whole.
    place: u64,
    /// Where in the file the window begins.
    at: u64,
    window: Vec<u8>,
    /// How much of the window is used up.
    used: usize,
}

/// How much of a segment is read at once.
const WINDOW: usize = 2 * (LONGEST + FRAME);

impl Reader {
    /// Begins to read the log in `directory`; one that is not there yet is empty.
    pub fn open(directory: &Path, from: From) -> Result<Self, Error> {
        let wrap = |source| Error { directory: directory.to_owned(), source };
        let place = match from {
            From::Beginning => 0,
            From::After(position) => position.place(),
            From::Tail(lines) => tail(directory, lines).map_err(wrap)?,
            From::Since(time) => since(directory, time).map_err(wrap)?,
        };
        Ok(Self { directory: directory.to_owned(), only: None, place, missed: 0, current: None })
    }

    /// The one of the two that begins later.
    #[must_use]
    pub fn or_later(self, other: Self) -> Self {
        if other.place > self.place { other } else { self }
    }

    /// Leaves the other streams out.
    #[must_use]
    pub fn only(self, stream: Option<Stream>) -> Self {
        Self { only: stream, ..self }
    }

    /// What comes next. `None`: nothing for now.
    pub fn next_chunk(&mut self) -> Result<Option<Chunk>, Error> {
        self.read().map_err(|source| Error { directory: self.directory.clone(), source })
    }

    fn read(&mut self) -> io::Result<Option<Chunk>> {
        while let Some((frame, data)) = self.frame()? {
            if let Some(chunk) = self.give(&frame, &data) {
                return Ok(Some(chunk));
            }
        }
        Ok(None)
    }

    fn frame(&mut self) -> io::Result<Option<(Frame, Bytes)>> {
        loop {
            let Some(current) = &mut self.current else {
                if self.enter(0)? {
                    continue;
                }
                return Ok(None);
            };
            if let Some(found) = current.frame()? {
                return Ok(Some(found));
            }
            let begins = current.begins;
            let Some(next) = listed(&self.directory)?.into_iter().find(|next| *next > begins) else {
                return Ok(None);
            };
            // More may have come between the look into this segment and the look for the next one.
            if let Some(found) = current.frame()? {
                return Ok(Some(found));
            }
            if !self.enter(next)? {
                return Ok(None);
            }
        }
    }

    /// Opens the segment that holds the next byte, or the first one after it, not before `least`. False: there is none.
    fn enter(&mut self, least: u64) -> io::Result<bool> {
        self.current = None;
        loop {
            let found = listed(&self.directory)?;
            let held = found.iter().rev().find(|begins| **begins <= self.place && **begins >= least);
            let Some(begins) = held.or_else(|| found.iter().find(|begins| **begins >= least)).copied() else {
                return Ok(false);
            };
            match Open::new(&self.directory, begins) {
                Ok(Some(open)) => {
                    self.current = Some(open);
                    return Ok(true);
                }
                // Its first line is not written yet.
                Ok(None) => return Ok(false),
                // Dropped since it was listed.
                Err(error) if error.kind() == io::ErrorKind::NotFound => {}
                Err(error) => return Err(error),
            }
        }
    }

    /// The part of a frame that was not given yet.
    fn give(&mut self, frame: &Frame, data: &Bytes) -> Option<Chunk> {
        let end = frame.place + data.len() as u64;
        if end <= self.place {
            return None;
        }
        let known = self.place.saturating_sub(frame.place);
        self.missed += frame.place.saturating_sub(self.place);
        self.place = end;
        if self.only.is_some_and(|only| only != frame.stream) {
            return None;
        }
        let begins = self.current.as_ref().map_or(0, |current| current.begins);
        Some(Chunk {
            stream: frame.stream,
            time: frame.time,
            data: data.slice(usize::try_from(known).unwrap_or(data.len())..),
            dropped: std::mem::take(&mut self.missed),
            next: Position { segment: begins, offset: end - begins },
        })
    }
}

impl Open {
    /// `None`: it holds no whole first line yet.
    fn new(directory: &Path, begins: u64) -> io::Result<Option<Self>> {
        let file = File::open(segment(directory, begins))?;
        let mut head = [0; HEAD.len()];
        if read_at(&file, &mut head, 0)? < HEAD.len() {
            return Ok(None);
        }
        if head != *HEAD {
            return Err(io::Error::new(io::ErrorKind::InvalidData, "a segment of another format or version"));
        }
        Ok(Some(Self { file, begins, place: begins, at: HEAD.len() as u64, window: Vec::new(), used: 0 }))
    }

    /// The next whole frame.
    fn frame(&mut self) -> io::Result<Option<(Frame, Bytes)>> {
        if let Some(found) = self.held() {
            return Ok(Some(found));
        }
        self.at += self.used as u64;
        self.used = 0;
        self.window.resize(WINDOW, 0);
        let count = read_at(&self.file, &mut self.window, self.at)?;
        self.window.truncate(count);
        Ok(self.held())
    }

    fn held(&mut self) -> Option<(Frame, Bytes)> {
        let rest = &self.window[self.used..];
        let frame = Frame::parse(rest).filter(|frame| frame.place == self.place)?;
        let data = rest.get(FRAME..FRAME + frame.length)?;
        let data = Bytes::copy_from_slice(data);
        self.used += FRAME + frame.length;
        self.place += frame.length as u64;
        Some((frame, data))
    }
}

/// The place at which the last `lines` lines begin. Looks at no more than the segments that hold them.
fn tail(directory: &Path, lines: u64) -> io::Result<u64> {
    let mut ends = None;
    for begins in listed(directory)?.into_iter().rev() {
        for (frame, data) in whole(directory, begins)?.iter().rev() {
            if lines == 0 {
                return Ok(frame.place + data.len() as u64);
            }
            // The end of the last line begins no other one.
            let ends = ends.get_or_insert_with(|| lines + u64::from(data.ends_with(b"\n")));
            for (at, _) in data.iter().enumerate().rev().filter(|(_, byte)| **byte == b'\n') {
                *ends -= 1;
                if *ends == 0 {
                    return Ok(frame.place + at as u64 + 1);
                }
            }
        }
    }
    // There are not so many: all of them.
    Ok(0)
}

/// The place of the first output that is not older than `time`.
fn since(directory: &Path, time: i64) -> io::Result<u64> {
    let mut relevant = Vec::new();
    for begins in listed(directory)?.into_iter().rev() {
        relevant.push(begins);
        let first = opened(directory, begins)?.map(|mut open| open.frame()).transpose()?.flatten();
        if first.is_some_and(|(frame, _)| frame.time < time) {
            break;
        }
    }
    let mut end = 0;
    for begins in relevant.into_iter().rev() {
        let Some(mut open) = opened(directory, begins)? else { continue };
        while let Some((frame, data)) = open.frame()? {
            if frame.time >= time {
                return Ok(frame.place);
            }
            end = frame.place + data.len() as u64;
        }
    }
    Ok(end)
}

/// Every frame of a segment.
fn whole(directory: &Path, begins: u64) -> io::Result<Vec<(Frame, Bytes)>> {
    let mut frames = Vec::new();
    if let Some(mut open) = opened(directory, begins)? {
        while let Some(frame) = open.frame()? {
            frames.push(frame);
        }
    }
    Ok(frames)
}

/// `None`: it was dropped meanwhile, or has no first line yet.
fn opened(directory: &Path, begins: u64) -> io::Result<Option<Open>> {
    match Open::new(directory, begins) {
        Err(error) if error.kind() == io::ErrorKind::NotFound => Ok(None),
        opened => opened,
    }
}

fn listed(directory: &Path) -> io::Result<Vec<u64>> {
    match segments(directory) {
        Err(error) if error.kind() == io::ErrorKind::NotFound => Ok(Vec::new()),
        listed => listed,
    }
}

fn read_at(file: &File, buffer: &mut [u8], at: u64) -> io::Result<usize> {
    let mut count = 0;
    while count < buffer.len() {
        match file.read_at(&mut buffer[count..], at + count as u64) {
            Ok(0) => break,
            Ok(more) => count += more,
            Err(error) if error.kind() == io::ErrorKind::Interrupted => {}
            Err(error) => return Err(error),
        }
    }
    Ok(count)
}
