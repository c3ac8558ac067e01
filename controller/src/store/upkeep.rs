//! Rows of plans and of safe mode.

use std::sync::Arc;

use drover_domain::id::{NodeId, PlanId};
use drover_domain::node::SafeMode;
use drover_domain::plan::Plan;
use drover_proto::convert::plan;
use drover_proto::store_v1;
use prost::Message;
use rusqlite::{Connection, Result, params};

use super::commit::{decode, odd};

pub(super) fn put_plan(connection: &Connection, made: &Plan) -> Result<()> {
    let upsert = "INSERT INTO plans (id, record) VALUES (?1, ?2) ON CONFLICT (id) DO UPDATE SET record = ?2";
    let row = params![made.id.to_string(), plan::record(made).encode_to_vec()];
    connection.prepare_cached(upsert)?.execute(row).map(drop)
}

pub(super) fn forget_plan(connection: &Connection, id: PlanId) -> Result<()> {
    connection.prepare_cached("DELETE FROM plans WHERE id = ?1")?.execute([id.to_string()]).map(drop)
}

pub(super) fn put_safe_mode(connection: &Connection, mode: &SafeMode) -> Result<()> {
    let upsert =
        "INSERT INTO safe_modes (node, record) VALUES (?1, ?2) ON CONFLICT (node) DO UPDATE SET record = ?2";
    let row = params![place(mode.node), plan::safe_mode_record(mode).encode_to_vec()];
    connection.prepare_cached(upsert)?.execute(row).map(drop)
}

pub(super) fn end_safe_mode(connection: &Connection, node: Option<NodeId>) -> Result<()> {
    connection.prepare_cached("DELETE FROM safe_modes WHERE node = ?1")?.execute([place(node)]).map(drop)
}

pub(super) fn plans(connection: &Connection) -> Result<Vec<Arc<Plan>>> {
    let mut rows = connection.prepare("SELECT record FROM plans")?;
    let rows = rows.query_map((), |row| {
        let wire = decode::<store_v1::PlanRecord>(0, row.get_ref(0)?.as_blob()?)?;
        plan::from_record(&wire).map(Arc::new).map_err(|error| odd(0, error))
    })?;
    rows.collect()
}

pub(super) fn safe_modes(connection: &Connection) -> Result<Vec<Arc<SafeMode>>> {
    let mut rows = connection.prepare("SELECT record FROM safe_modes")?;
    let rows = rows.query_map((), |row| {
        let wire = decode::<store_v1::SafeModeRecord>(0, row.get_ref(0)?.as_blob()?)?;
        plan::safe_mode_from(&wire).map(Arc::new).map_err(|error| odd(0, error))
    })?;
    rows.collect()
}

fn place(node: Option<NodeId>) -> String {
    node.map(|node| node.to_string()).unwrap_or_default()
}
