//! Who this agent is: a key that never leaves the machine, the certificate that the controller gave for it, and the
//! authority to trust. Kept in one file that only the agent's user may read, replaced whole.

pub mod join;
pub mod renew;

use std::fmt;
use std::fs;
use std::io;
use std::os::unix::fs::{MetadataExt, PermissionsExt};
use std::path::{Path, PathBuf};
use std::time::Duration;

use drover_daemon::atomic;
use drover_domain::id::{InstallationId, NodeId};
use rcgen::{CertificateParams, KeyPair};
use serde::{Deserialize, Serialize};
use thiserror::Error;
use x509_parser::pem::Pem;

use crate::facts;

/// Everything that proves who the agent is.
#[derive(Clone, PartialEq, Eq)]
pub struct Identity {
    pub node: NodeId,
    pub name: String,
    pub installation: InstallationId,
    /// The private key, the certificate with what signed it, and the authority: PEM.
    pub key: String,
    pub chain: String,
    pub authority: String,
    /// How long the certificate holds, in seconds since 1970.
    pub valid: (i64, i64),
}

impl fmt::Debug for Identity {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Identity")
            .field("node", &self.node)
            .field("valid", &self.valid)
            .finish_non_exhaustive()
    }
}

/// The file's form.
#[derive(Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
struct Stored {
    node: String,
    name: String,
    installation: String,
    key: String,
    chain: String,
    authority: String,
    /// The machine and directory that it was stored in.
    place: Option<String>,
}

#[derive(Debug, Error)]
pub enum IdentityError {
    #[error("cannot {what} {}: {why}", path.display())]
    File { what: &'static str, path: PathBuf, why: io::Error },
    #[error("others than its owner may enter or read {}: run chmod go-rwx on it", .0.display())]
    NotPrivate(PathBuf),
    #[error("{} is damaged: {why}; restore it from a backup, or let the agent join again with an empty state directory", path.display())]
    Damaged { path: PathBuf, why: String },
    #[error(
        "{} belongs to another directory or machine: this one is a copy, and two agents with one identity would end each other's runs. If the original is gone for good, take the field \"place\" out of the file and start again; if not, let this agent join anew with an empty state directory", .0.display()
    )]
    Copied(PathBuf),
    #[error("the controller's answer cannot be used: {0}")]
    BadAnswer(String),
    #[error("a key could not be made: {0}")]
    Key(rcgen::Error),
}

const FILE: &str = "identity.json";

/// Makes the state directory, or checks that nobody else may look into it.
pub fn prepare_state(state: &Path) -> Result<(), IdentityError> {
    let file = |what, why| IdentityError::File { what, path: state.to_owned(), why };
    atomic::private_directory(state).map_err(|why| file("make the state directory", why))?;
    // Others may pass through it to a workspace that is theirs, no more.
    let mode = fs::metadata(state).map_err(|why| file("look at", why))?.permissions().mode();
    if mode & 0o066 == 0 { Ok(()) } else { Err(IdentityError::NotPrivate(state.to_owned())) }
}

impl Identity {
    /// The identity in this state directory, if it has one.
    pub fn load(state: &Path) -> Result<Option<Self>, IdentityError> {
        let path = state.join(FILE);
        let text = match fs::read_to_string(&path) {
            Err(error) if error.kind() == io::ErrorKind::NotFound => return Ok(None),
            Err(why) => return Err(IdentityError::File { what: "read", path, why }),
            Ok(text) => text,
        };
        if !atomic::is_private(&path).map_err(|why| IdentityError::File {
            what: "look at",
            path: path.clone(),
            why,
        })? {
            return Err(IdentityError::NotPrivate(path));
        }
        let damaged = |why: String| IdentityError::Damaged { path: path.clone(), why };
        let stored: Stored = serde_json::from_str(&text).map_err(|error| damaged(error.to_string()))?;
        let here = place(state)?;
        let stored_at = stored.place.clone();
        if stored_at.as_ref().is_some_and(|at| *at != here) {
            return Err(IdentityError::Copied(path));
        }
        let identity = Self::checked(stored).map_err(damaged)?;
        if stored_at.is_none() {
            identity.save(state)?;
        }
        Ok(Some(identity))
    }

    /// Stored durably; a crash leaves the former one or this.
    pub fn save(&self, state: &Path) -> Result<(), IdentityError> {
        let stored = Stored {
            node: self.node.to_string(),
            name: self.name.clone(),
            installation: self.installation.to_string(),
            key: self.key.clone(),
            chain: self.chain.clone(),
            authority: self.authority.clone(),
            place: Some(place(state)?),
        };
        let path = state.join(FILE);
        let text = serde_json::to_string_pretty(&stored).map_err(|error| IdentityError::File {
            what: "write",
            path: path.clone(),
            why: error.into(),
        })?;
        atomic::write(&path, text.as_bytes(), 0o600).map_err(|why| IdentityError::File {
            what: "write",
            path,
            why,
        })
    }

    fn checked(stored: Stored) -> Result<Self, String> {
        Ok(Self {
            node: stored.node.parse().map_err(|error| format!("node: {error}"))?,
            installation: stored.installation.parse().map_err(|error| format!("installation: {error}"))?,
            valid: validity(&stored.chain)?,
            name: stored.name,
            key: stored.key,
            chain: stored.chain,
            authority: stored.authority,
        })
    }

    /// When half of the certificate's life is over, in seconds since 1970.
    pub fn half_life(&self) -> i64 {
        let (from, until) = self.valid;
        from + (until - from) / 2
    }

    /// How much longer the certificate holds.
    pub fn remains(&self, wall_millis: i64) -> Duration {
        Duration::from_secs(u64::try_from(self.valid.1 - wall_millis / 1000).unwrap_or(0))
    }
}

/// Which directory of which machine this is; a copy is another one, and one that was renamed is not.
fn place(state: &Path) -> Result<String, IdentityError> {
    let found = fs::metadata(state);
    let found = found.map_err(|why| IdentityError::File { what: "look at", path: state.to_owned(), why })?;
    Ok(format!("{}/{}", facts::machine(), found.ino()))
}

/// From when and until when the first certificate of a chain holds.
fn validity(chain: &str) -> Result<(i64, i64), String> {
    let pem = Pem::iter_from_buffer(chain.as_bytes()).next().ok_or("the chain holds no certificate")?;
    let pem = pem.map_err(|error| format!("the chain is no PEM: {error}"))?;
    let certificate = pem.parse_x509().map_err(|error| format!("the certificate cannot be read: {error}"))?;
    let valid = certificate.validity();
    Ok((valid.not_before.timestamp(), valid.not_after.timestamp()))
}

/// A new key, and the request to certify it.
struct Request {
    key: String,
    csr: Vec<u8>,
}

impl Request {
    fn make() -> Result<Self, IdentityError> {
        let key = KeyPair::generate().map_err(IdentityError::Key)?;
        let parameters = CertificateParams::new(Vec::<String>::new()).map_err(IdentityError::Key)?;
        let request = parameters.serialize_request(&key).map_err(IdentityError::Key)?;
        Ok(Self { key: key.serialize_pem(), csr: request.der().to_vec() })
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn made(state: &Path) -> Identity {
        let key = KeyPair::generate().unwrap();
        let chain = CertificateParams::new(vec!["node".into()]).unwrap().self_signed(&key).unwrap().pem();
        let identity = Identity {
            node: NodeId::from_random([1; 10]),
            name: "a".into(),
            installation: InstallationId::from_random([2; 10]),
            valid: validity(&chain).unwrap(),
            authority: chain.clone(),
            key: key.serialize_pem(),
            chain,
        };
        identity.save(state).unwrap();
        identity
    }

    #[test]
    fn an_identity_reads_back_as_it_was_stored_and_is_private() {
        let dir = tempfile::tempdir().unwrap();
        assert_eq!(Identity::load(dir.path()).unwrap(), None);
        let identity = made(dir.path());
        assert_eq!(Identity::load(dir.path()).unwrap(), Some(identity.clone()));
        assert!(!format!("{identity:?}").contains("PRIVATE"));
        fs::set_permissions(dir.path().join(FILE), fs::Permissions::from_mode(0o644)).unwrap();
        assert!(matches!(Identity::load(dir.path()), Err(IdentityError::NotPrivate(_))));
    }

    #[test]
    fn a_copy_is_refused_and_what_was_renamed_is_not() {
        let dir = tempfile::tempdir().unwrap();
        let (original, copy) = (dir.path().join("a"), dir.path().join("b"));
        prepare_state(&original).unwrap();
        prepare_state(&copy).unwrap();
        let identity = made(&original);
        fs::copy(original.join(FILE), copy.join(FILE)).unwrap();
        assert!(matches!(Identity::load(&copy), Err(IdentityError::Copied(_))));
        let renamed = dir.path().join("c");
        fs::rename(&original, &renamed).unwrap();
        assert_eq!(Identity::load(&renamed).unwrap(), Some(identity.clone()));
        let text = fs::read_to_string(copy.join(FILE)).unwrap();
        let mut stored: serde_json::Value = serde_json::from_str(&text).unwrap();
        // On the copy of a whole disk it has the same number, and another machine.
        stored["place"] = format!("another/{}", fs::metadata(&copy).unwrap().ino()).into();
        atomic::write(&copy.join(FILE), stored.to_string().as_bytes(), 0o600).unwrap();
        assert!(matches!(Identity::load(&copy), Err(IdentityError::Copied(_))));
        // The operator says that the original is gone.
        stored.as_object_mut().unwrap().remove("place");
        atomic::write(&copy.join(FILE), stored.to_string().as_bytes(), 0o600).unwrap();
        assert_eq!(Identity::load(&copy).unwrap(), Some(identity));
        assert!(fs::read_to_string(copy.join(FILE)).unwrap().contains("place"));
    }

    #[test]
    fn a_damaged_file_is_refused_with_what_to_do() {
        let dir = tempfile::tempdir().unwrap();
        made(dir.path());
        atomic::write(&dir.path().join(FILE), b"{}", 0o600).unwrap();
        let error = Identity::load(dir.path()).unwrap_err();
        assert!(error.to_string().contains("join again"), "{error}");
    }

    #[test]
    fn a_state_directory_that_others_may_read_is_refused() {
        let dir = tempfile::tempdir().unwrap();
        let state = dir.path().join("state");
        prepare_state(&state).unwrap();
        fs::set_permissions(&state, fs::Permissions::from_mode(0o755)).unwrap();
        assert!(matches!(prepare_state(&state), Err(IdentityError::NotPrivate(_))));
    }

    #[test]
    fn half_of_a_certificates_life_is_in_its_middle() {
        let dir = tempfile::tempdir().unwrap();
        let identity = Identity { valid: (100, 300), ..made(dir.path()) };
        assert_eq!(identity.half_life(), 200);
        assert_eq!(identity.remains(250_000), Duration::from_secs(50));
        assert_eq!(identity.remains(400_000), Duration::ZERO);
    }
}
