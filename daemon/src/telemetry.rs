//! Logs and traces. Logs go to stderr: for people on a terminal, as JSON lines elsewhere. Traces go out by OTLP if an
//! endpoint is configured; the W3C context is read and written in any case, so that one trace id runs through all.

use std::io::IsTerminal;
use std::time::Duration;

use opentelemetry::propagation::{Extractor, Injector, TextMapPropagator};
use opentelemetry::trace::TracerProvider;
use opentelemetry_otlp::{SpanExporter, WithExportConfig};
use opentelemetry_sdk::Resource;
use opentelemetry_sdk::propagation::TraceContextPropagator;
use opentelemetry_sdk::trace::SdkTracerProvider;
use thiserror::Error;
use tracing::Span;
use tracing_opentelemetry::OpenTelemetrySpanExt;
use tracing_subscriber::filter::{LevelFilter, Targets};
use tracing_subscriber::layer::SubscriberExt;
use tracing_subscriber::util::SubscriberInitExt;
use tracing_subscriber::{EnvFilter, Layer};

/// The header that carries a trace.
pub const HEADER: &str = "traceparent";

#[derive(Clone, Debug, Default)]
pub struct Telemetry {
    /// `info`, or `drover_agent=debug,info`.
    pub filter: String,
    pub format: Format,
    /// `http://host:4317`; none: what `OTEL_EXPORTER_OTLP_ENDPOINT` says, if it says something.
    pub otlp: Option<String>,
}

/// Where OpenTelemetry's own tools look for the endpoint.
const ENDPOINT: &str = "OTEL_EXPORTER_OTLP_ENDPOINT";

#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum Format {
    /// For people on a terminal, JSON elsewhere.
    #[default]
    Auto,
    Text,
    Json,
}

#[derive(Debug, Error)]
pub enum Error {
    #[error("'{filter}' is not a log filter such as info or drover_agent=debug,info: {why}")]
    Filter { filter: String, why: String },
    #[error("cannot send traces to {endpoint}: {why}")]
    Exporter { endpoint: String, why: String },
    #[error("telemetry was started before")]
    Twice,
}

impl std::str::FromStr for Format {
    type Err = String;
    fn from_str(text: &str) -> Result<Self, String> {
        match text {
            "auto" => Ok(Self::Auto),
            "text" => Ok(Self::Text),
            "json" => Ok(Self::Json),
            _ => Err("must be auto, text or json".into()),
        }
    }
}

/// Whether `text` is a log filter, for settings.
pub fn filter(text: &str) -> Result<String, String> {
    match EnvFilter::try_new(text) {
        Ok(_) => Ok(text.to_owned()),
        Err(error) => Err(format!("is not a log filter such as info or drover_agent=debug,info: {error}")),
    }
}

/// Whether `text` can be where traces go, for settings.
pub fn endpoint(text: &str) -> Result<String, String> {
    let host = text.strip_prefix("http://").map(|rest| rest.trim_end_matches('/'));
    match host {
        Some(host) if !host.is_empty() && !host.contains('/') => Ok(text.to_owned()),
        _ => Err("is not an endpoint such as http://127.0.0.1:4317".to_owned()),
    }
}

/// Sends what is left when it is closed.
#[derive(Debug)]
pub struct Guard(SdkTracerProvider);

impl Guard {
    /// Sends what is left, but waits no longer than `patience`.
    pub fn close(self, patience: Duration) {
        if let Err(error) = self.0.shutdown_with_timeout(patience) {
            tracing::debug!("the last traces were not sent: {error}");
        }
    }
}

/// Starts logs and traces of this process. Must run within a runtime if traces are sent.
pub fn start(service: &'static str, telemetry: &Telemetry) -> Result<Guard, Error> {
    let filter = EnvFilter::try_new(&telemetry.filter)
        .map_err(|error| Error::Filter { filter: telemetry.filter.clone(), why: error.to_string() })?;
    let mut provider =
        SdkTracerProvider::builder().with_resource(Resource::builder().with_service_name(service).build());
    let named = || std::env::var(ENDPOINT).ok().filter(|endpoint| !endpoint.is_empty());
    if let Some(endpoint) = &telemetry.otlp.clone().or_else(named) {
        let exporter = SpanExporter::builder().with_tonic().with_endpoint(endpoint).build();
        let exporter = exporter
            .map_err(|error| Error::Exporter { endpoint: endpoint.clone(), why: error.to_string() })?;
        provider = provider.with_batch_exporter(exporter);
    }
    let provider = provider.build();
    // The log's level is not the traces': a quiet program hands its callers' traces on all the same.
    let ours = Targets::new().with_target("drover", LevelFilter::INFO);
    let traces = tracing_opentelemetry::layer().with_tracer(provider.tracer("drover")).with_filter(ours);
    let text = match telemetry.format {
        Format::Auto => std::io::stderr().is_terminal(),
        Format::Text => true,
        Format::Json => false,
    };
    let logs = tracing_subscriber::fmt::layer().with_writer(std::io::stderr);
    let logs = if text {
        logs.with_ansi(std::io::stderr().is_terminal() && std::env::var_os("NO_COLOR").is_none())
            .with_target(false)
            .boxed()
    } else {
        logs.json().flatten_event(true).boxed()
    };
    tracing_subscriber::registry()
        .with(traces)
        .with(logs.with_filter(filter))
        .try_init()
        .map_err(|_| Error::Twice)?;
    Ok(Guard(provider))
}

/// Makes `span` a part of the trace that `parent` (a W3C trace parent) names.
pub fn continue_from(span: &Span, parent: Option<&str>) {
    if let Some(parent) = parent {
        let context = TraceContextPropagator::new().extract(&One(Some(parent.to_owned())));
        // Fails only where no trace layer is there, and then there is no trace to continue.
        let _ = span.set_parent(context);
    }
}

/// The W3C trace parent of `span`, to be handed on.
pub fn parent_of(span: &Span) -> Option<String> {
    let mut carrier = One(None);
    TraceContextPropagator::new().inject_context(&span.context(), &mut carrier);
    carrier.0
}

/// The one header that is of interest.
struct One(Option<String>);

impl Extractor for One {
    fn get(&self, key: &str) -> Option<&str> {
        self.0.as_deref().filter(|_| key == HEADER)
    }

    fn keys(&self) -> Vec<&str> {
        vec![HEADER]
    }
}

impl Injector for One {
    fn set(&mut self, key: &str, value: String) {
        if key == HEADER {
            self.0 = Some(value);
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[tokio::test(flavor = "multi_thread", worker_threads = 2)]
    async fn a_quiet_program_has_traces_all_the_same_and_sends_them_before_it_ends() {
        let collector = tokio::net::TcpListener::bind("127.0.0.1:0").await.unwrap();
        let otlp = Some(format!("http://{}", collector.local_addr().unwrap()));
        let telemetry = Telemetry { filter: "error".into(), format: Format::Json, otlp };
        let guard = start("test", &telemetry).unwrap();
        assert!(matches!(start("test", &telemetry), Err(Error::Twice)));
        let span = tracing::info_span!("s");
        assert!(parent_of(&span).is_some());
        drop(span);
        // The collector never answers, and closing ends all the same.
        let closing = tokio::task::spawn_blocking(|| guard.close(Duration::from_secs(1)));
        let (mut socket, _) = collector.accept().await.unwrap();
        let mut preface = [0; 14];
        tokio::io::AsyncReadExt::read_exact(&mut socket, &mut preface).await.unwrap();
        assert_eq!(&preface, b"PRI * HTTP/2.0");
        closing.await.unwrap();
    }

    #[test]
    fn settings_that_cannot_be_are_told_in_words() {
        assert_eq!(filter("drover_agent=debug,info"), Ok("drover_agent=debug,info".into()));
        assert!(filter("drover=loud").unwrap_err().contains("is not a log filter"));
        assert_eq!(endpoint("http://127.0.0.1:4317"), Ok("http://127.0.0.1:4317".into()));
        for bad in ["", "http://", "https://a:1", "a:1", "http://a:1/v1/traces"] {
            assert!(endpoint(bad).is_err(), "{bad}");
        }
    }

    #[test]
    fn a_trace_that_came_in_goes_on_under_the_same_id() {
        let provider = SdkTracerProvider::builder().build();
        let layer = tracing_opentelemetry::layer().with_tracer(provider.tracer("t"));
        let _guard = tracing::subscriber::set_default(tracing_subscriber::registry().with(layer));
        let span = tracing::info_span!("s");
        continue_from(&span, Some("00-4bf92f3577b34da6a3ce929d0e0e4736-00f067aa0ba902b7-01"));
        let parent = parent_of(&span).unwrap();
        assert!(parent.starts_with("00-4bf92f3577b34da6a3ce929d0e0e4736-"), "{parent}");
        assert!(!parent.contains("00f067aa0ba902b7"), "it has a span of its own: {parent}");
    }
}
