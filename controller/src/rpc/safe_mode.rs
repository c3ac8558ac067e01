//! Safe mode: whether new work is refused, where and why.

use drover_domain::command::Wish;
use drover_domain::fleet::Fleet;
use drover_domain::node::SafeMode;
use drover_proto::convert::time::stamp;
use drover_proto::v1;
use tonic::{Request, Response, Status};

use super::{Call, resolve};
use crate::error::Error;
use crate::plane::Plane;

pub fn get(plane: &Plane) -> v1::GetSafeModeResponse {
    v1::GetSafeModeResponse { modes: modes(&plane.registry.now().fleet) }
}

pub async fn set(
    plane: &Plane,
    request: Request<v1::SetSafeModeRequest>,
) -> Result<Response<v1::SetSafeModeResponse>, Status> {
    let asked = request.get_ref().clone();
    let call = Call::of(&request, "SetSafeMode", &asked.request_id, &asked)?;
    if asked.on && asked.reason.trim().is_empty() {
        return Err(Error::invalid("reason", "is missing: say why new work is refused").into());
    }
    let node = match asked.node.as_str() {
        "" => None,
        node => Some(resolve::node(&plane.registry.now().fleet, node)?.id),
    };
    let wish = Wish::SetSafeMode { node, on: asked.on, reason: asked.reason.into(), automatic: false };
    call.submit(plane, wish, |fleet, _, _| v1::SetSafeModeResponse { modes: modes(fleet) }).await
}

pub fn modes(fleet: &Fleet) -> Vec<v1::SafeMode> {
    fleet.safe_modes().map(|mode| shown(fleet, mode)).collect()
}

fn shown(fleet: &Fleet, mode: &SafeMode) -> v1::SafeMode {
    let node = mode.node.and_then(|node| fleet.node(node)).map(|node| node.name.to_string());
    let node = node.unwrap_or_default();
    let place = if node.is_empty() { String::new() } else { format!(" --node {node}") };
    let remedy = if mode.automatic {
        format!("droverctl cleanup{place}; or take new work all the same: droverctl safe-mode off{place}")
    } else {
        format!("droverctl safe-mode off{place}")
    };
    v1::SafeMode {
        node,
        repository: String::new(),
        reason: format!("{} (by {})", mode.reason, mode.by),
        remedy,
        since_time: Some(stamp(mode.since)),
    }
}
