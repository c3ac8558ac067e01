//! Chance, in one place: ids and secrets come from the system's secure source.

use ring::rand::{SecureRandom, SystemRandom};

/// Random bytes. The system's source fails only where nothing could be secret any more; then nobody gets anything.
pub fn bytes<const N: usize>() -> [u8; N] {
    let mut bytes = [0; N];
    #[expect(clippy::expect_used, reason = "a guessable secret is worse than a stop")]
    SystemRandom::new().fill(&mut bytes).expect("the system has a source of randomness");
    bytes
}

pub fn number() -> u32 {
    u32::from_le_bytes(bytes())
}

/// A secret that a person may have to copy.
pub fn secret() -> String {
    hex(&bytes::<24>())
}

pub fn hex(bytes: &[u8]) -> String {
    bytes.iter().map(|byte| format!("{byte:02x}")).collect()
}

/// SHA-256.
pub fn hash(bytes: &[u8]) -> [u8; 32] {
    let mut hash = [0; 32];
    hash.copy_from_slice(ring::digest::digest(&ring::digest::SHA256, bytes).as_ref());
    hash
}
