//! Which repository a session works on, in one canonical form, so that two ways to write it are one repository.
//! Credentials never get in: they would end up in logs and events.

use std::fmt;

use thiserror::Error;

/// The identity of a repository.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub enum Repository {
    /// Reached over the network (or `file://`) from any node.
    Url(Url),
    /// A directory of the machine with this id.
    Path { path: AbsolutePath, machine: Box<str> },
}

/// A URL that git may be given: an allowed transport, no credentials, nothing that git takes for an option.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct Url(Box<str>);

/// An absolute path without `.`/`..` parts, empty parts or control characters.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct AbsolutePath(Box<str>);

#[derive(Clone, Debug, Error, PartialEq, Eq)]
pub enum BadRepository {
    #[error("is empty")]
    Empty,
    #[error("is longer than {LONGEST} bytes")]
    TooLong,
    #[error("has a control character")]
    Control,
    #[error("begins with '-', which git would take for an option")]
    Option,
    #[error("uses the transport '{0}'; allowed are https, http, ssh, git, file and host:path")]
    Transport(String),
    #[error("has a password or token in it; leave it out and use a credential helper on the node")]
    Credentials,
    #[error("names no repository: a host and a path are needed")]
    Incomplete,
    #[error("is not an absolute path without '.' and '..'")]
    NotAbsolute,
}

const LONGEST: usize = 2048;

impl Url {
    /// Checks and canonicalises: scheme and host in lower case, no default port, no user on http, no trailing
    /// slash, `host:/path` as `ssh://host/path`.
    pub fn new(text: &str) -> Result<Self, BadRepository> {
        check_text(text)?;
        let Some((scheme, rest)) = text.split_once("://") else {
            return Self::from_scp(text);
        };
        let scheme = scheme.to_ascii_lowercase();
        if !matches!(scheme.as_str(), "https" | "http" | "ssh" | "git" | "file") {
            return Err(BadRepository::Transport(scheme));
        }
        let (authority, path) = rest.split_once('/').ok_or(BadRepository::Incomplete)?;
        let authority = canonical_authority(&scheme, authority)?;
        let path = path.trim_end_matches('/');
        if path.is_empty() {
            return Err(BadRepository::Incomplete);
        }
        Ok(Self(format!("{scheme}://{authority}/{path}").into()))
    }

    fn from_scp(text: &str) -> Result<Self, BadRepository> {
        if let Some((transport, _)) = text.split_once("::") {
            return Err(BadRepository::Transport(transport.to_owned()));
        }
        let (authority, path) = text.split_once(':').ok_or(BadRepository::Incomplete)?;
        let path = path.trim_matches('/');
        if path.is_empty() || authority.contains('/') {
            return Err(BadRepository::Incomplete);
        }
        let authority = canonical_authority("ssh", authority)?;
        // A relative path is the server's to resolve and has no form as a URL that every server takes.
        let absolute = text.contains(":/");
        Ok(Self(
            if absolute { format!("ssh://{authority}/{path}") } else { format!("{authority}:{path}") }.into(),
        ))
    }

    pub fn as_str(&self) -> &str {
        &self.0
    }
}

impl AbsolutePath {
    pub fn new(text: &str) -> Result<Self, BadRepository> {
        check_text(text)?;
        let trimmed = if text == "/" { text } else { text.trim_end_matches('/') };
        let mut parts = trimmed.split('/');
        if parts.next() != Some("") || parts.any(|part| matches!(part, "" | "." | "..")) {
            return Err(BadRepository::NotAbsolute);
        }
        Ok(Self(trimmed.into()))
    }

    pub fn as_str(&self) -> &str {
        &self.0
    }
}

impl fmt::Display for Repository {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Url(url) => f.write_str(url.as_str()),
            Self::Path { path, .. } => f.write_str(path.as_str()),
        }
    }
}

fn check_text(text: &str) -> Result<(), BadRepository> {
    if text.is_empty() {
        Err(BadRepository::Empty)
    } else if text.len() > LONGEST {
        Err(BadRepository::TooLong)
    } else if text.chars().any(char::is_control) {
        Err(BadRepository::Control)
    } else if text.starts_with('-') {
        Err(BadRepository::Option)
    } else {
        Ok(())
    }
}

fn canonical_authority(scheme: &str, authority: &str) -> Result<String, BadRepository> {
    let (user, host) = match authority.rsplit_once('@') {
        Some((user, host)) => (Some(user), host),
        None => (None, authority),
    };
    if user.is_some_and(|user| user.contains(':') || (scheme.starts_with("http") && !user.is_empty())) {
        return Err(BadRepository::Credentials);
    }
    if host.starts_with('-') || user.is_some_and(|user| user.starts_with('-')) {
        return Err(BadRepository::Option);
    }
    if host.is_empty() && scheme != "file" {
        return Err(BadRepository::Incomplete);
    }
    let default_port = match scheme {
        "https" => ":443",
        "http" => ":80",
        "ssh" => ":22",
        "git" => ":9418",
        _ => "",
    };
    let host = host.to_ascii_lowercase();
    let host = if default_port.is_empty() { &host } else { host.strip_suffix(default_port).unwrap_or(&host) };
    Ok(match user {
        Some(user) if scheme == "ssh" && !user.is_empty() => format!("{user}@{host}"),
        _ => host.to_owned(),
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    fn url(text: &str) -> Result<String, BadRepository> {
        Url::new(text).map(|url| url.as_str().to_owned())
    }

    #[test]
    fn two_ways_to_write_a_repository_are_one() {
        let table = [
            ("HTTPS://Example.ORG:443/a/b.git/", "https://example.org/a/b.git"),
            ("git@example.org:a/b.git", "git@example.org:a/b.git"),
            ("git@example.org:/srv/b.git", "ssh://git@example.org/srv/b.git"),
            ("ssh://git@example.org:22/srv/b.git", "ssh://git@example.org/srv/b.git"),
            ("file:///srv/b.git", "file:///srv/b.git"),
        ];
        for (given, canonical) in table {
            assert_eq!(url(given).as_deref(), Ok(canonical), "{given}");
            assert_eq!(url(canonical).as_deref(), Ok(canonical), "canonical twice: {given}");
        }
    }

    #[test]
    fn what_could_harm_is_refused_with_its_reason() {
        use BadRepository as B;
        let table = [
            ("", B::Empty),
            ("-uhttps://x/y", B::Option),
            ("ssh://-oProxyCommand=x/y", B::Option),
            ("ext::sh -c id", B::Transport("ext".into())),
            ("ftp://example.org/a", B::Transport("ftp".into())),
            ("https://user:secret@example.org/a", B::Credentials),
            ("https://token@example.org/a", B::Credentials),
            ("https://example.org", B::Incomplete),
            ("https://example.org/", B::Incomplete),
            ("just-words", B::Incomplete),
            ("https://example.org/a\nb", B::Control),
        ];
        for (given, problem) in table {
            assert_eq!(url(given), Err(problem), "{given}");
        }
    }

    #[test]
    fn a_path_is_absolute_and_plain() {
        assert_eq!(AbsolutePath::new("/srv/a/").unwrap().as_str(), "/srv/a");
        for bad in ["srv/a", "/srv/../etc", "/srv//a", "/./a", "-x"] {
            assert!(AbsolutePath::new(bad).is_err(), "{bad}");
        }
    }
}
