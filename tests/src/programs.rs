//! The real programs: started, killed and started again as an operator or a power cut would.

use std::fs::File;
use std::path::{Path, PathBuf};
use std::process::{Child, Command, Stdio};

use rustix::process::{Pid, Signal, kill_process};

use crate::client::Client;
use crate::patience::eventually;

/// A program of this workspace, built beside this one.
pub fn program(name: &str) -> PathBuf {
    let here = std::env::current_exe().unwrap();
    let folder = here.ancestors().find(|folder| folder.join(name).is_file());
    let advice = "build it first: cargo build --workspace --bins";
    folder.unwrap_or_else(|| panic!("{name} is not there; {advice}")).join(name)
}

/// A program that runs, and is killed with this value.
#[derive(Debug)]
pub struct Program {
    child: Child,
    pub log: PathBuf,
}

impl Program {
    /// Starts it with its output in `log`.
    pub fn start(name: &str, log: &Path, arguments: &[&str], directory: &Path) -> Self {
        let output = File::options().create(true).append(true).open(log).unwrap();
        let mut command = Command::new(program(name));
        command.args(arguments).current_dir(directory).stdin(Stdio::null());
        command
            .env("XDG_CONFIG_HOME", directory.join("config"))
            .env("XDG_STATE_HOME", directory.join("state"));
        command.env("HOME", directory).env_remove("DROVER_CONFIG");
        let child = command.stdout(output.try_clone().unwrap()).stderr(output).spawn().unwrap();
        Self { child, log: log.to_owned() }
    }

    /// As a power cut would: no word, no chance.
    pub fn kill(mut self) {
        self.end();
    }

    /// SIGTERM, and the end of it.
    pub fn terminate(mut self) -> std::process::ExitStatus {
        kill_process(Pid::from_child(&self.child), Signal::TERM).unwrap();
        self.child.wait().unwrap()
    }

    /// Waits for its end.
    pub fn wait(mut self) -> std::process::ExitStatus {
        self.child.wait().unwrap()
    }

    fn end(&mut self) {
        // It may have ended by itself.
        let _ = self.child.kill();
        let _ = self.child.wait();
    }
}

impl Drop for Program {
    fn drop(&mut self) {
        self.end();
    }
}

/// A controller and agents as programs of their own, in one directory.
#[derive(Debug)]
pub struct Installation {
    directory: tempfile::TempDir,
    pub port: u16,
    pub controller: Option<Program>,
    pub agents: Vec<Option<Program>>,
}

impl Installation {
    pub async fn start(agents: usize, slots: u32) -> Self {
        let directory = tempfile::tempdir().unwrap();
        let port = free_port();
        let mut installation = Self { directory, port, controller: None, agents: vec![] };
        installation.start_controller().await;
        for number in 0..agents {
            let token = installation.join_token().await;
            let file = installation.path(&format!("token-{number}"));
            std::fs::write(&file, token).unwrap();
            installation.agents.push(None);
            installation.start_agent(number, slots);
        }
        let client = installation.client();
        eventually("all agents are linked", || async {
            (client.reachable().await.len() == agents).then_some(())
        })
        .await;
        installation
    }

    pub fn path(&self, name: &str) -> PathBuf {
        self.directory.path().join(name)
    }

    pub async fn start_controller(&mut self) {
        let (data, listen) =
            (self.path("controller").display().to_string(), format!("127.0.0.1:{}", self.port));
        let arguments = ["--data-dir", &data, "--listen", &listen];
        self.controller = Some(Program::start(
            "drover-controller",
            &self.path("controller.log"),
            &arguments,
            self.directory.path(),
        ));
        let address = listen.clone();
        eventually("the controller listens", || async {
            tokio::net::TcpStream::connect(&address).await.ok()
        })
        .await;
    }

    pub fn start_agent(&mut self, number: usize, slots: u32) {
        let (state, address) =
            (self.path(&format!("agent-{number}")).display().to_string(), format!("127.0.0.1:{}", self.port));
        let (token, name) =
            (self.path(&format!("token-{number}")).display().to_string(), format!("node-{number}"));
        let slots = slots.to_string();
        let arguments = [
            "--controller",
            &address,
            "--state-dir",
            &state,
            "--join-token-file",
            &token,
            "--name",
            &name,
            "--slots",
            &slots,
        ];
        let log = self.path(&format!("agent-{number}.log"));
        self.agents[number] = Some(Program::start("drover-agent", &log, &arguments, self.directory.path()));
    }

    pub fn client(&self) -> Client {
        let read = |name: &str| std::fs::read_to_string(self.path("controller").join(name)).unwrap();
        Client::new(&format!("127.0.0.1:{}", self.port), &read("ca.crt"), read("operator.token").trim())
    }

    async fn join_token(&self) -> String {
        let made = self
            .client()
            .nodes()
            .create_join_token(drover_proto::v1::CreateJoinTokenRequest::default())
            .await;
        made.unwrap().into_inner().secret
    }
}

/// A port that was free a moment ago.
pub fn free_port() -> u16 {
    std::net::TcpListener::bind("127.0.0.1:0").unwrap().local_addr().unwrap().port()
}

/// Whether a process lives (and is no zombie).
pub fn is_alive(pid: u32) -> bool {
    let stat = std::fs::read_to_string(format!("/proc/{pid}/stat")).unwrap_or_default();
    stat.rsplit_once(") ").is_some_and(|(_, rest)| !rest.starts_with(['Z', 'X']))
}
