//! Random ids: a kind prefix and 80 random bits in lower-case base32, so that a short prefix is useful to a person.
//! An id says nothing of order or time; the caller brings the random bytes.

use std::fmt;
use std::str::FromStr;

use thiserror::Error;

/// How many random bytes an id holds.
pub const RANDOM_BYTES: usize = 10;
const ENCODED: usize = RANDOM_BYTES * 8 / 5;
const ALPHABET: &[u8; 32] = b"abcdefghijklmnopqrstuvwxyz234567";

#[derive(Clone, Debug, Error, PartialEq, Eq)]
#[error("'{given}' is not {article} id: it is {prefix} and {ENCODED} characters of a-z and 2-7")]
pub struct BadId {
    pub given: String,
    pub prefix: &'static str,
    pub article: &'static str,
}

macro_rules! ids {
    ($($(#[$doc:meta])* $name:ident, $prefix:literal, $article:literal;)*) => {$(
        $(#[$doc])*
        #[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
        pub struct $name([u8; RANDOM_BYTES]);

        impl $name {
            pub const PREFIX: &'static str = $prefix;

            pub const fn from_random(bytes: [u8; RANDOM_BYTES]) -> Self {
                Self(bytes)
            }

            pub const fn bytes(&self) -> &[u8; RANDOM_BYTES] {
                &self.0
            }

            /// The first characters after the prefix: enough to tell things of one machine apart.
            pub fn short(&self) -> String {
                encode(&self.0)[..8].to_owned()
            }
        }

        impl fmt::Display for $name {
            fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
                f.write_str($prefix)?;
                f.write_str(&encode(&self.0))
            }
        }

        impl fmt::Debug for $name {
            fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
                fmt::Display::fmt(self, f)
            }
        }

        impl FromStr for $name {
            type Err = BadId;
            fn from_str(text: &str) -> Result<Self, BadId> {
                text.strip_prefix($prefix).and_then(decode).map(Self).ok_or_else(|| BadId {
                    given: text.chars().take(64).collect(),
                    prefix: $prefix,
                    article: $article,
                })
            }
        }
    )*};
}

ids! {
    /// A session, for its whole life.
    SessionId, "ses_", "a session";
    /// One execution of a session's command.
    RunId, "run_", "a run";
    /// A machine with an agent.
    NodeId, "node_", "a node";
    /// A plan of repair or cleanup.
    PlanId, "plan_", "a plan";
    /// A join token (not its secret).
    TokenId, "tok_", "a token";
    /// One installation of Drover: a controller and everything that joined it.
    InstallationId, "inst_", "an installation";
}

fn encode(bytes: &[u8; RANDOM_BYTES]) -> String {
    let mut text = String::with_capacity(ENCODED);
    for group in bytes.chunks_exact(5) {
        let bits = group.iter().fold(0_u64, |bits, byte| bits << 8 | u64::from(*byte));
        for at in (0..8).rev() {
            text.push(char::from(ALPHABET[(bits >> (at * 5) & 31) as usize]));
        }
    }
    text
}

fn decode(text: &str) -> Option<[u8; RANDOM_BYTES]> {
    if text.len() != ENCODED {
        return None;
    }
    let mut bytes = [0; RANDOM_BYTES];
    for (group, out) in text.as_bytes().chunks_exact(8).zip(bytes.chunks_exact_mut(5)) {
        let mut bits = 0_u64;
        for character in group {
            let value = ALPHABET.iter().position(|known| known == character)?;
            bits = bits << 5 | value as u64;
        }
        out.copy_from_slice(&bits.to_be_bytes()[3..]);
    }
    Some(bytes)
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    proptest! {
        #[test]
        fn every_id_reads_back_as_itself(bytes: [u8; RANDOM_BYTES]) {
            let id = SessionId::from_random(bytes);
            prop_assert_eq!(id.to_string().parse::<SessionId>(), Ok(id));
            prop_assert_eq!(id.to_string().len(), 20);
        }

        #[test]
        fn no_other_text_is_an_id(text in "(ses_|run_)?[a-z0-9A-Z_]{0,20}") {
            if let Ok(id) = text.parse::<SessionId>() {
                prop_assert_eq!(id.to_string(), text);
            }
        }
    }

    #[test]
    fn an_id_of_another_kind_is_refused_and_the_error_says_what_was_expected() {
        let run = RunId::from_random([7; RANDOM_BYTES]).to_string();
        let error = run.parse::<SessionId>().unwrap_err();
        assert!(error.to_string().contains("not a session id: it is ses_"), "{error}");
    }
}
