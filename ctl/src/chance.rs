//! Chance: request ids, traces, jitter. The only place that draws random bytes.

use ring::rand::{SecureRandom, SystemRandom};

/// `N` random bytes.
pub fn bytes<const N: usize>() -> [u8; N] {
    let mut bytes = [0; N];
    SystemRandom::new()
        .fill(&mut bytes)
        .expect("the system's random generator answers on every Linux since 3.17");
    bytes
}

/// One random byte, for jitter.
pub fn byte() -> u8 {
    bytes::<1>()[0]
}

/// `N` random bytes in hexadecimal.
pub fn hex<const N: usize>() -> String {
    bytes::<N>().iter().map(|byte| format!("{byte:02x}")).collect()
}
