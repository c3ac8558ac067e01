//! A controller and any number of agents in this process, on a free port.

use std::path::PathBuf;
use std::time::Duration;

use drover_agent::app as agent;
use drover_agent::config as agent_config;
use drover_controller::app as controller;
use drover_controller::config::{Config, Flags};
use drover_daemon::clock::Clock;
use drover_daemon::tasks::Tasks;
use tokio::net::TcpListener;

use crate::client::Client;
use crate::ground::Ground;
use crate::patience::eventually;
use crate::programs::program;

/// Ends with its value, and every run of its agents with it.
#[derive(Debug)]
pub struct Cluster {
    pub controller: controller::Running,
    pub agents: Vec<agent::Running>,
    pub client: Client,
    pub ground: Ground,
}

impl Cluster {
    pub async fn start(agents: usize, slots: u32) -> Self {
        let ground = Ground::default();
        let flags =
            Flags { data_dir: Some(ground.join("controller").display().to_string()), ..Flags::default() };
        let config = Config::load(None, flags).unwrap();
        let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
        let controller = controller::start(config, listener, Clock::system()).await.unwrap();
        let client =
            Client::new(&controller.address.to_string(), &controller.authority, &controller.operator_token);
        let mut cluster = Self { controller, agents: vec![], client, ground };
        for number in 0..agents {
            cluster.join(number, slots).await;
        }
        eventually("all agents are linked", || async {
            (cluster.client.reachable().await.len() == agents).then_some(())
        })
        .await;
        cluster
    }

    async fn join(&mut self, number: usize, slots: u32) {
        let shim = program("drover-agent");
        let mut config =
            agent_config::Config::new(self.controller.address.to_string(), self.state_of(number), shim);
        let token = self.controller.join_token(Duration::from_secs(60)).await.unwrap();
        config.sockets = self.ground.join("run");
        config.join_token = Some(agent_config::Secret(token));
        config.name = Some(format!("node-{number}").parse().unwrap());
        config.offer.slots = Some(slots);
        self.agents.push(agent::App::start(config, Clock::system(), Tasks::new()).await.unwrap());
    }

    /// Where an agent keeps what is its own.
    pub fn state_of(&self, number: usize) -> PathBuf {
        self.ground.join(format!("agent-{number}"))
    }

    /// Ends all of it in order.
    pub async fn end(self) {
        for agent in self.agents {
            assert!(agent.shutdown(Duration::from_secs(20)).await, "the agent ends in time");
        }
        assert!(self.controller.shutdown().await, "the controller ends in time");
    }
}
