//! How the agent reaches its controller: over TLS, with its certificate, trusting its installation's authority only.

use std::sync::Arc;
use std::time::Duration;

use drover_proto::node_v1::node_link_service_client::NodeLinkServiceClient;
use thiserror::Error;
use tokio::sync::watch;
use tonic::transport::{Certificate, Channel, ClientTlsConfig, Endpoint};

use crate::identity::Identity;

/// Where the controller is, and who we are to it; cheap to clone. A renewed identity holds from the next dial on.
#[derive(Clone, Debug)]
pub struct Controller {
    address: Arc<str>,
    identity: watch::Receiver<Arc<Identity>>,
}

#[derive(Debug, Error)]
pub enum DialError {
    #[error("'{address}' is not the address of a controller, host:port: {why}")]
    Address { address: Arc<str>, why: String },
    #[error("the controller at {address} cannot be reached: {why}")]
    Unreachable { address: Arc<str>, why: String },
}

/// The name on every controller's certificate: it is found by its address and known by its authority.
pub(crate) const SERVER_NAME: &str = "drover-controller";
/// How long a connection may take to come about.
const PATIENCE: Duration = Duration::from_secs(10);
/// A peer that does not answer within this is gone: half-open connections end.
const KEEPALIVE: Duration = Duration::from_secs(10);
/// A piece of a log is at most 64 KiB; nothing else comes near.
const LONGEST_MESSAGE: usize = 4 * 1024 * 1024;

impl Controller {
    pub fn new(address: &str, identity: watch::Receiver<Arc<Identity>>) -> Self {
        Self { address: address.into(), identity }
    }

    pub fn address(&self) -> &str {
        &self.address
    }

    /// A connection of its own.
    pub async fn client(&self) -> Result<NodeLinkServiceClient<Channel>, DialError> {
        let channel = self.channel().await?;
        Ok(NodeLinkServiceClient::new(channel).max_decoding_message_size(LONGEST_MESSAGE))
    }

    pub async fn channel(&self) -> Result<Channel, DialError> {
        let identity = self.identity.borrow().clone();
        let shown = tonic::transport::Identity::from_pem(&identity.chain, &identity.key);
        dial(&self.address, trusting(&identity.authority).identity(shown)).await
    }
}

/// A connection of somebody who has no identity yet.
pub(crate) async fn dial_unknown(address: &str, authority: &str) -> Result<Channel, DialError> {
    dial(address, trusting(authority)).await
}

fn trusting(authority: &str) -> ClientTlsConfig {
    ClientTlsConfig::new().domain_name(SERVER_NAME).ca_certificate(Certificate::from_pem(authority))
}

async fn dial(address: &str, tls: ClientTlsConfig) -> Result<Channel, DialError> {
    let bad = |why: tonic::transport::Error| DialError::Address { address: address.into(), why: chain(&why) };
    let endpoint = Endpoint::from_shared(format!("https://{address}"))
        .and_then(|endpoint| endpoint.tls_config(tls))
        .map_err(bad)?
        .connect_timeout(PATIENCE)
        .tcp_nodelay(true)
        .http2_keep_alive_interval(KEEPALIVE)
        .keep_alive_timeout(KEEPALIVE)
        .keep_alive_while_idle(true);
    let unreachable = |why| DialError::Unreachable { address: address.into(), why: chain(&why) };
    endpoint.connect().await.map_err(unreachable)
}

/// An error with what caused it: the outermost says only "transport error".
fn chain(error: &dyn std::error::Error) -> String {
    let mut text = error.to_string();
    let mut cause = error.source();
    while let Some(inner) = cause {
        let words = inner.to_string();
        if !text.contains(&words) {
            text = format!("{text}: {words}");
        }
        cause = inner.source();
    }
    text
}
