//! One trace from here through the controller into the agent: every call of one invocation carries the same trace id,
//! as the W3C's `traceparent`. Spans are sent only if `DROVER_OTLP` says where to; the id goes along in any case.

use std::sync::OnceLock;
use std::time::Duration;

use drover_daemon::telemetry::{self, Guard, Telemetry};
use tonic::metadata::MetadataMap;
use tracing::Span;

use crate::chance;
use crate::error::{Exit, Failure};

/// The trace of this invocation, and the span that its calls belong under, if that is sent anywhere.
static TRACE: OnceLock<(String, Option<String>)> = OnceLock::new();

/// Where spans are sent to.
const ENDPOINT: &str = "DROVER_OTLP";

/// The span of the invocation; sends it when it is closed.
#[derive(Debug)]
pub struct Root(Option<(Span, Guard)>);

impl Root {
    /// Must run within a runtime. Goes on with the trace that `TRACEPARENT` names. A command that serves has a log too.
    pub fn begin(command: &str, serves: bool) -> Result<Self, Failure> {
        let setting = |name: &str| std::env::var(name).ok().filter(|value| !value.is_empty());
        let (given, otlp) = (setting("TRACEPARENT"), setting(ENDPOINT));
        if otlp.is_none() && !serves {
            let trace = given.as_deref().and_then(parts).map(|(trace, _)| trace.to_owned());
            // Set once: an invocation has one root.
            let _ = TRACE.set((trace.unwrap_or_else(chance::hex::<16>), None));
            return Ok(Self(None));
        }
        let filter = setting("DROVER_LOG").unwrap_or_else(|| "warn,droverctl=info".to_owned());
        let guard = telemetry::start("droverctl", &Telemetry { filter, otlp, ..Telemetry::default() })
            .map_err(|error| Failure::new(Exit::Usage, error))?;
        let span = tracing::info_span!("droverctl", command);
        telemetry::continue_from(&span, given.as_deref());
        let parent = telemetry::parent_of(&span);
        if let Some((trace, span)) = parent.as_deref().and_then(parts) {
            let _ = TRACE.set((trace.to_owned(), Some(span.to_owned())));
        }
        Ok(Self(Some((span, guard))))
    }

    /// Sends the span, but keeps nobody waiting for long.
    pub fn close(self) {
        if let Some((span, guard)) = self.0 {
            drop(span);
            guard.close(Duration::from_secs(2));
        }
    }
}

/// The trace id and the span id of a `traceparent`, if it is one.
fn parts(parent: &str) -> Option<(&str, &str)> {
    let parts: Vec<&str> = parent.split('-').collect();
    let hex = |text: &str, length: usize| {
        text.len() == length && text.bytes().all(|b| b.is_ascii_hexdigit()) && text.bytes().any(|b| b != b'0')
    };
    match parts[..] {
        ["00", trace, span, flags] if hex(trace, 32) && hex(span, 16) && flags.len() == 2 => {
            Some((trace, span))
        }
        _ => None,
    }
}

/// Marks a call as part of the trace.
pub fn mark(metadata: &mut MetadataMap) {
    let (trace, span) = TRACE.get_or_init(|| (chance::hex::<16>(), None));
    let span = span.clone().unwrap_or_else(chance::hex::<8>);
    if let Ok(parent) = format!("00-{trace}-{span}-01").parse() {
        metadata.insert(telemetry::HEADER, parent);
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn calls_of_one_invocation_share_the_trace() {
        let parent = || {
            let mut metadata = MetadataMap::new();
            mark(&mut metadata);
            metadata.get("traceparent").unwrap().to_str().unwrap().to_owned()
        };
        let (first, second) = (parent(), parent());
        assert_eq!(parts(&first).unwrap().0, parts(&second).unwrap().0);
    }

    #[test]
    fn only_a_whole_traceparent_is_taken_over() {
        let (trace, span) = ("0af7651916cd43dd8448eb211c80319c", "b7ad6b7169203331");
        assert_eq!(parts(&format!("00-{trace}-{span}-01")), Some((trace, span)));
        for wrong in ["", "00-0-0-0", "00-00000000000000000000000000000000-b7ad6b7169203331-01"] {
            assert_eq!(parts(wrong), None, "{wrong}");
        }
    }
}
