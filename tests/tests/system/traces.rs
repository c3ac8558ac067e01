//! One trace from the caller through the controller into the agent.

use drover_proto::v1::SessionState as State;
use drover_tests::client::script;
use drover_tests::collector::Collector;
use drover_tests::installation::Installation;
use drover_tests::patience::eventually;
use drover_tests::repository::Repository;

const TRACE: &str = "4bf92f3577b34da6a3ce929d0e0e4736";
const CALLER: &str = "00f067aa0ba902b7";

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_callers_trace_goes_through_the_controller_into_the_agent() {
    let collector = Collector::start().await;
    let address = format!("http://{}", collector.address);
    let there = Installation::with(&[("DROVER_OTLP", &address)], 1, 2).await;
    let repository = Repository::default();
    let client = there.client();
    let mut asked = tonic::Request::new(script("traced", &repository.path, "true"));
    let parent = format!("00-{TRACE}-{CALLER}-01");
    asked.metadata_mut().insert("traceparent", parent.parse().unwrap());
    client.sessions().create_session(asked).await.unwrap();
    client.until("traced", State::Ready).await;

    let (call, work) = eventually("spans of both have arrived", || async {
        let spans = collector.of(TRACE);
        let of =
            |service: &str| spans.iter().filter(|span| span.service == service).cloned().collect::<Vec<_>>();
        let (call, work) = (of("drover-controller"), of("drover-agent"));
        (!call.is_empty() && !work.is_empty()).then_some((call, work))
    })
    .await;
    assert!(call.iter().any(|span| span.parent == CALLER), "the call's span is the caller's child: {call:?}");
    let known: Vec<_> = call.iter().chain(&work).map(|span| span.id.as_str()).collect();
    assert!(
        work.iter().all(|span| known.contains(&span.parent.as_str())),
        "what the agent does hangs on the call: {work:?} on {call:?}"
    );
}
