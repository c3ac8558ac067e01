//! What a command that failed tells: what went wrong, where, why, what to do next, and the exit code. Every failure of
//! the program is one of these; text that came from elsewhere is made safe to print here, once.

use std::fmt;
use std::io;

use crate::output::sanitise::line;

/// Exit codes, as the contract has them.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Exit {
    Failed,
    Usage,
    NotFound,
    Conflict,
    Unavailable,
    NotAllowed,
    TimedOut,
    /// Drover could not do its own work for an attached run.
    Drover,
    Interrupted,
    /// Nobody reads what is printed any more: not worth a word.
    Unread,
}

impl Exit {
    pub fn code(self) -> u8 {
        match self {
            Self::Unread => 0,
            Self::Failed => 1,
            Self::Usage => 2,
            Self::NotFound => 3,
            Self::Conflict => 4,
            Self::Unavailable => 5,
            Self::NotAllowed => 6,
            Self::TimedOut => 7,
            Self::Drover => 125,
            Self::Interrupted => 130,
        }
    }
}

#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Failure {
    pub exit: Exit,
    told: Box<Told>,
}

#[derive(Clone, Debug, Default, PartialEq, Eq)]
struct Told {
    what: String,
    place: Option<String>,
    why: Vec<String>,
    next: Vec<String>,
    /// The word by which programs know it, if the controller gave one.
    reason: Option<String>,
}

impl std::error::Error for Failure {}

impl Failure {
    pub fn new(exit: Exit, what: impl fmt::Display) -> Self {
        Self { exit, told: Box::new(Told { what: what.to_string(), ..Told::default() }) }
    }

    /// Where it went wrong: a file, an address.
    #[must_use]
    pub fn at(mut self, place: impl fmt::Display) -> Self {
        self.told.place.get_or_insert_with(|| place.to_string());
        self
    }

    #[must_use]
    pub fn why(mut self, why: impl fmt::Display) -> Self {
        self.told.why.push(why.to_string());
        self
    }

    /// What the person could do about it.
    #[must_use]
    pub fn next(mut self, next: impl fmt::Display) -> Self {
        self.told.next.push(next.to_string());
        self
    }

    /// The same, with another exit code.
    #[must_use]
    pub fn ending(mut self, exit: Exit) -> Self {
        self.exit = exit;
        self
    }

    /// The word by which programs know it.
    #[must_use]
    pub fn because(mut self, reason: &str) -> Self {
        self.told.reason = Some(reason.to_owned());
        self
    }

    pub fn is_because(&self, reason: &str) -> bool {
        self.told.reason.as_deref() == Some(reason)
    }

    /// Whether there is nothing to say.
    pub fn is_silent(&self) -> bool {
        self.exit == Exit::Unread
    }
}

impl fmt::Display for Failure {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let Told { what, place, why, next, .. } = &*self.told;
        write!(f, "{}", line(what))?;
        let place = place.iter().map(|place| ("where", place));
        let why = why.iter().map(|why| ("why", why));
        let next = next.iter().map(|next| ("next", next));
        for (label, text) in place.chain(why).chain(next) {
            write!(f, "\n  {label:>5}: {}", line(text))?;
        }
        Ok(())
    }
}

impl From<io::Error> for Failure {
    /// Of writing to the standard streams: the only errors of input and output that are not given a place.
    fn from(error: io::Error) -> Self {
        let exit = if error.kind() == io::ErrorKind::BrokenPipe { Exit::Unread } else { Exit::Failed };
        Self::new(exit, "cannot write to the standard streams").why(error)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_failure_reads_as_what_where_why_next() {
        let failure = Failure::new(Exit::NotFound, "there is no session 'x\u{1b}[2J'")
            .at("https://127.0.0.1:7443")
            .why("first")
            .why("second")
            .next("droverctl ps --all lists the sessions");
        insta::assert_snapshot!(failure.to_string(), @r"
        there is no session 'x\x1b[2J'
          where: https://127.0.0.1:7443
            why: first
            why: second
           next: droverctl ps --all lists the sessions
        ");
    }

    #[test]
    fn a_reader_that_went_away_is_no_failure_to_speak_of() {
        assert!(Failure::from(io::Error::from(io::ErrorKind::BrokenPipe)).is_silent());
        assert!(!Failure::from(io::Error::other("x")).is_silent());
    }
}
