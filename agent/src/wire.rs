//! Between the wire and what the agent works with: assignments as they are stored, reports as they wait, facts and load.

use std::sync::Arc;
use std::time::Duration;

use bytes::Bytes;
use drover_domain::command::{Observation, Report};
use drover_domain::converge::Assignment;
use drover_domain::fence::Fence;
use drover_domain::id::{NodeId, RunId, SessionId};
use drover_domain::lease::Terms;
use drover_domain::node::NodeFacts;
use drover_domain::time::Timestamp;
use drover_proto::convert::{self, Invalid};
use drover_proto::{node_v1, v1};
use prost::Message;
use thiserror::Error;

use crate::converge::Arrived;
use crate::ledger::Pending;
use crate::logs::{Chunk, From, Position, Stream};
use crate::pressure::Reading;
use crate::saga::Excerpt;

/// A stored message that this version cannot read.
#[derive(Debug, Error)]
pub(crate) enum Unreadable {
    #[error(transparent)]
    Bytes(#[from] prost::DecodeError),
    #[error(transparent)]
    Fields(#[from] Invalid),
}

/// An assignment from the bytes that the ledger keeps.
pub(crate) fn assignment(bytes: &Bytes) -> Result<Assignment, Unreadable> {
    Ok(convert::assignment::from_wire(node_v1::Assignment::decode(bytes.clone())?)?)
}

/// An assignment as it came, checked.
pub(crate) fn arrived(wire: node_v1::Assignment) -> Result<Arrived, Invalid> {
    let bytes = Bytes::from(wire.encode_to_vec());
    Ok(Arrived { assignment: Arc::new(convert::assignment::from_wire(wire)?), bytes })
}

/// A report as it waits; its sequence is given when it is committed.
pub(crate) fn report(session: SessionId, fence: Fence, observation: &Observation, ordinal: u32) -> Bytes {
    // The node's own id is not on the wire: who says it is known from the certificate.
    let node = NodeId::from_random(Default::default());
    let report = Report { node, sequence: 0, session, fence, observation: observation.clone() };
    convert::report::to_wire(&report, ordinal).encode_to_vec().into()
}

/// A waiting report with its sequence. None, and a word in the log, if its bytes cannot be read.
pub(crate) fn sequenced(sequence: u64, pending: &Pending) -> Option<node_v1::Report> {
    match node_v1::Report::decode(pending.body.clone()) {
        Ok(report) => Some(node_v1::Report { sequence, ..report }),
        Err(error) => {
            tracing::error!(sequence, "a stored report cannot be read and is left out: {error}");
            None
        }
    }
}

/// A piece of a run's log.
pub(crate) fn chunk(run: RunId, chunk: Chunk) -> v1::LogChunk {
    let stream = match chunk.stream {
        Stream::Output => v1::LogStream::Stdout,
        Stream::Error => v1::LogStream::Stderr,
        Stream::Drover => v1::LogStream::Drover,
    };
    let next = v1::LogPosition {
        run_id: run.to_string(),
        stream: v1::LogStream::Unspecified.into(),
        segment: chunk.next.segment,
        offset: chunk.next.offset,
    };
    v1::LogChunk {
        next: Some(next),
        stream: stream.into(),
        time: Some(convert::time::stamp(Timestamp::from_millis(chunk.time))),
        data: chunk.data,
        dropped_bytes: chunk.dropped,
    }
}

/// The part of a log that is asked for.
pub(crate) fn excerpt(ask: &node_v1::ReadLogs) -> Excerpt {
    let after = ask.after.as_ref().map(|at| From::After(Position { segment: at.segment, offset: at.offset }));
    let since = ask.since_time.as_ref().map(|time| From::Since(convert::time::from_stamp(time).millis()));
    let tail = ask.tail.map(From::Tail);
    Excerpt { from: [after, since, tail].into_iter().flatten().collect(), follow: ask.follow }
}

pub(crate) fn facts(facts: &NodeFacts) -> v1::NodeFacts {
    convert::node::facts(facts)
}

/// The terms that the controller set; what it left out is as usual.
pub(crate) fn terms(welcome: &node_v1::Welcome) -> Terms {
    let or = |given: &Option<prost_types::Duration>, usual: Duration| {
        let given = given.as_ref().and_then(|given| Duration::try_from(*given).ok());
        given.filter(|given| !given.is_zero()).unwrap_or(usual)
    };
    Terms {
        heartbeat: or(&welcome.heartbeat, Terms::DEFAULT.heartbeat),
        lease: or(&welcome.lease, Terms::DEFAULT.lease),
        lost_after: or(&welcome.lost_after, Terms::DEFAULT.lost_after),
    }
}

pub(crate) fn load(reading: &Reading, runs: usize) -> v1::NodeLoad {
    let (memory, disk) = (reading.memory.unwrap_or_default(), reading.disk.unwrap_or_default());
    v1::NodeLoad {
        load_per_cpu: reading.load.unwrap_or_default() / f64::from(reading.cpus.max(1)),
        memory_available_bytes: memory.free,
        memory_total_bytes: memory.total,
        disk_available_bytes: disk.free,
        disk_total_bytes: disk.total,
        inodes_available: reading.inodes.unwrap_or_default().free,
        memory_pressure: reading.memory_stall.unwrap_or_default(),
        cpu_pressure: reading.cpu_stall.unwrap_or_default(),
        io_pressure: reading.io_stall.unwrap_or_default(),
        runs: u32::try_from(runs).unwrap_or(u32::MAX),
    }
}
