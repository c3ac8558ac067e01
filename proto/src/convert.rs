//! Wire to domain and back. What comes in is checked here, once, and every problem is said with the path of its field;
//! what goes out is rendered here, so that every service shows the same thing in the same way.

pub mod assignment;
pub mod inventory;
pub mod node;
pub mod plan;
pub mod record;
pub mod report;
pub mod run;
pub mod session;
pub mod spec;
#[cfg(test)]
mod tests;
pub mod time;

use std::fmt;
use std::str::FromStr;

use thiserror::Error;

/// One field that is not as it must be.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Violation {
    pub field: String,
    pub description: String,
}

/// Everything that is wrong with a message.
#[derive(Clone, Debug, Default, Error, PartialEq, Eq)]
#[error("{}", self.0.iter().map(ToString::to_string).collect::<Vec<_>>().join("; "))]
pub struct Invalid(pub Vec<Violation>);

impl fmt::Display for Violation {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}: {}", self.field, self.description)
    }
}

impl Invalid {
    pub fn one(field: impl Into<String>, description: impl fmt::Display) -> Self {
        Self(vec![Violation { field: field.into(), description: description.to_string() }])
    }

    pub fn add(&mut self, field: impl Into<String>, description: impl fmt::Display) {
        self.0.push(Violation { field: field.into(), description: description.to_string() });
    }

    /// Keeps the problems of a part, with the path of the part before theirs.
    pub fn take<T>(&mut self, part: Result<T, Self>) -> Option<T> {
        part.map_err(|problems| self.0.extend(problems.0)).ok()
    }

    /// The value, if nothing was wrong.
    pub fn or<T>(self, value: Option<T>) -> Result<T, Self> {
        match value {
            Some(value) if self.0.is_empty() => Ok(value),
            _ => Err(self),
        }
    }

    #[must_use]
    pub fn within(mut self, path: &str) -> Self {
        self.0.iter_mut().for_each(|violation| violation.field = format!("{path}.{}", violation.field));
        self
    }
}

/// A field that is text on the wire and has a form of its own.
pub fn parsed<T: FromStr>(field: &str, text: &str) -> Result<T, Invalid>
where
    T::Err: fmt::Display,
{
    text.parse().map_err(|problem: T::Err| Invalid::one(field, problem))
}

/// A message that must be there.
pub fn required<T>(field: &str, value: Option<T>) -> Result<T, Invalid> {
    value.ok_or_else(|| Invalid::one(field, "is missing"))
}

/// An enum's value as the wire names it.
pub fn known<E: TryFrom<i32>>(field: &str, value: i32) -> Result<E, Invalid> {
    E::try_from(value)
        .map_err(|_| Invalid::one(field, format!("{value} is not a value that this version knows")))
}

/// Text that may be left out.
pub fn optional(text: &str) -> Option<Box<str>> {
    (!text.is_empty()).then(|| text.into())
}
