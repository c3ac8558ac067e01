//! Writing a log. It never holds up the run: what cannot be written (a full disk) is left out, and what is left out or
//! dropped is counted by the places that readers find missing.

use std::collections::VecDeque;
use std::fs::{self, File, OpenOptions};
use std::io::{self, IoSlice, Write};
use std::os::unix::fs::OpenOptionsExt;
use std::path::{Path, PathBuf};

use super::format::{FRAME, Frame, HEAD, LONGEST, Stream, segment};

/// Segments in a log that is full.
const SEGMENTS: u64 = 16;
const LARGEST: u64 = 4 * 1024 * 1024;
const SMALLEST: u64 = 4 * 1024;

#[derive(Debug)]
pub(crate) struct Writer {
    directory: PathBuf,
    cap: u64,
    /// The most bytes in a segment's file.
    largest: u64,
    /// Bytes of output so far.
    place: u64,
    dropped: u64,
    current: Option<Segment>,
    /// The closed ones that are kept, oldest first.
    closed: VecDeque<Closed>,
}

#[derive(Debug)]
struct Segment {
    file: File,
    begins: u64,
    size: u64,
}

#[derive(Debug)]
struct Closed {
    begins: u64,
    ends: u64,
    size: u64,
}

impl Writer {
    /// A new log in `directory`, of at most `cap` bytes on disk.
    pub(crate) fn new(directory: &Path, cap: u64) -> Self {
        let largest = (cap / SEGMENTS).clamp(SMALLEST, LARGEST);
        Self {
            directory: directory.to_owned(),
            cap: cap.max(2 * SMALLEST),
            largest,
            place: 0,
            dropped: 0,
            current: None,
            closed: VecDeque::new(),
        }
    }

    /// Goes on with a log of which nothing is left, from this place.
    pub(crate) fn behind(directory: &Path, place: u64) -> Self {
        Self { place, ..Self::new(directory, 0) }
    }

    pub(crate) fn append(&mut self, stream: Stream, time: i64, data: &[u8]) {
        let longest = LONGEST.min(usize::try_from(self.largest).unwrap_or(LONGEST) - FRAME - HEAD.len());
        for data in data.chunks(longest) {
            let frame = Frame { stream, time, place: self.place, length: data.len() };
            if self.write(&frame, data).is_err() {
                self.abandon();
                self.dropped += data.len() as u64;
            }
            self.place += data.len() as u64;
        }
    }

    /// How many bytes the run wrote.
    pub(crate) fn written(&self) -> u64 {
        self.place
    }

    /// How many of them are not kept.
    pub(crate) fn dropped(&self) -> u64 {
        self.dropped
    }

    fn write(&mut self, frame: &Frame, data: &[u8]) -> io::Result<()> {
        let size = (FRAME + data.len()) as u64;
        if self.current.as_ref().is_none_or(|current| current.size + size > self.largest) {
            self.rotate()?;
        }
        if let Some(current) = &mut self.current {
            let header = frame.bytes();
            write_both(&mut current.file, &header, data)?;
            current.size += size;
        }
        Ok(())
    }

    fn rotate(&mut self) -> io::Result<()> {
        self.close();
        let mut kept: u64 = self.closed.iter().map(|closed| closed.size).sum();
        while kept + self.largest > self.cap
            && let Some(oldest) = self.closed.pop_front()
        {
            fs::remove_file(segment(&self.directory, oldest.begins))?;
            self.dropped += oldest.ends - oldest.begins;
            kept -= oldest.size;
        }
        let path = segment(&self.directory, self.place);
        let mut file = OpenOptions::new().write(true).create_new(true).mode(0o600).open(&path)?;
        if let Err(error) = file.write_all(HEAD) {
            // Nobody misses an empty segment; the next one has another name.
            let _ = fs::remove_file(&path);
            return Err(error);
        }
        self.current = Some(Segment { file, begins: self.place, size: HEAD.len() as u64 });
        Ok(())
    }

    fn close(&mut self) {
        if let Some(Segment { begins, size, .. }) = self.current.take() {
            self.closed.push_back(Closed { begins, ends: self.place, size });
        }
    }

    /// Cuts off what was written of a frame, as far as that is possible; readers see that it does not hold in any case.
    fn abandon(&mut self) {
        if let Some(current) = &self.current {
            let _ = current.file.set_len(current.size);
        }
        self.close();
    }
}

fn write_both(file: &mut File, mut header: &[u8], mut data: &[u8]) -> io::Result<()> {
    while !header.is_empty() {
        match file.write_vectored(&[IoSlice::new(header), IoSlice::new(data)]) {
            Ok(0) => return Err(io::ErrorKind::WriteZero.into()),
            Ok(count) => {
                let of_header = count.min(header.len());
                (header, data) = (&header[of_header..], &data[count - of_header..]);
            }
            Err(error) if error.kind() == io::ErrorKind::Interrupted => {}
            Err(error) => return Err(error),
        }
    }
    file.write_all(data)
}
