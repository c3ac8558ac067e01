//! The product's side: the real controller as a process of its own, and the calls that are measured.

use std::path::{Path, PathBuf};
use std::time::Duration;

use anyhow::{Context, Result};
use drover_proto::v1;

use super::measure::Stopwatch;
use crate::client::Client;
use crate::programs::{Program, free_port};

/// A controller on a directory; the process ends with this value, the directory stays.
#[derive(Debug)]
pub(crate) struct Controller {
    program: Program,
    directory: PathBuf,
    port: u16,
}

impl Controller {
    /// Returns when it answers.
    pub(crate) async fn start(directory: &Path) -> Result<Self> {
        let port = free_port();
        let (data, listen) = (directory.display().to_string(), format!("127.0.0.1:{port}"));
        let log = directory.with_extension("log");
        let home = directory.parent().context("it is in a directory")?;
        let arguments = ["--data-dir", &data, "--listen", &listen];
        let program = Program::start("drover-controller", &log, &arguments, home);
        let started = Self { program, directory: directory.to_owned(), port };
        let patience = Stopwatch::start();
        while !started.answers().await {
            anyhow::ensure!(patience.seconds() < 120.0, "the controller does not answer: {}", log.display());
            tokio::time::sleep(Duration::from_millis(2)).await;
        }
        Ok(started)
    }

    async fn answers(&self) -> bool {
        let Ok(client) = self.client() else { return false };
        client.nodes().list_nodes(v1::ListNodesRequest::default()).await.is_ok()
    }

    pub(crate) fn pid(&self) -> u32 {
        self.program.pid()
    }

    pub(crate) fn address(&self) -> String {
        format!("127.0.0.1:{}", self.port)
    }

    pub(crate) fn authority(&self) -> Result<String> {
        Ok(std::fs::read_to_string(self.directory.join("ca.crt"))?)
    }

    pub(crate) fn token(&self) -> Result<String> {
        Ok(std::fs::read_to_string(self.directory.join("operator.token"))?.trim().to_owned())
    }

    /// A client with a connection of its own.
    pub(crate) fn client(&self) -> Result<Client> {
        Ok(Client::new(&self.address(), &self.authority()?, &self.token()?))
    }

    /// The length of the write-ahead log.
    pub(crate) fn log_bytes(&self) -> u64 {
        std::fs::metadata(self.directory.join("registry.db-wal")).map_or(0, |found| found.len())
    }

    /// As a power cut would end it.
    pub(crate) fn kill(self) {
        self.program.kill();
    }
}

/// Changes a session, durably: the cheapest change that any session takes at any time.
pub(crate) async fn hold(client: &Client, session: &str, reason: String, request_id: String) -> Result<u64> {
    let asked = v1::HoldSessionRequest {
        session: session.to_owned(),
        reason,
        request_id,
        ..v1::HoldSessionRequest::default()
    };
    let answer = client.sessions().hold_session(asked).await?.into_inner();
    Ok(answer.session.context("the session is answered")?.revision)
}

pub(crate) async fn page(client: &Client, size: i32) -> Result<Vec<v1::Session>> {
    let asked = v1::ListSessionsRequest { page_size: size, ..v1::ListSessionsRequest::default() };
    Ok(client.sessions().list_sessions(asked).await?.into_inner().sessions)
}

/// How long things are on the wire and on the disk, so that the bare server moves as many bytes.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Sizes {
    /// A session as it is answered.
    pub answer: u32,
    /// A session's record in its row.
    pub record: usize,
}

pub(crate) async fn sizes(client: &Client, session: &str, directory: &Path) -> Result<Sizes> {
    use prost::Message;
    let answer = v1::GetSessionResponse { session: Some(client.get(session).await?) }.encoded_len();
    let database = rusqlite::Connection::open(directory.join("registry.db"))?;
    let query = "SELECT length(record) FROM sessions WHERE id = ?1";
    let record: i64 = database.query_row(query, [session], |row| row.get(0))?;
    Ok(Sizes { answer: u32::try_from(answer)?, record: usize::try_from(record)? })
}
