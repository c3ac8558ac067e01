//! The one map from what can go wrong to what a caller is told: a status code, a reason for programs, and what to do next
//! for people. What is internal goes to the log under an id that the caller gets too.

use std::collections::HashMap;
use std::time::Duration;

use drover_domain::refused::{Reason, Refused};
use drover_proto::convert::Invalid;
use tonic::{Code, Status};
use tonic_types::{ErrorDetails, StatusExt};

use crate::{registry, store};

/// Who says the reasons.
const DOMAIN: &str = "drover.dev";

/// What a call ends with instead of an answer.
#[derive(Clone, Debug)]
pub struct Error {
    pub code: Code,
    /// For programs.
    pub reason: &'static str,
    pub text: String,
    /// What to do next.
    pub hint: String,
    pub violations: Vec<(String, String)>,
    pub retry: Option<Duration>,
}

impl Error {
    pub fn new(code: Code, reason: &'static str, text: impl Into<String>, hint: impl Into<String>) -> Self {
        Self { code, reason, text: text.into(), hint: hint.into(), violations: vec![], retry: None }
    }

    pub fn not_found(reason: &'static str, text: impl Into<String>, hint: impl Into<String>) -> Self {
        Self::new(Code::NotFound, reason, text, hint)
    }

    /// A part of the contract that is declared and not there yet.
    pub fn not_built(what: &str) -> Self {
        Self::new(
            Code::Unimplemented,
            "NOT_BUILT",
            format!("{what} is not built yet"),
            "droverctl --help says what is",
        )
    }

    pub fn invalid(field: impl Into<String>, problem: impl std::fmt::Display) -> Self {
        Invalid::one(field, problem).into()
    }

    #[must_use]
    pub fn after(mut self, retry: Duration) -> Self {
        self.retry = Some(retry);
        self
    }

    /// Something that should not happen: logged here, once, under an id.
    pub fn internal(what: &str, error: &dyn std::error::Error) -> Self {
        let id: u32 = crate::random::number();
        tracing::error!(error_id = format!("{id:08x}"), "{what}: {error}");
        let text = format!("{what} failed inside the controller (error {id:08x})");
        Self::new(Code::Internal, "INTERNAL", text, "the controller's log has more under this number")
    }
}

impl From<Invalid> for Error {
    fn from(invalid: Invalid) -> Self {
        let mut error = Self::new(Code::InvalidArgument, "INVALID", invalid.to_string(), "");
        error.violations =
            invalid.0.into_iter().map(|violation| (violation.field, violation.description)).collect();
        error
    }
}

impl From<Refused> for Error {
    fn from(refused: Refused) -> Self {
        let code = match refused.reason() {
            Reason::NotFound => Code::NotFound,
            Reason::AlreadyExists => Code::AlreadyExists,
            Reason::Precondition => Code::FailedPrecondition,
            Reason::NotAllowed => Code::PermissionDenied,
            Reason::Exhausted => Code::ResourceExhausted,
        };
        Self::new(code, refused.code(), refused.to_string(), refused.hint())
    }
}

impl From<registry::Error> for Error {
    fn from(error: registry::Error) -> Self {
        use registry::Error as E;
        let text = error.to_string();
        let same = "ask again with the same request id: it finds out what became of it";
        match error {
            E::Refused(refused) => refused.into(),
            E::RequestIdReused => Self::new(
                Code::AlreadyExists,
                "REQUEST_ID_REUSED",
                text,
                "use a new request id for a new request",
            ),
            E::Full => Self::new(Code::ResourceExhausted, "BUSY", text, "try again in a moment")
                .after(Duration::from_millis(200)),
            E::NotWritten(_) => {
                let hint = "nothing was changed; look at the disk of the controller, then try again";
                Self::new(Code::Unavailable, "NOT_WRITTEN", text, hint).after(Duration::from_secs(1))
            }
            E::OutcomeUnknown(_) => {
                Self::new(Code::Unavailable, "OUTCOME_UNKNOWN", text, same).after(Duration::from_secs(1))
            }
            E::Closed => {
                Self::new(Code::Unavailable, "SHUTTING_DOWN", text, same).after(Duration::from_secs(1))
            }
        }
    }
}

impl From<store::Error> for Error {
    fn from(error: store::Error) -> Self {
        Self::internal("reading the registry", &error)
    }
}

impl From<Error> for Status {
    fn from(error: Error) -> Self {
        let mut details = ErrorDetails::new();
        let hint = (!error.hint.is_empty()).then(|| ("hint".to_owned(), error.hint.clone()));
        details.set_error_info(error.reason, DOMAIN, hint.into_iter().collect::<HashMap<_, _>>());
        for (field, problem) in &error.violations {
            details.add_bad_request_violation(field, problem);
        }
        if error.code == Code::FailedPrecondition {
            details.add_precondition_failure_violation(error.reason, "", &error.text);
        }
        if error.retry.is_some() {
            details.set_retry_info(error.retry);
        }
        Self::with_error_details(error.code, error.text, details)
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use drover_domain::id::SessionId;

    #[test]
    fn a_refusal_says_what_and_what_next_in_a_form_that_programs_read() {
        let status = Status::from(Error::from(Refused::SessionUnknown(SessionId::from_random([0; 10]))));
        assert_eq!(status.code(), Code::NotFound);
        let info = status.get_details_error_info().unwrap();
        assert_eq!((info.reason.as_str(), info.domain.as_str()), ("SESSION_NOT_FOUND", DOMAIN));
        assert_eq!(info.metadata["hint"], "droverctl ps --all lists the sessions");
    }

    #[test]
    fn every_violation_is_told_with_its_field() {
        let mut invalid = Invalid::default();
        invalid.add("spec.command", "is empty");
        invalid.add("name", "is odd");
        let status = Status::from(Error::from(invalid));
        let fields: Vec<_> =
            status.get_details_bad_request().unwrap().field_violations.into_iter().map(|v| v.field).collect();
        assert_eq!(fields, ["spec.command", "name"]);
    }

    #[test]
    fn what_may_pass_says_when_to_try_again() {
        let status = Status::from(Error::from(registry::Error::Full));
        assert_eq!(status.code(), Code::ResourceExhausted);
        assert!(status.get_details_retry_info().unwrap().retry_delay.is_some());
    }
}
