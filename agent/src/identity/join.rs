//! Joining: the token names the authority by its hash, so that the first connection already goes to the right
//! controller; the controller gives a certificate for a key that was made here and never leaves.

use std::fmt;
use std::sync::{Arc, Mutex, PoisonError};
use std::time::Duration;

use drover_daemon::tasks::Tasks;
use drover_domain::node::NodeFacts;
use drover_domain::retry::Backoff;
use drover_proto::v1::enrollment_service_client::EnrollmentServiceClient;
use drover_proto::v1::{EnrollRequest, EnrollResponse};
use ring::digest::{SHA256, digest};
use rustls::client::danger::{HandshakeSignatureValid, ServerCertVerified, ServerCertVerifier};
use rustls::pki_types::{CertificateDer, ServerName, UnixTime};
use rustls::{ClientConfig, DigitallySignedStruct, SignatureScheme};
use thiserror::Error;
use tokio::net::TcpStream;
use tokio::time::timeout;
use tokio_rustls::TlsConnector;

use super::{Identity, IdentityError, Request, validity};
use crate::config::Config;
use crate::link::{self, DialError};
use crate::{chance, wire};

#[derive(Debug, Error)]
pub enum JoinError {
    #[error(
        "this agent has not joined yet and has no join token: make one with 'droverctl node token create', and give it as --join-token-file"
    )]
    NoToken,
    #[error("the join token is not whole: it ends with the hash of the controller's authority")]
    BadToken,
    #[error(
        "the controller at {0} is not the one that the join token is for: its authority has another hash"
    )]
    OtherAuthority(String),
    #[error("the controller at {address} cannot be reached: {why}")]
    Unreachable { address: String, why: String },
    #[error("the controller did not let this agent join: {}", .0.message())]
    Refused(tonic::Status),
    #[error(transparent)]
    Dial(#[from] DialError),
    #[error(transparent)]
    Identity(#[from] IdentityError),
}

impl JoinError {
    /// Whether it may come about by itself.
    fn is_passing(&self) -> bool {
        match self {
            Self::Unreachable { .. } | Self::Dial(_) => true,
            Self::Refused(status) => {
                matches!(status.code(), tonic::Code::Unavailable | tonic::Code::DeadlineExceeded)
            }
            Self::NoToken | Self::BadToken | Self::OtherAuthority(_) | Self::Identity(_) => false,
        }
    }
}

const PATIENCE: Duration = Duration::from_secs(10);

/// Joins, waiting for a controller that is not there yet. `None`: it was told to end.
pub async fn join(config: &Config, facts: &NodeFacts, tasks: &Tasks) -> Result<Option<Identity>, JoinError> {
    let token = &config.join_token.as_ref().ok_or(JoinError::NoToken)?.0;
    let pinned = pinned(token)?;
    let mut attempt = 0;
    loop {
        let tried = async {
            let authority = authority(&config.controller, pinned).await?;
            enroll(config, token, facts, &authority).await
        };
        let error = match tried.await {
            Ok(identity) => {
                identity.save(&config.state_dir)?;
                tracing::info!(node = %identity.node, name = identity.name, "joined");
                return Ok(Some(identity));
            }
            Err(error) if error.is_passing() => error,
            Err(error) => return Err(error),
        };
        let wait = Backoff::RECONNECT.delay(attempt, chance::byte());
        tracing::warn!("not joined yet: {error}; trying again in {wait:.1?}");
        attempt = attempt.saturating_add(1);
        tokio::select! { () = tasks.cancelled() => return Ok(None), () = tokio::time::sleep(wait) => {} }
    }
}

async fn enroll(
    config: &Config,
    token: &str,
    facts: &NodeFacts,
    authority: &str,
) -> Result<Identity, JoinError> {
    let request = Request::make()?;
    let channel = link::dial_unknown(&config.controller, authority).await?;
    let asked = EnrollRequest {
        token: token.to_owned(),
        csr: request.csr,
        name: config.name.as_ref().map(ToString::to_string).unwrap_or_default(),
        facts: Some(wire::facts(facts)),
    };
    let answer = EnrollmentServiceClient::new(channel).enroll(asked).await.map_err(JoinError::Refused)?;
    Ok(accepted(answer.into_inner(), request.key)?)
}

fn accepted(answer: EnrollResponse, key: String) -> Result<Identity, IdentityError> {
    let bad = |field: &str, error: String| IdentityError::BadAnswer(format!("{field}: {error}"));
    Ok(Identity {
        node: answer
            .node_id
            .parse()
            .map_err(|error: drover_domain::id::BadId| bad("node_id", error.to_string()))?,
        installation: answer
            .installation_id
            .parse()
            .map_err(|error: drover_domain::id::BadId| bad("installation_id", error.to_string()))?,
        valid: validity(&answer.certificate_chain).map_err(|error| bad("certificate_chain", error))?,
        name: answer.name,
        key,
        chain: answer.certificate_chain,
        authority: answer.authority,
    })
}

/// The hash of the authority's certificate, from the end of a token.
fn pinned(token: &str) -> Result<[u8; 32], JoinError> {
    let (_, text) = token.trim().rsplit_once('.').ok_or(JoinError::BadToken)?;
    let mut hash = [0; 32];
    if text.len() != 64 || !text.is_ascii() {
        return Err(JoinError::BadToken);
    }
    for (at, byte) in hash.iter_mut().enumerate() {
        *byte = u8::from_str_radix(&text[at * 2..at * 2 + 2], 16).map_err(|_| JoinError::BadToken)?;
    }
    Ok(hash)
}

/// The authority that the controller at `address` shows, as PEM, if it is the pinned one. Nothing is said on this
/// connection: who is really there is proved by the next one, which trusts this authority only.
async fn authority(address: &str, pinned: [u8; 32]) -> Result<String, JoinError> {
    let unreachable = |why: String| JoinError::Unreachable { address: address.to_owned(), why };
    let shown = Arc::new(Shown::default());
    let provider = Arc::new(rustls::crypto::ring::default_provider());
    let config = ClientConfig::builder_with_provider(provider)
        .with_safe_default_protocol_versions()
        .map_err(|error| unreachable(error.to_string()))?
        .dangerous()
        .with_custom_certificate_verifier(shown.clone())
        .with_no_client_auth();
    let name = ServerName::try_from(link::SERVER_NAME).map_err(|error| unreachable(error.to_string()))?;
    let shake = async {
        let stream = TcpStream::connect(address).await?;
        TlsConnector::from(Arc::new(config)).connect(name, stream).await
    };
    match timeout(PATIENCE, shake).await {
        Err(_) => return Err(unreachable(format!("no answer within {PATIENCE:?}"))),
        Ok(Err(error)) => return Err(unreachable(error.to_string())),
        Ok(Ok(_)) => {}
    }
    let shown = shown.0.lock().unwrap_or_else(PoisonError::into_inner);
    let found = shown.iter().find(|certificate| digest(&SHA256, certificate).as_ref() == pinned);
    found.map(|certificate| pem(certificate)).ok_or_else(|| JoinError::OtherAuthority(address.to_owned()))
}

fn pem(der: &[u8]) -> String {
    const ALPHABET: &[u8; 64] = b"ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz0123456789+/";
    let mut text = String::from("-----BEGIN CERTIFICATE-----\n");
    for line in der.chunks(48) {
        for three in line.chunks(3) {
            let bits = three.iter().fold(0_u32, |bits, byte| bits << 8 | u32::from(*byte))
                << (8 * (3 - three.len()));
            for at in 0..4 {
                let six = bits >> (18 - 6 * at) & 63;
                text.push(if at > three.len() { '=' } else { char::from(ALPHABET[six as usize]) });
            }
        }
        text.push('\n');
    }
    text + "-----END CERTIFICATE-----\n"
}

/// Takes down the certificates that it is shown; trusts nobody by it.
#[derive(Default)]
struct Shown(Mutex<Vec<CertificateDer<'static>>>);

impl fmt::Debug for Shown {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("Shown")
    }
}

impl ServerCertVerifier for Shown {
    fn verify_server_cert(
        &self,
        end_entity: &CertificateDer<'_>,
        intermediates: &[CertificateDer<'_>],
        _: &ServerName<'_>,
        _: &[u8],
        _: UnixTime,
    ) -> Result<ServerCertVerified, rustls::Error> {
        let all = std::iter::once(end_entity).chain(intermediates).map(|one| one.clone().into_owned());
        *self.0.lock().unwrap_or_else(PoisonError::into_inner) = all.collect();
        Ok(ServerCertVerified::assertion())
    }

    fn verify_tls12_signature(
        &self,
        _: &[u8],
        _: &CertificateDer<'_>,
        _: &DigitallySignedStruct,
    ) -> Result<HandshakeSignatureValid, rustls::Error> {
        Ok(HandshakeSignatureValid::assertion())
    }

    fn verify_tls13_signature(
        &self,
        _: &[u8],
        _: &CertificateDer<'_>,
        _: &DigitallySignedStruct,
    ) -> Result<HandshakeSignatureValid, rustls::Error> {
        Ok(HandshakeSignatureValid::assertion())
    }

    fn supported_verify_schemes(&self) -> Vec<SignatureScheme> {
        rustls::crypto::ring::default_provider().signature_verification_algorithms.supported_schemes()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_token_that_is_not_whole_is_refused() {
        let whole = format!("tok_a.secret.{}", "0a".repeat(32));
        assert_eq!(pinned(&whole).unwrap(), [10; 32]);
        for bad in ["", "tok_a", "tok_a.secret", "tok_a.secret.zz", &whole[..whole.len() - 1]] {
            assert!(matches!(pinned(bad), Err(JoinError::BadToken)), "{bad}");
        }
    }

    #[test]
    fn a_certificate_is_written_as_others_read_it() {
        let key = rcgen::KeyPair::generate().unwrap();
        let made = rcgen::CertificateParams::new(vec!["a".into()]).unwrap().self_signed(&key).unwrap();
        let read = x509_parser::pem::parse_x509_pem(pem(made.der()).as_bytes()).unwrap().1;
        assert_eq!(read.contents, made.der().to_vec());
    }
}
