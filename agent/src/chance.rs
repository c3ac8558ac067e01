//! Chance for the agent: ids of incarnations, jitter. The only place that draws random bytes.

use ring::rand::{SecureRandom, SystemRandom};

/// `N` random bytes.
pub(crate) fn bytes<const N: usize>() -> [u8; N] {
    let mut bytes = [0; N];
    SystemRandom::new()
        .fill(&mut bytes)
        .expect("the system's random generator answers on every Linux since 3.17");
    bytes
}

/// One random byte, for jitter.
pub(crate) fn byte() -> u8 {
    bytes::<1>()[0]
}
