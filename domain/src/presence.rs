//! What a probe may answer. Unknown is not gone: it never stops, kills or deletes anything.

/// Whether something exists, as far as could be seen.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Presence<T> {
    /// It is there, and this is what it looks like.
    Present(T),
    /// It was looked for where it must be, and is not there.
    Absent,
    /// The look itself failed; the text says how.
    Unknown(String),
}

impl<T> Presence<T> {
    pub fn map<U>(self, change: impl FnOnce(T) -> U) -> Presence<U> {
        match self {
            Self::Present(thing) => Presence::Present(change(thing)),
            Self::Absent => Presence::Absent,
            Self::Unknown(reason) => Presence::Unknown(reason),
        }
    }

    pub fn is_present(&self) -> bool {
        matches!(self, Self::Present(_))
    }

    pub fn is_absent(&self) -> bool {
        matches!(self, Self::Absent)
    }

    pub fn present(self) -> Option<T> {
        match self {
            Self::Present(thing) => Some(thing),
            Self::Absent | Self::Unknown(_) => None,
        }
    }
}
