//! The controller put together: here everything is opened, wired and started, and here it is ended again.

use std::fmt;
use std::net::SocketAddr;
use std::path::{Path, PathBuf};
use std::sync::Arc;

use drover_daemon::atomic;
use drover_daemon::clock::Clock;
use drover_daemon::tasks::Tasks;
use drover_domain::id::InstallationId;
use thiserror::Error;
use tokio::net::TcpListener;
use tonic_health::ServingStatus;
use tonic_health::server::HealthReporter;

use crate::access::{Role, Tokens};
use crate::config::Config;
use crate::gate::Gate;
use crate::links::Links;
use crate::listen::{self, Limits};
use crate::metrics::Metrics;
use crate::pki::{self, Authority};
use crate::plane::Plane;
use crate::registry::{Owner, Registry};
use crate::tunnel::Tunnels;
use crate::upkeep::{Looks, carry, rounds};
use crate::watch::encoded::Shelf;
use crate::{drains, http, leases, notify, random, retention, scheduler, store, tls};

#[derive(Debug, Error)]
pub enum Error {
    #[error("cannot use the data directory {}: {why}", path.display())]
    Directory { path: PathBuf, why: std::io::Error },
    #[error("{} has an authority but no registry: it was lost or emptied. Put a backup of registry.db there; nothing was changed. A new installation begins in an empty directory", .0.display())]
    RegistryLost(PathBuf),
    #[error(transparent)]
    Registry(#[from] store::OpenError),
    #[error(transparent)]
    Pki(#[from] pki::Error),
    #[error(transparent)]
    Tls(#[from] tls::Error),
    #[error("cannot serve: {0}")]
    Serve(String),
}

/// A controller that runs.
pub struct Running {
    pub address: SocketAddr,
    /// The certificate of its authority, PEM: what clients trust.
    pub authority: String,
    /// The token that `droverctl` comes with.
    pub operator_token: String,
    pub installation: InstallationId,
    plane: Plane,
    owner: Owner,
    health: HealthReporter,
    config: Config,
}

impl fmt::Debug for Running {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "Running({})", self.address)
    }
}

/// Starts a controller on `listener`, which is bound already.
pub async fn start(config: Config, listener: TcpListener, clock: Clock) -> Result<Running, Error> {
    let directory = config.data_dir.clone();
    let unusable = |why| Error::Directory { path: directory.clone(), why };
    atomic::private_directory(&directory).map_err(unusable)?;
    if Authority::is_there(&directory) && !Registry::is_there(&directory) {
        return Err(Error::RegistryLost(directory));
    }
    let metrics = Metrics::default();
    let new = InstallationId::from_random(random::bytes());
    let (registry, owner) = Registry::open(&directory, new, clock.clone(), metrics.clone())?;
    let installation = registry.now().fleet.installation();
    let authority = Arc::new(Authority::open(&directory, installation, clock.clone())?);
    let operator_token = operator_token(&directory).map_err(unusable)?;
    let tasks = Tasks::new();
    let address = listener.local_addr().map_err(|error| Error::Serve(error.to_string()))?;
    let mut names = config.names.clone();
    if !address.ip().is_unspecified() {
        names.push(address.ip().to_string());
    }
    let tls = tls::server(authority.clone(), names, &tasks)?;
    let plane = Plane {
        registry,
        links: Links::default(),
        tunnels: Tunnels::default(),
        shelf: Shelf::default(),
        terms: config.terms,
        clock: clock.clone(),
        tasks: tasks.clone(),
        metrics: metrics.clone(),
        authority: authority.clone(),
        upkeep: config.upkeep,
        looks: Looks::default(),
        data_dir: directory.as_path().into(),
    };
    let tokens = Tokens::new([(operator_token.clone(), "operator", Role::Admin)]);
    let gate = Gate::new(tokens, metrics, clock);
    let (router, health) = http::router(&plane, gate, &config.origins).map_err(Error::Serve)?;
    health.set_service_status("", ServingStatus::Serving).await;
    tasks.spawn(listen::run(listener, tls, router, Limits::default(), tasks.clone()));
    tasks.spawn(plane.clone().rounds(scheduler::round));
    tasks.spawn(leases::run(plane.clone()));
    tasks.spawn(plane.clone().rounds(drains::round));
    tasks.spawn(retention::run(plane.clone()));
    tasks.spawn(rounds::run(plane.clone()));
    tasks.spawn(carry::run(plane.clone()));
    if let Some(notify) = config.notify.clone() {
        tasks.spawn(notify::run(plane.clone(), notify));
    }
    tracing::info!(%address, %installation, "serving");
    let authority = authority.certificate().to_owned();
    Ok(Running { address, authority, operator_token, installation, plane, owner, health, config })
}

impl Running {
    /// A join token that is good for one machine and a while: for who runs an agent in this process.
    pub async fn join_token(&self, lasts: std::time::Duration) -> Result<String, crate::error::Error> {
        let id = drover_domain::id::TokenId::from_random(random::bytes());
        let token = pki::JoinToken::new(id, random::secret(), self.plane.authority.hash());
        let wish = drover_domain::command::Wish::CreateToken { id, secret_hash: token.secret_hash(), lasts };
        self.plane.wish(wish).await?;
        Ok(token.to_string())
    }

    /// Ends: says so, lets calls finish, ends the watches, and waits for what is on its way to the disk.
    pub async fn shutdown(self) -> bool {
        let Self { plane, owner, health, config, .. } = self;
        health.set_service_status("", ServingStatus::NotServing).await;
        let in_time = plane.tasks.shutdown(config.shutdown).await;
        if !in_time {
            tracing::warn!("some calls had not ended after {:.0?}", config.shutdown);
        }
        drop(plane);
        // The writer ends when nobody can reach it; a task that hangs must not keep the program.
        let joined = tokio::task::spawn_blocking(move || owner.join());
        tokio::time::timeout(config.shutdown, joined).await.is_ok() && in_time
    }
}

/// The operator's token: made at the first start, in a file of its own that only its owner may read.
fn operator_token(directory: &Path) -> std::io::Result<String> {
    let path = directory.join("operator.token");
    match std::fs::read_to_string(&path) {
        Ok(token) if atomic::is_private(&path)? => Ok(token.trim().to_owned()),
        Ok(_) => {
            let why = format!("{} may be read by others; make it private: chmod 600 {0}", path.display());
            Err(std::io::Error::other(why))
        }
        Err(error) if error.kind() == std::io::ErrorKind::NotFound => {
            let token = random::secret();
            atomic::write(&path, format!("{token}\n").as_bytes(), 0o600)?;
            Ok(token)
        }
        Err(error) => Err(error),
    }
}
