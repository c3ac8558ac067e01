//! TLS of the controller: its own certificate, renewed without a restart, and the certificates of nodes, asked for and
//! verified, but not demanded: people come with a token.

use std::sync::Arc;
use std::time::Duration;

use arc_swap::ArcSwap;
use drover_daemon::tasks::Tasks;
use rustls::crypto::ring;
use rustls::server::{ClientHello, ResolvesServerCert, WebPkiClientVerifier};
use rustls::sign::CertifiedKey;
use rustls::{RootCertStore, ServerConfig};
use rustls_pki_types::{CertificateDer, PrivateKeyDer, PrivatePkcs8KeyDer};
use thiserror::Error;

use crate::pki::{self, Authority};

#[derive(Debug, Error)]
pub enum Error {
    #[error(transparent)]
    Pki(#[from] pki::Error),
    #[error("cannot set up TLS: {0}")]
    Rustls(String),
}

/// The certificate in use.
#[derive(Debug)]
struct Current(ArcSwap<CertifiedKey>);

impl ResolvesServerCert for Current {
    fn resolve(&self, _: ClientHello<'_>) -> Option<Arc<CertifiedKey>> {
        Some(self.0.load_full())
    }
}

/// The server's side, and a task that keeps its certificate fresh.
pub fn server(
    authority: Arc<Authority>,
    names: Vec<String>,
    tasks: &Tasks,
) -> Result<Arc<ServerConfig>, Error> {
    let odd = |error: &dyn std::fmt::Display| Error::Rustls(error.to_string());
    let provider = Arc::new(ring::default_provider());
    let current = Arc::new(Current(ArcSwap::from_pointee(certified(&authority, &names)?)));
    let mut roots = RootCertStore::empty();
    roots.add(CertificateDer::from(authority.der().to_vec())).map_err(|error| odd(&error))?;
    let verifier = WebPkiClientVerifier::builder_with_provider(Arc::new(roots), provider.clone());
    let verifier = verifier.allow_unauthenticated().build().map_err(|error| odd(&error))?;
    let config = ServerConfig::builder_with_provider(provider).with_safe_default_protocol_versions();
    let config = config.map_err(|error| odd(&error))?.with_client_cert_verifier(verifier);
    let mut config = config.with_cert_resolver(current.clone());
    config.alpn_protocols = vec![b"h2".to_vec(), b"http/1.1".to_vec()];
    let end = tasks.clone();
    tasks.spawn(async move {
        loop {
            tokio::select! {
                () = tokio::time::sleep(pki::SERVER_LASTS / 2) => {}
                () = end.cancelled() => return,
            }
            match certified(&authority, &names) {
                Ok(fresh) => current.0.store(Arc::new(fresh)),
                Err(error) => {
                    tracing::error!("the controller's certificate could not be renewed: {error}");
                    tokio::time::sleep(Duration::from_secs(60)).await;
                }
            }
        }
    });
    Ok(Arc::new(config))
}

fn certified(authority: &Authority, names: &[String]) -> Result<CertifiedKey, Error> {
    let (certificate, key) = authority.sign_server(names)?;
    let key = PrivateKeyDer::Pkcs8(PrivatePkcs8KeyDer::from(key));
    let key = ring::sign::any_supported_type(&key).map_err(|error| Error::Rustls(error.to_string()))?;
    // The authority comes along: one who joins knows its hash only.
    let chain = vec![CertificateDer::from(certificate), CertificateDer::from(authority.der().to_vec())];
    Ok(CertifiedKey::new(chain, key))
}
