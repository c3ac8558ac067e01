//! The one map from what the API answers to what a person is told and to the exit code.

use std::time::Duration;

use tonic::{Code, Status};
use tonic_types::StatusExt;

use super::connect::chain;
use crate::error::{Exit, Failure};

/// The exit code of a status.
pub fn exit(code: Code) -> Exit {
    match code {
        Code::InvalidArgument => Exit::Usage,
        Code::NotFound => Exit::NotFound,
        Code::AlreadyExists | Code::FailedPrecondition | Code::Aborted => Exit::Conflict,
        Code::Unavailable | Code::ResourceExhausted => Exit::Unavailable,
        Code::PermissionDenied | Code::Unauthenticated => Exit::NotAllowed,
        Code::DeadlineExceeded => Exit::TimedOut,
        Code::Ok
        | Code::Cancelled
        | Code::Unknown
        | Code::OutOfRange
        | Code::Unimplemented
        | Code::Internal
        | Code::DataLoss => Exit::Failed,
    }
}

/// Whether the same call may succeed in a moment.
pub fn is_passing(status: &Status) -> bool {
    match status.code() {
        Code::Unavailable => true,
        Code::ResourceExhausted => retry_delay(status).is_some(),
        _ => false,
    }
}

/// How long the controller asks to wait before the next attempt.
pub fn retry_delay(status: &Status) -> Option<Duration> {
    status.get_details_retry_info().and_then(|info| info.retry_delay)
}

pub fn failure(status: &Status) -> Failure {
    let details = status.get_error_details();
    // A limit that was reached does not pass by waiting for it.
    let is_for_good = status.code() == Code::ResourceExhausted
        && details.error_info().is_some_and(|info| info.reason == "LIMIT_REACHED");
    let exit = if is_for_good { Exit::Conflict } else { exit(status.code()) };
    let mut failure = Failure::new(exit, what(status));
    for violation in details.bad_request().iter().flat_map(|bad| &bad.field_violations) {
        failure = failure.why(format!("{} {}", option_of(&violation.field), violation.description));
    }
    for violation in details.precondition_failure().iter().flat_map(|bad| &bad.violations) {
        if violation.description != status.message() {
            failure = failure.why(&violation.description);
        }
    }
    if let Some(info) = details.request_info() {
        failure = failure.why(format!("the controller's log has more under {}", info.request_id));
    }
    if let Some(info) = details.error_info() {
        failure = failure.because(&info.reason);
    }
    if let Some(hint) = details.error_info().and_then(|info| info.metadata.get("hint")) {
        return failure.next(hint);
    }
    for link in details.help().iter().flat_map(|help| &help.links) {
        let url = if link.url.is_empty() { String::new() } else { format!(": {}", link.url) };
        failure = failure.next(format!("{}{url}", link.description));
    }
    match status.code() {
        Code::Unimplemented => failure.next("a later version of the controller may have it"),
        Code::Unauthenticated => failure.next("check the token: droverctl context ls, or DROVER_TOKEN"),
        Code::Unavailable => {
            failure.next("try again: repeating a command with the same --request-id is safe")
        }
        _ => failure,
    }
}

fn what(status: &Status) -> String {
    let violations = status.get_details_bad_request().map_or(0, |bad| bad.field_violations.len());
    match (status.message(), violations) {
        // The violations follow one by one; a message that repeats them says nothing more.
        (_, 1) => "an argument is not as it must be".to_owned(),
        (_, 2..) => "some arguments are not as they must be".to_owned(),
        ("", 0) => match std::error::Error::source(status) {
            Some(source) => chain(source),
            None => format!("the controller answered: {}", status.code().description()),
        },
        (message, 0) => match std::error::Error::source(status) {
            Some(source) if !chain(source).contains(message) => format!("{message}: {}", chain(source)),
            Some(source) => chain(source),
            None => message.to_owned(),
        },
    }
}

/// A field of a request as the option that fills it.
fn option_of(field: &str) -> String {
    let last = field.strip_prefix("spec.").unwrap_or(field);
    match last {
        "command" => "the command after `--`".to_owned(),
        "repository" => "--repo".to_owned(),
        "restart_on_failure" => "--restart".to_owned(),
        "order_by" => "--sort".to_owned(),
        "directory" => "--to".to_owned(),
        "duration" => "the length of time".to_owned(),
        "session" | "node" if field == last => format!("the {last}'s name"),
        "base" | "image" | "env" | "timeout" | "idle_timeout" | "grace" | "stop_grace" | "queue_timeout"
        | "priority" | "node" | "node_selector" | "on_node_loss" | "run_as" | "workspace" | "runtime"
        | "resume" | "resume_command" | "idle_signs" | "extend_signs" | "max_extensions"
        | "max_extension" | "name" | "project" | "filter" | "on_conflict" | "request_id" => {
            format!("--{}", last.replace('_', "-"))
        }
        _ => field.to_owned(),
    }
}

#[cfg(test)]
mod tests {
    use tonic_types::{ErrorDetails, FieldViolation};

    use super::*;

    #[test]
    fn every_code_of_the_api_has_its_exit_code() {
        let table = [
            (Code::Cancelled, 1),
            (Code::Unknown, 1),
            (Code::InvalidArgument, 2),
            (Code::DeadlineExceeded, 7),
            (Code::NotFound, 3),
            (Code::AlreadyExists, 4),
            (Code::PermissionDenied, 6),
            (Code::ResourceExhausted, 5),
            (Code::FailedPrecondition, 4),
            (Code::Aborted, 4),
            (Code::OutOfRange, 1),
            (Code::Unimplemented, 1),
            (Code::Internal, 1),
            (Code::Unavailable, 5),
            (Code::DataLoss, 1),
            (Code::Unauthenticated, 6),
        ];
        for (code, expected) in table {
            assert_eq!(exit(code).code(), expected, "{code:?}");
        }
    }

    #[test]
    fn wrong_fields_are_named_as_the_options_that_fill_them() {
        let fields = vec![
            FieldViolation::new("spec.command", "is empty"),
            FieldViolation::new("spec.idle_timeout", "is too long"),
            FieldViolation::new("name", "has the character '_'"),
        ];
        let details = ErrorDetails::with_bad_request(fields);
        let status = Status::with_error_details(Code::InvalidArgument, "name: has …", details);
        insta::assert_snapshot!(failure(&status).to_string(), @r"
        some arguments are not as they must be
            why: the command after `--` is empty
            why: --idle-timeout is too long
            why: --name has the character '_'
        ");
    }

    #[test]
    fn a_limit_that_was_reached_is_a_conflict_and_not_a_controller_that_is_away() {
        let details = ErrorDetails::with_error_info("LIMIT_REACHED", "drover", []);
        let status = Status::with_error_details(Code::ResourceExhausted, "there are already 10", details);
        assert_eq!(failure(&status).exit.code(), 4);
        let busy = ErrorDetails::with_error_info("BUSY", "drover", []);
        let busy = Status::with_error_details(Code::ResourceExhausted, "busy", busy);
        assert_eq!(failure(&busy).exit.code(), 5);
    }

    #[test]
    fn the_hint_of_an_error_becomes_the_next_step() {
        let metadata = [("hint".to_owned(), "droverctl ps --all lists the sessions".to_owned())];
        let details = ErrorDetails::with_error_info("SESSION_NOT_FOUND", "drover", metadata);
        let status = Status::with_error_details(Code::NotFound, "there is no session 'x'", details);
        insta::assert_snapshot!(failure(&status).to_string(), @r"
        there is no session 'x'
           next: droverctl ps --all lists the sessions
        ");
    }
}
