//! Making the connection, and saying in words why it could not be made.

use std::error::Error;
use std::io;
use std::time::Duration;

use drover_domain::retry::Backoff;
use rustls::CertificateError;
use tonic::transport::{Certificate, Channel, ClientTlsConfig, Endpoint};

use crate::chance;
use crate::context::Target;
use crate::error::{Exit, Failure};

const ATTEMPTS: u32 = 4;
const BACKOFF: Backoff = Backoff { first: Duration::from_millis(100), longest: Duration::from_secs(1) };

/// A connection to the target's controller.
pub async fn channel(target: &Target) -> Result<Channel, Failure> {
    let endpoint = endpoint(target)?;
    let mut attempt = 0;
    loop {
        let error = match endpoint.connect().await {
            Ok(channel) => return Ok(channel),
            Err(error) => error,
        };
        attempt += 1;
        let cause = Cause::of(&error);
        if attempt == ATTEMPTS || !matches!(cause, Cause::Refused) {
            return Err(cause.failure(target, &error));
        }
        tokio::time::sleep(BACKOFF.delay(attempt, chance::byte())).await;
    }
}

fn endpoint(target: &Target) -> Result<Endpoint, Failure> {
    let wrong = |error: tonic::transport::Error| {
        Failure::new(Exit::Usage, "the controller's address or its authority's certificate cannot be used")
            .why(chain(&error))
    };
    let tls = ClientTlsConfig::new().ca_certificate(Certificate::from_pem(&target.ca));
    Endpoint::from_shared(target.address.clone())
        .map_err(wrong)?
        .user_agent(concat!("droverctl/", env!("CARGO_PKG_VERSION")))
        .map_err(wrong)?
        .connect_timeout(Duration::from_secs(10))
        .tcp_nodelay(true)
        .http2_keep_alive_interval(Duration::from_secs(15))
        .keep_alive_timeout(Duration::from_secs(10))
        .keep_alive_while_idle(true)
        .tls_config(tls)
        .map_err(wrong)
}

/// Why there is no connection.
#[derive(Clone, Debug, PartialEq, Eq)]
enum Cause {
    /// Nobody listens there.
    Refused,
    /// It took too long.
    Silent,
    /// Whoever answered is not the controller that is trusted.
    Stranger(&'static str),
    Other,
}

impl Cause {
    fn of(error: &(dyn Error + 'static)) -> Self {
        causes(error).find_map(Self::of_one).unwrap_or(Self::Other)
    }

    fn of_one(cause: &(dyn Error + 'static)) -> Option<Self> {
        if let Some(rustls::Error::InvalidCertificate(reason)) = cause.downcast_ref() {
            return Some(Self::Stranger(stranger(reason)));
        }
        let io = cause.downcast_ref::<io::Error>()?;
        match io.kind() {
            io::ErrorKind::ConnectionRefused => Some(Self::Refused),
            io::ErrorKind::TimedOut => Some(Self::Silent),
            // rustls hides in an io::Error, which does not name it as its source.
            _ => io.get_ref().and_then(|inner| Self::of_one(inner)),
        }
    }

    fn failure(self, target: &Target, error: &(dyn Error + 'static)) -> Failure {
        let unreached = Failure::new(Exit::Unavailable, "cannot reach the controller");
        match self {
            Self::Refused => unreached.why("nobody listens at that address").next(target.advice()),
            Self::Silent => unreached.why("it did not answer in time").next(target.advice()),
            Self::Stranger(why) => {
                Failure::new(Exit::NotAllowed, "whoever answers there is not the controller")
                    .why(why)
                    .next("check the address, or take over the controller's CA: droverctl context add")
            }
            Self::Other => unreached.why(chain(error)).next(target.advice()),
        }
    }
}

fn stranger(reason: &CertificateError) -> &'static str {
    match reason {
        CertificateError::UnknownIssuer => {
            "its certificate is not from the authority that this context trusts"
        }
        CertificateError::NotValidForName | CertificateError::NotValidForNameContext { .. } => {
            "its certificate is for another host name"
        }
        CertificateError::Expired | CertificateError::ExpiredContext { .. } => "its certificate has expired",
        CertificateError::NotValidYet | CertificateError::NotValidYetContext { .. } => {
            "its certificate is not valid yet; is this machine's clock right?"
        }
        _ => "its certificate is not valid",
    }
}

fn causes<'a>(error: &'a (dyn Error + 'static)) -> impl Iterator<Item = &'a (dyn Error + 'static)> {
    std::iter::successors(Some(error), |error: &&'a (dyn Error + 'static)| (*error).source())
}

/// An error and its sources, each said once.
pub fn chain(error: &(dyn Error + 'static)) -> String {
    let mut words: Vec<String> = Vec::new();
    for cause in causes(error).map(ToString::to_string) {
        if !words.iter().any(|said| said.contains(&cause)) {
            words.push(cause);
        }
    }
    words.join(": ")
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_is_wrong_with_a_connection_is_found_wherever_it_hides() {
        let certificate = rustls::Error::InvalidCertificate(CertificateError::UnknownIssuer);
        let hidden = io::Error::new(io::ErrorKind::InvalidData, certificate);
        assert!(matches!(Cause::of(&hidden), Cause::Stranger(why) if why.contains("authority")));
        assert_eq!(Cause::of(&io::Error::from(io::ErrorKind::ConnectionRefused)), Cause::Refused);
        assert_eq!(Cause::of(&io::Error::other("x")), Cause::Other);
    }
}
