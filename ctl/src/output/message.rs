//! Messages of the API as JSON and YAML, in the canonical mapping of protobuf, with the defaults printed.

use std::io;
use std::sync::OnceLock;

use prost_reflect::{DescriptorPool, DynamicMessage, SerializeOptions};
use serde::{Serialize, Serializer};

use super::View;

/// A message that knows its fields' names.
struct Canonical(DynamicMessage);

impl Serialize for Canonical {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        let options = SerializeOptions::new().skip_default_fields(false);
        self.0.serialize_with_options(serializer, &options)
    }
}

/// As JSON: over many lines, or on one.
pub fn json<V: View>(view: &V, one_line: bool) -> io::Result<String> {
    let message = canonical(view)?;
    let text =
        if one_line { serde_json::to_string(&message) } else { serde_json::to_string_pretty(&message) };
    text.map_err(io::Error::other)
}

/// As YAML.
pub fn yaml<V: View>(view: &V) -> io::Result<String> {
    serde_saphyr::to_string(&canonical(view)?).map_err(io::Error::other)
}

/// What is this program's own, as YAML.
pub fn local_yaml(value: &serde_json::Value) -> io::Result<String> {
    serde_saphyr::to_string(value).map_err(io::Error::other)
}

fn canonical<V: View>(view: &V) -> io::Result<Canonical> {
    static POOL: OnceLock<DescriptorPool> = OnceLock::new();
    let pool = POOL.get_or_init(|| {
        DescriptorPool::decode(drover_proto::FILE_DESCRIPTOR_SET)
            .expect("the descriptors were checked when they were compiled")
    });
    let kind = pool.get_message_by_name(V::KIND);
    let kind = kind.ok_or_else(|| io::Error::other(format!("the API has no message {}", V::KIND)))?;
    DynamicMessage::decode(kind, view.encode_to_vec().as_slice()).map(Canonical).map_err(io::Error::other)
}

#[cfg(test)]
mod tests {
    use drover_proto::v1;

    use super::*;

    fn session() -> v1::Session {
        let run = v1::Run {
            id: "run_a".into(),
            ordinal: 1,
            outcome: v1::RunOutcome::Succeeded.into(),
            exit_code: Some(0),
            usage: Some(v1::Usage { peak_memory_bytes: Some(0), ..Default::default() }),
            ..Default::default()
        };
        v1::Session {
            name: "fix".into(),
            number: 7,
            state: v1::SessionState::Ready.into(),
            create_time: Some(prost_types::Timestamp { seconds: 1_795_514_400, nanos: 500_000_000 }),
            spec: Some(v1::SessionSpec {
                timeout: Some(prost_types::Duration { seconds: 90, nanos: 0 }),
                env: [("A".to_owned(), "1".to_owned())].into(),
                ..Default::default()
            }),
            last_run: Some(run),
            ..Default::default()
        }
    }

    #[test]
    fn json_is_the_canonical_mapping_with_defaults() {
        let value: serde_json::Value = serde_json::from_str(&json(&session(), false).unwrap()).unwrap();
        assert_eq!(value["state"], "SESSION_STATE_READY");
        assert_eq!(value["number"], "7", "64-bit numbers are text in protobuf's JSON");
        assert_eq!(value["createTime"], "2026-11-24T10:00:00.500Z");
        assert_eq!(value["lastRun"]["exitCode"], 0, "an optional field that is set is printed, 0 too");
        assert_eq!(value["lastRun"]["outcome"], "RUN_OUTCOME_SUCCEEDED");
        assert_eq!(value["lastRun"]["usage"]["peakMemoryBytes"], "0");
        assert_eq!(value["spec"]["timeout"], "90s");
        assert_eq!(value["spec"]["env"]["A"], "1");
        assert_eq!(value["waitReason"], "", "defaults are printed");
        assert_eq!(value["conditions"], serde_json::json!([]));
        assert!(value.get("placement").is_none(), "an optional field that is not set is left out");
    }

    #[test]
    fn a_list_is_one_object_with_the_lists_field() {
        let list = v1::ListSessionsResponse { sessions: vec![session()], ..Default::default() };
        let value: serde_json::Value = serde_json::from_str(&json(&list, true).unwrap()).unwrap();
        assert_eq!(value["sessions"][0]["name"], "fix");
        assert_eq!(value["nextPageToken"], "");
    }

    #[test]
    fn yaml_has_the_same_names() {
        let text = yaml(&session()).unwrap();
        assert!(text.contains("name: fix"), "{text}");
        assert!(text.contains("state: SESSION_STATE_READY"), "{text}");
    }
}
