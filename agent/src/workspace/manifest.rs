//! What of files a tree cannot express: a line for each unusual mode, each empty directory, and each thing that could
//! not be saved. Paths are bytes in quotes, with their own names.

use std::collections::BTreeMap;
use std::io::Write as _;

use super::names::{quoted, unquoted};
use super::walk::{Found, Kind};

/// By path: the mode, and whether it is a directory.
pub(super) type Modes = BTreeMap<Vec<u8>, (u32, bool)>;

/// Adds the line of a thing that needs one.
pub(super) fn note(lines: &mut Vec<u8>, found: &Found<'_>) -> std::io::Result<()> {
    let (kind, is_plain) = match found.kind {
        Kind::File { .. } => ("file", matches!(found.mode, 0o644 | 0o755)),
        Kind::Directory { is_empty } => ("directory", found.mode == 0o755 && !is_empty),
        Kind::Link { .. } => ("link", true),
        Kind::Other => ("unsaved", false),
    };
    if !is_plain {
        write!(lines, "{:04o} {kind} ", found.mode)?;
        lines.extend(quoted(found.path));
        lines.push(b'\n');
    }
    Ok(())
}

/// Reads the lines back; what is not understood is left out.
pub(super) fn read(lines: &[u8]) -> Modes {
    lines.split(|byte| *byte == b'\n').filter_map(line).collect()
}

fn line(line: &[u8]) -> Option<(Vec<u8>, (u32, bool))> {
    let mut fields = line.splitn(3, |byte| *byte == b' ');
    let mode = u32::from_str_radix(std::str::from_utf8(fields.next()?).ok()?, 8).ok()?;
    let is_directory = match fields.next()? {
        b"file" => false,
        b"directory" => true,
        _ => return None,
    };
    Some((unquoted(fields.next()?)?, (mode, is_directory)))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_was_noted_is_read_back_whatever_its_name_is() {
        let mut lines = Vec::new();
        let found = |path, mode, kind| Found { path, mode, changed: 0, modified: 0, inode: 0, kind };
        let file = || Kind::File { file: None, size: 0 };
        note(&mut lines, &found(b"a \xff\n\"b\"", 0o600, file())).unwrap();
        note(&mut lines, &found(b"plain", 0o644, file())).unwrap();
        note(&mut lines, &found(b"pipe", 0o644, Kind::Other)).unwrap();
        note(&mut lines, &found(b"empty", 0o755, Kind::Directory { is_empty: true })).unwrap();
        let expected = [(b"a \xff\n\"b\"".to_vec(), (0o600, false)), (b"empty".to_vec(), (0o755, true))];
        assert_eq!(read(&lines), expected.into());
    }
}
