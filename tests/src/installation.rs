//! A controller and agents as programs of their own, in one directory and on one port that stays.

use std::path::PathBuf;
use std::process::Command;

use drover_agent::identity::Identity;

use crate::client::Client;
use crate::ground::Ground;
use crate::patience::eventually;
use crate::programs::{Program, Ran, command, free_port};

/// Whatever it started ends with it.
#[derive(Debug)]
pub struct Installation {
    pub controller: Option<Program>,
    pub agents: Vec<Option<Program>>,
    pub port: u16,
    slots: u32,
    variables: Vec<(&'static str, String)>,
    pub ground: Ground,
}

impl Installation {
    /// A controller with so many agents, all of them linked.
    pub async fn start(agents: usize, slots: u32) -> Self {
        Self::with(&[], agents, slots).await
    }

    /// The same in a directory in which there may be something already.
    pub async fn start_in(directory: tempfile::TempDir, agents: usize, slots: u32) -> Self {
        Self::on(Ground::from(directory), &[], agents, slots).await
    }

    /// The same, with these settings in the environment of every program.
    pub async fn with(variables: &[(&'static str, &str)], agents: usize, slots: u32) -> Self {
        Self::on(Ground::default(), variables, agents, slots).await
    }

    async fn on(ground: Ground, variables: &[(&'static str, &str)], agents: usize, slots: u32) -> Self {
        let variables = variables.iter().map(|(name, value)| (*name, (*value).to_owned())).collect();
        let port = free_port();
        let mut installation = Self { controller: None, agents: vec![], port, slots, variables, ground };
        installation.start_controller().await;
        for number in 0..agents {
            let token = installation.join_token().await;
            std::fs::write(installation.path(&format!("token-{number}")), token).unwrap();
            installation.agents.push(None);
            installation.start_agent(number, slots);
        }
        installation.all_linked().await;
        installation
    }

    pub fn path(&self, name: &str) -> PathBuf {
        self.ground.join(name)
    }

    /// Where an agent keeps what is its own.
    pub fn state_of(&self, number: usize) -> PathBuf {
        self.path(&format!("agent-{number}"))
    }

    /// An agent's node.
    pub fn identity_of(&self, number: usize) -> Identity {
        Identity::load(&self.state_of(number)).unwrap().unwrap()
    }

    pub async fn start_controller(&mut self) {
        let data = self.path("controller").display().to_string();
        let mut command = self.command("drover-controller");
        command.args(["--data-dir", &data, "--listen", &self.address()]);
        self.controller = Some(Program::spawn(command, &self.path("controller.log")));
        // It listens before it has made the last of what clients need.
        let (address, last) = (self.address(), self.path("controller").join("operator.token"));
        eventually("the controller listens", || async {
            tokio::net::TcpStream::connect(&address).await.ok().filter(|_| last.is_file())
        })
        .await;
    }

    pub fn start_agent(&mut self, number: usize, slots: u32) {
        self.agents[number] = Some(self.agent(number, slots, &[]));
    }

    /// An agent that has joined once, with these settings in its environment.
    pub fn agent(&self, number: usize, slots: u32, variables: &[(&str, &str)]) -> Program {
        let token = self.path(&format!("token-{number}")).display().to_string();
        let state = self.state_of(number).display().to_string();
        let mut command = self.command("drover-agent");
        command.args(["--controller", &self.address(), "--state-dir", &state]);
        command.args(["--join-token-file", &token, "--name", &format!("node-{number}")]);
        command.args(["--slots", &slots.to_string()]);
        command.envs(variables.iter().copied());
        Program::spawn(command, &self.path(&format!("agent-{number}.log")))
    }

    /// SIGKILL.
    pub fn kill_controller(&mut self) {
        self.controller.take().unwrap().kill();
    }

    /// SIGKILL, and the same agent again.
    pub fn kill_and_start_agent(&mut self, number: usize) {
        self.agents[number].take().unwrap().kill();
        self.start_agent(number, self.slots);
    }

    /// Waits until the controller hears every agent.
    pub async fn all_linked(&self) {
        let client = self.client();
        eventually("all agents are linked", || async {
            (client.reachable().await.len() == self.agents.len()).then_some(())
        })
        .await;
    }

    pub fn address(&self) -> String {
        format!("127.0.0.1:{}", self.port)
    }

    /// A file of the controller's, such as `ca.crt`.
    pub fn controllers(&self, name: &str) -> String {
        std::fs::read_to_string(self.path("controller").join(name)).unwrap()
    }

    pub fn client(&self) -> Client {
        let token = self.controllers("operator.token");
        Client::new(&self.address(), &self.controllers("ca.crt"), token.trim())
    }

    /// One of the programs as it is started here.
    pub fn command(&self, name: &str) -> Command {
        let mut command = command(name, self.ground.path());
        command.envs(self.variables.iter().map(|(name, value)| (name, value)));
        command
    }

    /// `droverctl`, as the operator.
    pub fn droverctl(&self, arguments: &[&str]) -> Command {
        let mut command = self.command("droverctl");
        command.env("DROVER_SERVER", self.address());
        command.env("DROVER_CA", self.path("controller").join("ca.crt"));
        command.env("DROVER_TOKEN", self.controllers("operator.token").trim());
        command.args(arguments);
        command
    }

    /// Runs `droverctl` to its end.
    pub fn run(&self, arguments: &[&str]) -> Ran {
        Ran::of(&mut self.droverctl(arguments))
    }

    pub async fn join_token(&self) -> String {
        let asked = drover_proto::v1::CreateJoinTokenRequest::default();
        self.client().nodes().create_join_token(asked).await.unwrap().into_inner().secret
    }
}
