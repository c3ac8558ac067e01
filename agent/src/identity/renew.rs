//! Renewing the certificate at half of its life, without a restart: the new identity holds from the next dial on. While
//! the controller is away it is tried again; only an agent that was cut off for its certificate's life has to join anew.

use std::path::Path;
use std::sync::Arc;
use std::time::Duration;

use drover_daemon::clock::Clock;
use drover_daemon::tasks::Tasks;
use drover_domain::retry::Backoff;
use drover_proto::v1::RenewCertificateRequest;
use drover_proto::v1::enrollment_service_client::EnrollmentServiceClient;
use thiserror::Error;
use tokio::sync::watch;

use super::{Identity, IdentityError, Request, validity};
use crate::chance;
use crate::link::{Controller, DialError};

/// How often the clock is looked at: it may be set meanwhile.
const LOOK: Duration = Duration::from_secs(60);
const AGAIN: Backoff = Backoff { first: Duration::from_secs(5), longest: Duration::from_secs(300) };

#[derive(Debug, Error)]
pub enum RenewError {
    #[error(transparent)]
    Dial(#[from] DialError),
    #[error("the controller did not renew it: {}", .0.message())]
    Refused(tonic::Status),
    #[error(transparent)]
    Identity(#[from] IdentityError),
}

/// Keeps the identity fresh until the tasks end.
pub async fn keep_fresh(
    controller: Controller,
    identity: watch::Sender<Arc<Identity>>,
    state: Arc<Path>,
    clock: Clock,
    tasks: Tasks,
) {
    let mut attempt: u32 = 0;
    loop {
        let current = identity.borrow().clone();
        let wait = if clock.wall_millis() / 1000 < current.half_life() {
            LOOK
        } else {
            match renew(&controller, &current, &state).await {
                Ok(renewed) => {
                    tracing::info!(until = renewed.valid.1, "the certificate is renewed");
                    identity.send_replace(Arc::new(renewed));
                    attempt = 0;
                    LOOK
                }
                Err(error) => {
                    let remains = current.remains(clock.wall_millis());
                    tracing::warn!(
                        "the certificate is not renewed yet, and holds for {remains:.0?}: {error}"
                    );
                    attempt = attempt.saturating_add(1);
                    AGAIN.delay(attempt, chance::byte())
                }
            }
        };
        tokio::select! { () = tokio::time::sleep(wait) => {}, () = tasks.cancelled() => return }
    }
}

async fn renew(controller: &Controller, before: &Identity, state: &Path) -> Result<Identity, RenewError> {
    let request = Request::make()?;
    let mut client = EnrollmentServiceClient::new(controller.channel().await?);
    let answer = client.renew_certificate(RenewCertificateRequest { csr: request.csr }).await;
    let answer = answer.map_err(RenewError::Refused)?.into_inner();
    let renewed = Identity {
        valid: validity(&answer.certificate_chain).map_err(IdentityError::BadAnswer)?,
        key: request.key,
        chain: answer.certificate_chain,
        authority: if answer.authority.is_empty() { before.authority.clone() } else { answer.authority },
        ..before.clone()
    };
    renewed.save(state)?;
    Ok(renewed)
}
