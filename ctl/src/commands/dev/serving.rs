//! The controller and the agent of a `dev`, from nothing to both up and linked, and back.

use std::fmt;
use std::io;
use std::net::{IpAddr, Ipv4Addr, Ipv6Addr, SocketAddr};
use std::time::Duration;

use drover_agent::app as agent;
use drover_agent::config::{Config as AgentConfig, Secret};
use drover_agent::identity::Identity;
use drover_agent::link::Standing;
use drover_controller::app as controller;
use drover_controller::config::Config as ControllerConfig;
use drover_daemon::clock::Clock;
use drover_daemon::tasks::Tasks;
use drover_daemon::telemetry::Telemetry;
use drover_domain::lease::Terms;
use tokio::net::TcpListener;
use tokio::time::timeout;

use super::directory::Directory;
use crate::context::Target;
use crate::error::{Exit, Failure};

/// The port that is tried first, as a controller's.
const PORT: u16 = 7437;
/// How long the agent has to find its controller.
const LINKED: Duration = Duration::from_secs(20);
/// How long each side has to end.
const PATIENCE: Duration = Duration::from_secs(10);

pub struct Serving {
    /// How clients come in.
    pub target: Target,
    controller: controller::Running,
    agent: agent::Running,
}

impl fmt::Debug for Serving {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "Serving({})", self.target.address)
    }
}

impl Serving {
    pub async fn start(
        directory: &Directory,
        listen: Option<SocketAddr>,
        clock: &Clock,
    ) -> Result<Self, Failure> {
        let place = directory.path().display().to_string();
        let failed = |what: &str, error: &dyn fmt::Display| {
            Failure::new(Exit::Failed, format!("the {what} cannot start")).at(&place).why(error)
        };
        let listener = listener(directory, listen).await?;
        let controller = controller::start(settings(directory), listener, clock.clone())
            .await
            .map_err(|error| failed("controller", &error))?;
        let dialled = dialled(controller.address);
        let target = Target {
            address: format!("https://{dialled}"),
            ca: controller.authority.clone(),
            token: controller.operator_token.clone(),
            context: Some(directory.context().to_owned()),
        };
        let agent = match start_agent(directory, dialled, &controller, clock).await {
            Ok(agent) => agent,
            Err(error) => {
                controller.shutdown().await;
                return Err(failed("agent", &error));
            }
        };
        let serving = Self { target, controller, agent };
        match serving.linked().await {
            Ok(()) => Ok(serving),
            Err(why) => {
                serving.end().await;
                Err(Failure::new(Exit::Failed, "the agent cannot reach its own controller")
                    .at(&place)
                    .why(why))
            }
        }
    }

    /// Ends both, the agent first: its last reports still find somebody.
    pub async fn end(self) {
        if !self.agent.shutdown(PATIENCE).await {
            tracing::warn!("the agent's step in hand was cut off; the next start takes it up");
        }
        self.controller.shutdown().await;
    }

    async fn linked(&self) -> Result<(), String> {
        let mut standing = self.agent.standing();
        let settled = standing.wait_for(|standing| *standing != Standing::Away);
        match timeout(LINKED, settled).await.map(|standing| standing.map(|standing| standing.clone())) {
            Ok(Ok(Standing::Refused(why))) => Err(why),
            Ok(Ok(Standing::Linked | Standing::Away)) => Ok(()),
            Ok(Err(_)) => Err("the agent has ended".to_owned()),
            Err(_) => Err(format!("it tried for {LINKED:?}")),
        }
    }
}

/// The address that was given; or the one it had before; or the usual port; or, if that is taken, a free one.
async fn listener(directory: &Directory, given: Option<SocketAddr>) -> Result<TcpListener, Failure> {
    let refused = |address: SocketAddr, error: io::Error| {
        let exit = if error.kind() == io::ErrorKind::AddrInUse { Exit::Conflict } else { Exit::Failed };
        Failure::new(exit, "cannot listen")
            .at(address)
            .why(error)
            .next("give another address: --listen 127.0.0.1:0")
    };
    let wishes = match given {
        Some(given) => vec![given],
        None => {
            let local = |port| SocketAddr::from((Ipv4Addr::LOCALHOST, port));
            directory.address().into_iter().chain([local(PORT), local(0)]).collect()
        }
    };
    let mut failure = None;
    for wish in wishes {
        match TcpListener::bind(wish).await {
            Ok(listener) => {
                let kept = listener.local_addr().and_then(|address| directory.keep_address(address));
                return kept.map(|()| listener).map_err(|error| refused(wish, error));
            }
            Err(error) => failure = Some(refused(wish, error)),
        }
    }
    Err(failure.unwrap_or_else(|| Failure::new(Exit::Failed, "there is no address to listen on")))
}

fn settings(directory: &Directory) -> ControllerConfig {
    ControllerConfig {
        // The listener is bound already; this is not looked at again.
        listen: SocketAddr::from((Ipv4Addr::LOCALHOST, 0)),
        data_dir: directory.path().join("controller"),
        names: vec!["127.0.0.1".to_owned(), "::1".to_owned()],
        origins: Vec::new(),
        terms: Terms::DEFAULT,
        upkeep: drover_controller::upkeep::Terms::DEFAULT,
        notify: None,
        telemetry: Telemetry::default(),
        shutdown: PATIENCE,
    }
}

/// The agent joins with a token at its first start, and keeps its identity.
async fn start_agent(
    directory: &Directory,
    controller: SocketAddr,
    running: &controller::Running,
    clock: &Clock,
) -> Result<agent::Running, Box<dyn std::error::Error + Send + Sync>> {
    let shim = std::env::current_exe()?;
    let mut config = AgentConfig::new(controller.to_string(), directory.path().join("agent"), shim);
    if let Some(sockets) = std::env::var_os("DROVER_SOCKETS").filter(|path| !path.is_empty()) {
        config.sockets = sockets.into();
    }
    if Identity::load(&config.state_dir)?.is_none() {
        let token = running.join_token(Duration::from_secs(60)).await.map_err(|error| error.text)?;
        config.join_token = Some(Secret(token));
    }
    Ok(agent::App::start(config, clock.clone(), Tasks::new()).await?)
}

/// An address that listens everywhere is dialled on this machine.
fn dialled(address: SocketAddr) -> SocketAddr {
    let ip = match address.ip() {
        IpAddr::V4(ip) if ip.is_unspecified() => IpAddr::V4(Ipv4Addr::LOCALHOST),
        IpAddr::V6(ip) if ip.is_unspecified() => IpAddr::V6(Ipv6Addr::LOCALHOST),
        ip => ip,
    };
    SocketAddr::new(ip, address.port())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_listens_everywhere_is_dialled_here() {
        let table = [
            ("0.0.0.0:7", "127.0.0.1:7"),
            ("[::]:7", "[::1]:7"),
            ("127.0.0.1:7", "127.0.0.1:7"),
            ("192.0.2.1:7", "192.0.2.1:7"),
        ];
        for (bound, expected) in table {
            assert_eq!(dialled(bound.parse().unwrap()).to_string(), expected);
        }
    }
}
