//! The one validator for everything that a person names: sessions, projects, nodes, labels' keys.
//! A name is safe in a path, a branch, a tmux target and a container name without quoting.

use std::borrow::Borrow;
use std::fmt;
use std::str::FromStr;

use thiserror::Error;

/// The longest a name may be, in bytes.
pub const LONGEST: usize = 63;

/// A checked name: `[a-z0-9]([a-z0-9-]{0,61}[a-z0-9])?`.
#[derive(Clone, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct Name(Box<str>);

#[derive(Clone, Debug, Error, PartialEq, Eq)]
pub enum BadName {
    #[error("is empty; give a name of a-z, 0-9 and '-'")]
    Empty,
    #[error("is {0} bytes long; a name has at most {LONGEST}")]
    TooLong(usize),
    #[error("begins or ends with '-'; a name begins and ends with a letter or digit")]
    Edge,
    #[error("has the character {0:?}; a name has only a-z, 0-9 and '-'")]
    Character(char),
}

impl Name {
    pub fn new(text: &str) -> Result<Self, BadName> {
        if text.is_empty() {
            return Err(BadName::Empty);
        }
        if text.len() > LONGEST {
            return Err(BadName::TooLong(text.len()));
        }
        let allowed = |c: &char| matches!(c, 'a'..='z' | '0'..='9' | '-');
        if let Some(other) = text.chars().find(|c| !allowed(c)) {
            return Err(BadName::Character(other));
        }
        if text.starts_with('-') || text.ends_with('-') {
            return Err(BadName::Edge);
        }
        Ok(Self(text.into()))
    }

    pub fn as_str(&self) -> &str {
        &self.0
    }

    /// The project that sessions belong to if none is named.
    pub fn default_project() -> Self {
        Self("default".into())
    }

    pub fn is_default_project(&self) -> bool {
        &*self.0 == "default"
    }
}

impl fmt::Display for Name {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.0)
    }
}

impl fmt::Debug for Name {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        fmt::Debug::fmt(&self.0, f)
    }
}

impl FromStr for Name {
    type Err = BadName;
    fn from_str(text: &str) -> Result<Self, BadName> {
        Self::new(text)
    }
}

impl Borrow<str> for Name {
    fn borrow(&self) -> &str {
        &self.0
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    #[test]
    fn names_are_judged_by_one_table() {
        let long = "a".repeat(64);
        let table = [
            ("a", Ok(())),
            ("fix-login-2", Ok(())),
            (&long[..63], Ok(())),
            ("", Err(BadName::Empty)),
            (&long, Err(BadName::TooLong(64))),
            ("-rf", Err(BadName::Edge)),
            ("a-", Err(BadName::Edge)),
            ("..", Err(BadName::Character('.'))),
            ("a\nb", Err(BadName::Character('\n'))),
            ("Ab", Err(BadName::Character('A'))),
            ("a/b", Err(BadName::Character('/'))),
            ("a@{b", Err(BadName::Character('@'))),
            ("é", Err(BadName::Character('é'))),
        ];
        for (text, expected) in table {
            assert_eq!(Name::new(text).map(|_| ()), expected, "{text:?}");
        }
    }

    proptest! {
        #[test]
        fn what_the_pattern_allows_is_a_name(text in "[a-z0-9]([a-z0-9-]{0,61}[a-z0-9])?") {
            let name = Name::new(&text).unwrap();
            prop_assert_eq!(name.as_str(), text);
        }
    }
}
