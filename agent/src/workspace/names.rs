//! Names in saved trees and in what git reads. A tree must not name `.git` (nor `git~1`, which is the same on
//! Windows): such a part of a path, and every one that already has it, gets the ending `~drover`. No two paths
//! become the same, and each comes back as it was.

const ESCAPE: &[u8] = b"~drover";
/// Where the pointer of a worktree would be in a tree.
pub(super) const POINTER: &[u8] = b".git~drover";

/// The path with the parts that no tree may have made harmless.
pub(super) fn escaped(path: &[u8], is_link: bool) -> Vec<u8> {
    let mut parts: Vec<Vec<u8>> = path.split(|byte| *byte == b'/').map(<[u8]>::to_vec).collect();
    let last = parts.len() - 1;
    for (at, part) in parts.iter_mut().enumerate() {
        let bare = bare(part);
        let is_modules =
            bare.eq_ignore_ascii_case(b".gitmodules") && ((is_link && at == last) || bare.len() < part.len());
        if is_repository(bare) || is_modules {
            part.extend_from_slice(ESCAPE);
        }
    }
    parts.join(&b'/')
}

/// The name that an escaped path had.
pub(super) fn restored(path: &[u8]) -> Vec<u8> {
    let part = |part: &[u8]| {
        let bare = bare(part);
        let is_escaped = is_repository(bare) || bare.eq_ignore_ascii_case(b".gitmodules");
        part.strip_suffix(ESCAPE).filter(|_| is_escaped).unwrap_or(part).to_vec()
    };
    path.split(|byte| *byte == b'/').map(part).collect::<Vec<_>>().join(&b'/')
}

fn bare(part: &[u8]) -> &[u8] {
    let mut bare = part;
    while let Some(shorter) = bare.strip_suffix(ESCAPE) {
        bare = shorter;
    }
    bare
}

fn is_repository(part: &[u8]) -> bool {
    part.eq_ignore_ascii_case(b".git") || part.eq_ignore_ascii_case(b"git~1")
}

/// As git reads a path in double quotes.
pub(super) fn quoted(path: &[u8]) -> Vec<u8> {
    let mut text = vec![b'"'];
    for byte in path {
        match byte {
            b'"' | b'\\' => text.extend([b'\\', *byte]),
            b'\n' => text.extend(b"\\n"),
            other => text.push(*other),
        }
    }
    text.push(b'"');
    text
}

/// The path that was [`quoted`].
pub(super) fn unquoted(text: &[u8]) -> Option<Vec<u8>> {
    let inner = text.strip_prefix(b"\"")?.strip_suffix(b"\"")?;
    let mut path = Vec::with_capacity(inner.len());
    let mut bytes = inner.iter();
    while let Some(byte) = bytes.next() {
        path.push(match byte {
            b'\\' => match bytes.next()? {
                b'n' => b'\n',
                other => *other,
            },
            other => *other,
        });
    }
    Some(path)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_name_comes_back_and_none_that_a_tree_must_not_have_is_left() {
        let names = [
            "a",
            ".git",
            ".GIT",
            "git~1",
            ".git~drover",
            ".Git~drover~drover",
            ".gitmodules",
            ".gitmodules~drover",
            "x~drover",
            "~drover",
            "~drover~drover",
            "nested/.git/modules/.git/config",
            "new\nline \"quoted\" \\",
        ];
        let mut seen = std::collections::BTreeSet::new();
        for name in names {
            for is_link in [false, true] {
                let saved = escaped(name.as_bytes(), is_link);
                assert_eq!(restored(&saved), name.as_bytes());
                let forbidden =
                    |part: &[u8]| [&b".git"[..], b"git~1"].contains(&&part.to_ascii_lowercase()[..]);
                assert!(!saved.split(|byte| *byte == b'/').any(forbidden), "{name}");
                seen.insert(saved);
            }
            assert_eq!(unquoted(&quoted(name.as_bytes())).unwrap(), name.as_bytes());
        }
        assert_eq!(seen.len(), names.len() + 1, "only .gitmodules differs as a link");
    }
}
