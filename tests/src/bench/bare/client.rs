//! A bare server that was started, and how it is spoken to.

use std::io::{BufRead, BufReader};
use std::path::Path;
use std::process::{Child, Command, Stdio};

use anyhow::{Context, Result};
use bytes::Bytes;
use drover_controller::pki::Authority;
use drover_daemon::clock::Clock;
use drover_domain::id::{InstallationId, NodeId};
use futures::Stream;
use tonic::transport::{Channel, Identity};
use tonic::{IntoRequest, Streaming};
use tonic_prost::ProstCodec;

use super::{Blob, Layout};
use crate::client::Client;

pub(super) const ECHO: &str = "/bare.Bare/Echo";
pub(super) const WRITE: &str = "/bare.Bare/Write";
pub(super) const WATCH: &str = "/bare.Bare/Watch";
pub(super) const TALK: &str = "/bare.Bare/Talk";

/// The process; it ends with this value.
#[derive(Debug)]
pub(crate) struct BareServer {
    child: Child,
    directory: tempfile::TempDir,
    pub address: String,
    pub authority: String,
}

impl BareServer {
    pub(crate) fn start(layout: Layout, rows: u64, record: usize) -> Result<Self> {
        let directory = tempfile::tempdir()?;
        let layout = if layout == Layout::Random { "random" } else { "same" };
        let mut child = Command::new(std::env::current_exe()?)
            .args(["bare-server", "--layout", layout])
            .args(["--rows", &rows.to_string(), "--record", &record.to_string()])
            .arg("--data")
            .arg(directory.path())
            .stdin(Stdio::piped())
            .stdout(Stdio::piped())
            .spawn()?;
        let mut address = String::new();
        BufReader::new(child.stdout.take().context("it has an output")?).read_line(&mut address)?;
        anyhow::ensure!(!address.is_empty(), "the bare server did not come up");
        let authority = std::fs::read_to_string(directory.path().join("ca.crt"))?;
        Ok(Self { child, directory, address: address.trim().to_owned(), authority })
    }

    pub(crate) fn pid(&self) -> u32 {
        self.child.id()
    }

    pub(crate) fn client(&self) -> BareClient {
        BareClient(Client::new(&self.address, &self.authority, "").channel())
    }

    /// A client that shows a certificate, as an agent does.
    pub(crate) fn node_client(&self) -> Result<BareClient> {
        let installation = InstallationId::from_random([1; 10]);
        let authority = Authority::open(self.directory.path(), installation, Clock::system())?;
        let (identity, request) = signing_request()?;
        let node = NodeId::from_random(drover_controller::random::bytes());
        let chain = authority.sign_node(&request, node)?;
        let identity = Identity::from_pem(chain, identity);
        Ok(BareClient(crate::client::endpoint(&self.address, &self.authority, Some(identity)).connect_lazy()))
    }

    pub(crate) fn authority_file(&self) -> std::path::PathBuf {
        self.directory.path().join("ca.crt")
    }
}

impl Drop for BareServer {
    fn drop(&mut self) {
        // It may have ended by itself.
        let _ = self.child.kill();
        let _ = self.child.wait();
    }
}

/// A key, PEM, and a request to sign it.
pub(crate) fn signing_request() -> Result<(String, Vec<u8>)> {
    let key = rcgen::KeyPair::generate()?;
    let request = rcgen::CertificateParams::new(Vec::<String>::new())?.serialize_request(&key)?;
    Ok((key.serialize_pem(), request.der().to_vec()))
}

/// Cheap to clone; all clones share a connection.
#[derive(Clone, Debug)]
pub(crate) struct BareClient(Channel);

impl BareClient {
    /// Has so many bytes sent.
    pub(crate) async fn echo(&self, answer: u32) -> Result<()> {
        self.unary(ECHO, Blob { answer, ..Blob::default() }).await
    }

    /// Has a row written that is so long, and so many bytes answered.
    pub(crate) async fn write(&self, number: u64, data: Bytes, answer: u32) -> Result<()> {
        self.unary(WRITE, Blob { data, number, answer }).await
    }

    async fn unary(&self, path: &'static str, blob: Blob) -> Result<()> {
        let mut grpc = tonic::client::Grpc::new(self.0.clone());
        grpc.ready().await?;
        let path = http::uri::PathAndQuery::from_static(path);
        grpc.unary(blob.into_request(), path, ProstCodec::<Blob, Blob>::default()).await?;
        Ok(())
    }

    /// What is written from now on.
    pub(crate) async fn watch(&self) -> Result<Streaming<Blob>> {
        let mut grpc = tonic::client::Grpc::new(self.0.clone());
        grpc.ready().await?;
        let path = http::uri::PathAndQuery::from_static(WATCH);
        let codec = ProstCodec::<Blob, Blob>::default();
        let mut stream =
            grpc.server_streaming(Blob::default().into_request(), path, codec).await?.into_inner();
        stream.message().await?.context("it begins with a word")?;
        Ok(stream)
    }

    /// A stream in both directions that gives back what it is given.
    pub(crate) async fn talk(
        &self,
        up: impl Stream<Item = Blob> + Send + 'static,
    ) -> Result<Streaming<Blob>> {
        let mut grpc = tonic::client::Grpc::new(self.0.clone());
        grpc.ready().await?;
        let path = http::uri::PathAndQuery::from_static(TALK);
        let codec = ProstCodec::<Blob, Blob>::default();
        Ok(grpc.streaming(tonic::Request::new(up), path, codec).await?.into_inner())
    }
}

/// One call as a program of its own makes it: connect, ask, end.
pub async fn once(address: &str, authority: &Path, answer: u32) -> Result<()> {
    let authority = std::fs::read_to_string(authority)?;
    BareClient(Client::new(address, &authority, "").channel()).echo(answer).await
}
