//! The installation's own certificate authority: made at the first start, its key in a file of its own. It signs the
//! controller's certificate and those of nodes. A node's identity is its certificate and nothing else.

use std::fmt;
use std::net::IpAddr;
use std::path::{Path, PathBuf};
use std::str::FromStr;
use std::time::Duration;

use drover_daemon::atomic;
use drover_daemon::clock::Clock;
use drover_domain::id::{InstallationId, NodeId, TokenId};
use rcgen::{
    BasicConstraints, CertificateParams, CertificateSigningRequestParams, DnType, ExtendedKeyUsagePurpose,
    IsCa, Issuer, KeyPair, KeyUsagePurpose, SanType,
};
use rustls_pki_types::CertificateSigningRequestDer;
use thiserror::Error;
use x509_parser::prelude::{FromDer, X509Certificate};

use crate::random;

/// The name that agents and clients check, by whatever address they dial.
pub const SERVER_NAME: &str = "drover-controller";
/// How long a node's certificate is good; it is renewed at half of that.
pub const NODE_LASTS: Duration = Duration::from_secs(24 * 3600);
/// How long the controller's own is good.
pub const SERVER_LASTS: Duration = Duration::from_secs(90 * 24 * 3600);
const AUTHORITY_LASTS: Duration = Duration::from_secs(20 * 365 * 24 * 3600);
/// Clocks differ: a certificate is good from a little earlier on.
const EARLIER: Duration = Duration::from_secs(300);
/// What a node's certificate names it by.
const NODE_PREFIX: &str = "drover-node:";

#[derive(Debug, Error)]
pub enum Error {
    #[error("cannot use {}: {why}", path.display())]
    File { path: PathBuf, why: String },
    #[error("{path} may be read by others; make it private: chmod 600 {path}", path = .0.display())]
    NotPrivate(PathBuf),
    #[error("cannot make a certificate: {0}")]
    Make(#[from] rcgen::Error),
}

/// The authority, open for signing.
pub struct Authority {
    issuer: Issuer<'static, KeyPair>,
    pem: String,
    der: Vec<u8>,
    clock: Clock,
}

impl fmt::Debug for Authority {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "Authority({})", random::hex(&self.hash()[..6]))
    }
}

impl Authority {
    /// Whether `directory` holds one: somebody may rely on what it signed.
    pub fn is_there(directory: &Path) -> bool {
        directory.join("ca.crt").exists()
    }

    /// Opens the authority in `directory`, or makes one.
    pub fn open(directory: &Path, installation: InstallationId, clock: Clock) -> Result<Self, Error> {
        let (key_path, pem_path) = (directory.join("ca.key"), directory.join("ca.crt"));
        if !pem_path.exists() {
            // A certificate without its key is never made anew: what it signed is still about.
            make(&key_path, &pem_path, installation, &clock)?;
        }
        let is_private = atomic::is_private(&key_path).map_err(|why| file(&key_path, &why))?;
        if !is_private {
            return Err(Error::NotPrivate(key_path));
        }
        let key = std::fs::read_to_string(&key_path).map_err(|why| file(&key_path, &why))?;
        let pem = std::fs::read_to_string(&pem_path).map_err(|why| file(&pem_path, &why))?;
        let key = KeyPair::from_pem(&key).map_err(|why| file(&key_path, &why))?;
        let issuer = Issuer::from_ca_cert_pem(&pem, key).map_err(|why| file(&pem_path, &why))?;
        let der = der_of(&pem).ok_or_else(|| file(&pem_path, &"it is not a certificate"))?;
        if !is_for(&der, issuer.key()) {
            // What it signed would be refused by everybody, and nobody would know why.
            return Err(file(
                &key_path,
                &"it is not the key of ca.crt beside it; restore both from one backup",
            ));
        }
        Ok(Self { issuer, pem, der, clock })
    }

    /// Its certificate, PEM.
    pub fn certificate(&self) -> &str {
        &self.pem
    }

    pub fn der(&self) -> &[u8] {
        &self.der
    }

    /// SHA-256 of its certificate: what a join token carries.
    pub fn hash(&self) -> [u8; 32] {
        random::hash(&self.der)
    }

    /// The controller's own certificate and key: certificate DER, key DER.
    pub fn sign_server(&self, names: &[String]) -> Result<(Vec<u8>, Vec<u8>), Error> {
        let key = KeyPair::generate()?;
        let mut params = CertificateParams::new(vec![SERVER_NAME.to_owned(), "localhost".to_owned()])?;
        for name in names {
            let san = match name.parse::<IpAddr>() {
                Ok(ip) => SanType::IpAddress(ip),
                Err(_) => SanType::DnsName(name.as_str().try_into()?),
            };
            params.subject_alt_names.push(san);
        }
        for ip in [IpAddr::from([127, 0, 0, 1]), IpAddr::from([0, 0, 0, 0, 0, 0, 0, 1])] {
            params.subject_alt_names.push(SanType::IpAddress(ip));
        }
        params.distinguished_name.push(DnType::CommonName, SERVER_NAME);
        params.extended_key_usages = vec![ExtendedKeyUsagePurpose::ServerAuth];
        params.key_usages = vec![KeyUsagePurpose::DigitalSignature];
        self.lasting(&mut params, SERVER_LASTS);
        let certificate = params.signed_by(&key, &self.issuer)?;
        Ok((certificate.der().to_vec(), key.serialize_der()))
    }

    /// A certificate for the key in a signing request. Who it names is ours to say, whatever the request says.
    pub fn sign_node(&self, request: &[u8], node: NodeId) -> Result<String, rcgen::Error> {
        let asked = CertificateSigningRequestParams::from_der(&CertificateSigningRequestDer::from(request))?;
        let mut params = CertificateParams::new(Vec::<String>::new())?;
        params.distinguished_name.push(DnType::CommonName, format!("{NODE_PREFIX}{node}"));
        params.extended_key_usages = vec![ExtendedKeyUsagePurpose::ClientAuth];
        params.key_usages = vec![KeyUsagePurpose::DigitalSignature];
        self.lasting(&mut params, NODE_LASTS);
        let certificate = params.signed_by(&asked.public_key, &self.issuer)?;
        Ok(format!("{}{}", certificate.pem(), self.pem))
    }

    fn lasting(&self, params: &mut CertificateParams, lasts: Duration) {
        lasting(params, &self.clock, lasts);
    }
}

/// Which node a certificate names. It must have been verified before.
pub fn node_of(certificate: &[u8]) -> Option<NodeId> {
    let (_, parsed) = X509Certificate::from_der(certificate).ok()?;
    let name = parsed.subject().iter_common_name().next()?.as_str().ok()?;
    name.strip_prefix(NODE_PREFIX)?.parse().ok()
}

/// Whether a certificate is about this key.
fn is_for(certificate: &[u8], key: &KeyPair) -> bool {
    let parsed = X509Certificate::from_der(certificate);
    parsed.is_ok_and(|(_, parsed)| parsed.public_key().subject_public_key.data == key.public_key_raw())
}

fn lasting(params: &mut CertificateParams, clock: &Clock, lasts: Duration) {
    let now = Duration::from_millis(u64::try_from(clock.wall_millis()).unwrap_or(0));
    let at = |since_epoch: Duration| rcgen::date_time_ymd(1970, 1, 1) + since_epoch;
    params.not_before = at(now.saturating_sub(EARLIER));
    params.not_after = at(now + lasts);
}

/// The key comes first: a kill in between leaves a key that nobody trusts yet, and the certificate is made for it.
fn make(key_path: &Path, pem_path: &Path, installation: InstallationId, clock: &Clock) -> Result<(), Error> {
    let key = if key_path.exists() {
        let pem = std::fs::read_to_string(key_path).map_err(|why| file(key_path, &why))?;
        KeyPair::from_pem(&pem).map_err(|why| file(key_path, &why))?
    } else {
        let key = KeyPair::generate()?;
        atomic::write(key_path, key.serialize_pem().as_bytes(), 0o600).map_err(|why| file(key_path, &why))?;
        key
    };
    let mut params = CertificateParams::new(Vec::<String>::new())?;
    params.is_ca = IsCa::Ca(BasicConstraints::Constrained(0));
    params.distinguished_name.push(DnType::CommonName, format!("drover {installation}"));
    params.key_usages = vec![KeyUsagePurpose::KeyCertSign, KeyUsagePurpose::CrlSign];
    lasting(&mut params, clock, AUTHORITY_LASTS);
    let certificate = params.self_signed(&key)?;
    atomic::write(pem_path, certificate.pem().as_bytes(), 0o644).map_err(|why| file(pem_path, &why))
}

fn der_of(pem: &str) -> Option<Vec<u8>> {
    use rustls_pki_types::pem::PemObject;
    rustls_pki_types::CertificateDer::from_pem_slice(pem.as_bytes()).ok().map(|der| der.to_vec())
}

fn file(path: &Path, why: &dyn fmt::Display) -> Error {
    Error::File { path: path.to_owned(), why: why.to_string() }
}

/// What a machine joins with: `<id>.<secret>.<hash of the authority's certificate>`.
#[derive(Clone, PartialEq, Eq)]
pub struct JoinToken {
    pub id: TokenId,
    secret: String,
    authority: [u8; 32],
}

impl JoinToken {
    pub fn new(id: TokenId, secret: String, authority: [u8; 32]) -> Self {
        Self { id, secret, authority }
    }

    pub fn secret_hash(&self) -> [u8; 32] {
        random::hash(self.secret.as_bytes())
    }
}

impl fmt::Debug for JoinToken {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "JoinToken({})", self.id)
    }
}

impl fmt::Display for JoinToken {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}.{}.{}", self.id, self.secret, random::hex(&self.authority))
    }
}

#[derive(Clone, Copy, Debug, Error, PartialEq, Eq)]
#[error("it is not a join token")]
pub struct NotAToken;

impl FromStr for JoinToken {
    type Err = NotAToken;
    fn from_str(text: &str) -> Result<Self, NotAToken> {
        let mut parts = text.trim().split('.');
        let (Some(id), Some(secret), Some(hash), None) =
            (parts.next(), parts.next(), parts.next(), parts.next())
        else {
            return Err(NotAToken);
        };
        let mut authority = [0; 32];
        if hash.len() != 64 || secret.is_empty() || secret.len() > 256 {
            return Err(NotAToken);
        }
        for (byte, pair) in authority.iter_mut().zip(hash.as_bytes().chunks(2)) {
            let pair = std::str::from_utf8(pair).map_err(|_| NotAToken)?;
            *byte = u8::from_str_radix(pair, 16).map_err(|_| NotAToken)?;
        }
        Ok(Self { id: id.parse().map_err(|_| NotAToken)?, secret: secret.to_owned(), authority })
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn authority(directory: &Path) -> Authority {
        Authority::open(directory, InstallationId::from_random([1; 10]), Clock::system()).unwrap()
    }

    #[test]
    fn an_authority_is_made_once_and_its_key_is_private() {
        let dir = tempfile::tempdir().unwrap();
        let first = authority(dir.path()).hash();
        assert_eq!(authority(dir.path()).hash(), first);
        assert!(atomic::is_private(&dir.path().join("ca.key")).unwrap());
        std::process::Command::new("chmod").arg("644").arg(dir.path().join("ca.key")).status().unwrap();
        let open = Authority::open(dir.path(), InstallationId::from_random([1; 10]), Clock::system());
        assert!(matches!(open, Err(Error::NotPrivate(_))));
    }

    #[test]
    fn a_key_that_is_not_the_certificates_is_refused_at_the_start() {
        let (dir, other) = (tempfile::tempdir().unwrap(), tempfile::tempdir().unwrap());
        let _both = (authority(dir.path()), authority(other.path()));
        std::fs::copy(other.path().join("ca.key"), dir.path().join("ca.key")).unwrap();
        let open = Authority::open(dir.path(), InstallationId::from_random([1; 10]), Clock::system());
        assert!(open.unwrap_err().to_string().contains("not the key of ca.crt"));
    }

    #[test]
    fn a_kill_between_key_and_certificate_is_made_good_and_a_lost_key_is_not_replaced() {
        let dir = tempfile::tempdir().unwrap();
        drop(authority(dir.path()));
        std::fs::remove_file(dir.path().join("ca.crt")).unwrap();
        drop(authority(dir.path()));
        std::fs::remove_file(dir.path().join("ca.key")).unwrap();
        let open = Authority::open(dir.path(), InstallationId::from_random([1; 10]), Clock::system());
        assert!(matches!(open, Err(Error::File { .. })));
        assert!(!dir.path().join("ca.key").exists());
    }

    #[test]
    fn a_nodes_certificate_names_whom_we_say_and_not_whom_it_asked_for() {
        let dir = tempfile::tempdir().unwrap();
        let node = NodeId::from_random([7; 10]);
        let key = KeyPair::generate().unwrap();
        let mut wish = CertificateParams::new(Vec::<String>::new()).unwrap();
        wish.distinguished_name
            .push(DnType::CommonName, format!("{NODE_PREFIX}{}", NodeId::from_random([8; 10])));
        let request = wish.serialize_request(&key).unwrap();
        let chain = authority(dir.path()).sign_node(request.der(), node).unwrap();
        assert_eq!(node_of(&der_of(&chain).unwrap()), Some(node));
        assert!(authority(dir.path()).sign_node(b"nonsense", node).is_err());
    }

    #[test]
    fn a_join_token_is_read_as_it_was_written_and_hides_its_secret() {
        let token = JoinToken::new(TokenId::from_random([3; 10]), "hunter2".into(), [9; 32]);
        assert_eq!(token.to_string().parse(), Ok(token.clone()));
        assert!(!format!("{token:?}").contains("hunter2"));
        for bad in ["", "a.b", "tok_aaaaaaaaaaaaaaaa..00", "x.y.z.w"] {
            assert_eq!(bad.parse::<JoinToken>(), Err(NotAToken), "{bad}");
        }
    }
}
