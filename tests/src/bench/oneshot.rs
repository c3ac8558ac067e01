//! `droverctl get` as a process, against a bare client that connects, asks once and ends.

use std::path::PathBuf;
use std::process::{Command, Stdio};

use anyhow::Result;
use tokio::task::block_in_place;

use super::bare::Layout;
use super::bare::client::BareServer;
use super::controller::{Controller, sizes};
use super::fill::{Fill, fill};
use super::line;
use super::measure::{Contest, Stopwatch, Unit, warm_rounds};
use super::table::{Bound, Goal, Row};
use crate::programs::program;

/// How many are started for one sample.
const EACH: usize = 20;

pub(crate) async fn rows() -> Result<Vec<Row>> {
    let directory = tempfile::tempdir()?;
    let data = directory.path().join("controller");
    let ids = block_in_place(|| fill(&data, Fill { live: 100, ..Fill::default() }))?;
    let controller = Controller::start(&data).await?;
    let answer = sizes(&controller.client()?, &ids[0], &data).await?.answer;
    let bare = BareServer::start(Layout::Random, 1, 1)?;
    let mut programs =
        Programs { directory, data, controller: &controller, bare: &bare, id: ids[0].clone(), answer };
    let goal =
        Goal::new("G14", "droverctl get as a process, against a bare one-shot client", Bound::AtMost(2.0));
    Ok(vec![line(goal, warm_rounds(&mut programs, Unit::Seconds)).await])
}

struct Programs<'a> {
    directory: tempfile::TempDir,
    data: PathBuf,
    controller: &'a Controller,
    bare: &'a BareServer,
    id: String,
    answer: u32,
}

impl Programs<'_> {
    fn run(&self, command: impl Fn() -> Result<Command>) -> Result<f64> {
        block_in_place(|| {
            let watch = Stopwatch::start();
            for _ in 0..EACH {
                let mut command = command()?;
                command.stdin(Stdio::null()).stdout(Stdio::null()).current_dir(self.directory.path());
                anyhow::ensure!(command.status()?.success(), "{command:?} failed");
            }
            Ok(watch.seconds() / EACH as f64)
        })
    }
}

impl Contest for Programs<'_> {
    async fn bare(&mut self) -> Result<f64> {
        self.run(|| {
            let mut command = Command::new(std::env::current_exe()?);
            command.arg("bare-client").arg(&self.bare.address).arg(self.bare.authority_file());
            command.arg(self.answer.to_string());
            Ok(command)
        })
    }

    async fn product(&mut self) -> Result<f64> {
        let (address, token) = (self.controller.address(), self.controller.token()?);
        self.run(|| {
            let mut command = Command::new(program("droverctl"));
            command.args(["get", &self.id, "-o", "json", "--server", &address]);
            command.arg("--ca").arg(self.data.join("ca.crt"));
            command.env("DROVER_TOKEN", &token).env("HOME", self.directory.path());
            command.env("XDG_CONFIG_HOME", self.directory.path());
            Ok(command)
        })
    }
}
