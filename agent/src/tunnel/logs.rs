//! A run's log into a tunnel, as fast as it is taken out at the other end.

use drover_domain::id::SessionId;
use drover_domain::session::Order;
use drover_proto::node_v1::ReadLogs;
use drover_proto::node_v1::tunnel_request::Message as Up;

use super::answer::{Out, Trouble, say};
use crate::converge::Converge;
use crate::wire;

pub(super) async fn send(
    converge: &Converge,
    session: SessionId,
    ask: &ReadLogs,
    out: &Out,
) -> Result<(), Trouble> {
    let runs = &converge.means().home.runs;
    let kept = runs.kept(session).await?;
    if kept.is_empty() && converge.entry(session).is_none() {
        return Err(Trouble::NotHere(session));
    }
    let order = chosen(&kept, ask).ok_or(Trouble::NoRun)?;
    let mut log = runs.log(session, order, wire::excerpt(ask)).await?;
    while let Some(chunk) = log.next().await.map_err(|error| Trouble::Log(error.to_string()))? {
        say(out, Up::LogChunk(wire::chunk(order.run, chunk))).await?;
    }
    Ok(())
}

/// By its number, by its id, or the newest.
fn chosen(kept: &[Order], ask: &ReadLogs) -> Option<Order> {
    let found = match (ask.ordinal, ask.run_id.as_str()) {
        (0, "") => kept.last(),
        (0, id) => kept.iter().find(|order| order.run.to_string() == id),
        (ordinal, _) => kept.iter().find(|order| order.ordinal == ordinal),
    };
    found.copied()
}

#[cfg(test)]
mod tests {
    use super::*;
    use drover_domain::id::RunId;

    #[test]
    fn a_run_is_chosen_by_number_or_id_and_else_the_newest() {
        let kept =
            [1, 2].map(|ordinal| Order { run: RunId::from_random([ordinal; 10]), ordinal: ordinal.into() });
        let ask = |ordinal, run_id: String| ReadLogs { ordinal, run_id, ..ReadLogs::default() };
        let table = [
            (ask(0, String::new()), Some(2)),
            (ask(1, String::new()), Some(1)),
            (ask(0, kept[0].run.to_string()), Some(1)),
            (ask(3, String::new()), None),
            (ask(0, "run_other".into()), None),
        ];
        for (ask, expected) in table {
            assert_eq!(chosen(&kept, &ask).map(|order| order.ordinal), expected, "{ask:?}");
        }
        assert_eq!(chosen(&[], &ask(0, String::new())), None);
    }
}
