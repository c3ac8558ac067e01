//! Logs as they are written, capped, read and followed.

use std::fs::{self, OpenOptions};
use std::path::Path;

use super::read::Reader;
use super::write::Writer;
use super::{Chunk, From, Stream};

fn everything(directory: &Path, from: From) -> Vec<Chunk> {
    let mut reader = Reader::open(directory, from).unwrap();
    std::iter::from_fn(|| reader.next_chunk().unwrap()).collect()
}

fn text(chunks: &[Chunk]) -> String {
    chunks.iter().map(|chunk| String::from_utf8_lossy(&chunk.data)).collect()
}

fn files(directory: &Path) -> Vec<(String, u64)> {
    let entry =
        |entry: fs::DirEntry| (entry.file_name().into_string().unwrap(), entry.metadata().unwrap().len());
    let mut found: Vec<_> = fs::read_dir(directory).unwrap().map(|found| entry(found.unwrap())).collect();
    found.sort();
    found
}

#[test]
fn both_streams_come_back_in_order_with_their_times() {
    let dir = tempfile::tempdir().unwrap();
    let mut log = Writer::new(dir.path(), 1 << 20);
    log.append(Stream::Output, 10, b"one\n");
    log.append(Stream::Error, 20, b"two\n");
    let chunks = everything(dir.path(), From::Beginning);
    let seen: Vec<_> = chunks.iter().map(|chunk| (chunk.stream, chunk.time, &chunk.data[..])).collect();
    assert_eq!(seen, [(Stream::Output, 10, &b"one\n"[..]), (Stream::Error, 20, b"two\n")]);
    let mut only = Reader::open(dir.path(), From::Beginning).unwrap().only(Some(Stream::Error));
    assert_eq!(only.next_chunk().unwrap().unwrap().data, "two\n");
}

#[test]
fn a_log_that_is_not_there_yet_is_empty_and_then_read() {
    let dir = tempfile::tempdir().unwrap();
    let directory = dir.path().join("log");
    let mut reader = Reader::open(&directory, From::Tail(3)).unwrap();
    assert!(reader.next_chunk().unwrap().is_none());
    fs::create_dir(&directory).unwrap();
    Writer::new(&directory, 1 << 20).append(Stream::Output, 1, b"x");
    assert_eq!(reader.next_chunk().unwrap().unwrap().data, "x");
}

#[test]
fn at_the_cap_the_oldest_is_dropped_and_every_reader_is_told_exactly_how_much() {
    let dir = tempfile::tempdir().unwrap();
    let cap = 64 * 1024;
    let mut log = Writer::new(dir.path(), cap);
    let mut early = Reader::open(dir.path(), From::Beginning).unwrap();
    let line = |number: u32| format!("line {number:08}\n");
    log.append(Stream::Output, 1, line(0).as_bytes());
    let first = early.next_chunk().unwrap().unwrap();
    for number in 1..20_000 {
        log.append(Stream::Output, 1, line(number).as_bytes());
    }
    assert!(files(dir.path()).iter().map(|(_, size)| size).sum::<u64>() <= cap);
    for (from, had) in [(From::Beginning, 0), (From::After(first.next), first.data.len() as u64)] {
        let chunks = everything(dir.path(), from);
        let given: u64 = chunks.iter().map(|chunk| chunk.data.len() as u64).sum();
        let dropped: u64 = chunks.iter().map(|chunk| chunk.dropped).sum();
        assert!(dropped > 0);
        assert_eq!(had + dropped + given, log.written());
        assert_eq!(dropped + had, log.dropped());
        assert!(text(&chunks).ends_with(&line(19_999)));
    }
}

#[test]
fn a_reader_begun_anew_at_each_position_sees_everything_once() {
    let dir = tempfile::tempdir().unwrap();
    let mut log = Writer::new(dir.path(), 1 << 20);
    let mut wanted = String::new();
    for number in 0..5_000 {
        let line = format!("{number}\n");
        log.append(Stream::Output, 1, line.as_bytes());
        wanted += &line;
    }
    let (mut seen, mut from) = (String::new(), From::Beginning);
    loop {
        let mut reader = Reader::open(dir.path(), from).unwrap();
        let some: Vec<_> = (0..700).map_while(|_| reader.next_chunk().unwrap()).collect();
        let Some(last) = some.last() else { break };
        from = From::After(last.next);
        seen += &text(&some);
    }
    assert_eq!(seen, wanted);
}

#[test]
fn the_tail_is_so_many_lines_of_whatever_was_written_at_once() {
    let dir = tempfile::tempdir().unwrap();
    let mut log = Writer::new(dir.path(), 1 << 20);
    for piece in ["a\nb", "b\n", "c\nd\n", "e"] {
        log.append(Stream::Output, 1, piece.as_bytes());
    }
    let tail = |lines| text(&everything(dir.path(), From::Tail(lines)));
    assert_eq!([tail(0), tail(1), tail(2), tail(4)], ["", "e", "d\ne", "bb\nc\nd\ne"]);
    assert_eq!(tail(99), "a\nbb\nc\nd\ne");
    log.append(Stream::Output, 1, b"\n");
    assert_eq!([tail(0), tail(1), tail(2)], ["", "e\n", "d\ne\n"]);
    // Over many segments too.
    for number in 0..100_000 {
        log.append(Stream::Output, 1, format!("{number}\n").as_bytes());
    }
    assert_eq!(tail(30_000).lines().count(), 30_000);
    assert!(tail(30_000).starts_with("70000\n"));
}

#[test]
fn since_begins_with_the_first_output_of_that_time() {
    let dir = tempfile::tempdir().unwrap();
    let mut log = Writer::new(dir.path(), 8 << 20);
    for number in 0..40_000 {
        log.append(Stream::Output, number, format!("{number}\n").as_bytes());
    }
    for time in [0, 1, 777, 20_000, 39_999] {
        assert!(text(&everything(dir.path(), From::Since(time))).starts_with(&format!("{time}\n")), "{time}");
    }
    assert_eq!(text(&everything(dir.path(), From::Since(40_000))), "");
}

#[test]
fn a_frame_that_was_cut_off_ends_the_log_and_nothing_of_it_is_given() {
    let dir = tempfile::tempdir().unwrap();
    let mut log = Writer::new(dir.path(), 1 << 20);
    log.append(Stream::Output, 1, b"whole");
    log.append(Stream::Output, 1, b"cut off");
    let path = dir.path().join(&files(dir.path())[0].0);
    let length = fs::metadata(&path).unwrap().len();
    for left in [length - 3, length - 20] {
        OpenOptions::new().write(true).open(&path).unwrap().set_len(left).unwrap();
        assert_eq!(text(&everything(dir.path(), From::Beginning)), "whole");
    }
    // After a power cut there may be zeros.
    OpenOptions::new().write(true).open(&path).unwrap().set_len(length).unwrap();
    assert_eq!(text(&everything(dir.path(), From::Beginning)), "whole");
}

#[test]
fn output_that_could_not_be_written_is_told_as_dropped() {
    let dir = tempfile::tempdir().unwrap();
    let mut log = Writer::new(&dir.path().join("gone"), 64 * 1024);
    log.append(Stream::Output, 1, b"lost");
    fs::create_dir(dir.path().join("gone")).unwrap();
    log.append(Stream::Output, 1, b"kept");
    assert_eq!((log.written(), log.dropped()), (8, 4));
    let chunks = everything(&dir.path().join("gone"), From::Beginning);
    assert_eq!((text(&chunks).as_str(), chunks[0].dropped), ("kept", 4));
}

#[test]
fn a_segment_of_another_version_is_an_error_and_not_garbage() {
    let dir = tempfile::tempdir().unwrap();
    fs::write(dir.path().join(format!("{:020}", 0)), "DROVER LOG 0002\nwhatever").unwrap();
    let error = Reader::open(dir.path(), From::Beginning).unwrap().next_chunk().unwrap_err();
    assert!(error.to_string().contains("another format or version"), "{error}");
}
