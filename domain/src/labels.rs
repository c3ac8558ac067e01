//! Labels on nodes and sessions, and selectors over them.

use std::collections::BTreeMap;
use std::fmt;

use thiserror::Error;

/// Checked key-value pairs, ordered by key, a key once.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Labels(BTreeMap<Box<str>, Box<str>>);

#[derive(Clone, Debug, Error, PartialEq, Eq)]
pub enum BadLabel {
    #[error("key {0:?} is not 1 to 63 of a-z, 0-9, '-', '_', '.' and '/'")]
    Key(String),
    #[error("value {1:?} of '{0}' is longer than 255 bytes or has a control character")]
    Value(String, String),
    #[error("there are {0} labels; at most {MOST} are allowed")]
    TooMany(usize),
}

const MOST: usize = 64;

impl Labels {
    pub fn new<K: Into<String>, V: Into<String>>(
        pairs: impl IntoIterator<Item = (K, V)>,
    ) -> Result<Self, BadLabel> {
        let mut labels = BTreeMap::new();
        for (key, value) in pairs {
            let (key, value) = (key.into(), value.into());
            let allowed = |c: char| matches!(c, 'a'..='z' | '0'..='9' | '-' | '_' | '.' | '/');
            if key.is_empty() || key.len() > 63 || !key.chars().all(allowed) {
                return Err(BadLabel::Key(key.chars().take(80).collect()));
            }
            if value.len() > 255 || value.chars().any(char::is_control) {
                return Err(BadLabel::Value(key, value.chars().take(80).collect()));
            }
            labels.insert(key.into(), value.into());
        }
        if labels.len() > MOST {
            return Err(BadLabel::TooMany(labels.len()));
        }
        Ok(Self(labels))
    }

    pub fn iter(&self) -> impl Iterator<Item = (&str, &str)> {
        self.0.iter().map(|(key, value)| (&**key, &**value))
    }

    pub fn is_empty(&self) -> bool {
        self.0.is_empty()
    }

    /// The first pair of `self`, read as a selector, that `labels` do not have.
    pub fn first_missing_in<'a>(&'a self, labels: &Self) -> Option<(&'a str, &'a str)> {
        self.iter().find(|(key, value)| labels.0.get(*key).is_none_or(|has| &**has != *value))
    }
}

impl fmt::Display for Labels {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        for (at, (key, value)) in self.iter().enumerate() {
            write!(f, "{}{key}={value}", if at == 0 { "" } else { "," })?;
        }
        Ok(())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_selector_names_what_is_missing() {
        let has = Labels::new([("zone", "a"), ("gpu", "yes")]).unwrap();
        let select = |pairs: &[(&'static str, &'static str)]| Labels::new(pairs.iter().copied()).unwrap();
        assert_eq!(select(&[("zone", "a")]).first_missing_in(&has), None);
        assert_eq!(select(&[("zone", "b")]).first_missing_in(&has), Some(("zone", "b")));
        assert_eq!(select(&[]).first_missing_in(&has), None);
        assert_eq!(has.to_string(), "gpu=yes,zone=a");
    }

    #[test]
    fn odd_keys_and_values_are_refused() {
        assert!(matches!(Labels::new([("A", "x")]), Err(BadLabel::Key(_))));
        assert!(matches!(Labels::new([("a", "x\ny")]), Err(BadLabel::Value(..))));
        assert!(matches!(Labels::new((0..65).map(|n| (format!("k{n}"), "v"))), Err(BadLabel::TooMany(65))));
    }
}
