//! Who may call what: one matrix over every call there is. A caller is a node by its certificate, or a person by a token;
//! nothing that a message says of its sender counts.

use std::sync::Arc;

use drover_domain::actor::Actor;
use drover_domain::id::NodeId;
use drover_proto::v1;
use tonic::{Code, Request};

use crate::error::Error;
use crate::random;

/// Who calls.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Principal {
    User {
        name: Arc<str>,
        role: Role,
    },
    Node(NodeId),
    /// Somebody without certificate or token.
    Nobody,
}

/// What somebody may do; a person's includes those before it.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub enum Role {
    Viewer,
    Operator,
    Admin,
    /// Speak for one node, and nothing else.
    Node,
}

/// What a call asks of its caller.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Needs {
    Nothing,
    Role(Role),
}

/// The calls and what they need. A call that is not here is refused.
const MATRIX: &[(Needs, &[&str])] = &[
    (
        Needs::Nothing,
        &[
            "/drover.v1.EnrollmentService/Enroll",
            "/grpc.health.v1.Health/Check",
            "/grpc.health.v1.Health/Watch",
            "/grpc.health.v1.Health/List",
            "/grpc.reflection.v1.ServerReflection/ServerReflectionInfo",
            "/grpc.reflection.v1alpha.ServerReflection/ServerReflectionInfo",
        ],
    ),
    (
        Needs::Role(Role::Node),
        &[
            "/drover.v1.EnrollmentService/RenewCertificate",
            "/drover.node.v1.NodeLinkService/Link",
            "/drover.node.v1.NodeLinkService/Tunnel",
        ],
    ),
    (
        Needs::Role(Role::Viewer),
        &[
            "/drover.v1.SessionService/GetSession",
            "/drover.v1.SessionService/ListSessions",
            "/drover.v1.SessionService/WatchSessions",
            "/drover.v1.SessionService/ExplainSession",
            "/drover.v1.SessionService/ListRuns",
            "/drover.v1.SessionService/StreamLogs",
            "/drover.v1.SessionService/GetDiff",
            "/drover.v1.NodeService/ListNodes",
            "/drover.v1.NodeService/GetNode",
            "/drover.v1.NodeService/WatchNodes",
            "/drover.v1.NodeService/PreflightNode",
            "/drover.v1.MaintenanceService/GetHealth",
            "/drover.v1.MaintenanceService/WatchHealth",
            "/drover.v1.MaintenanceService/GetPlan",
            "/drover.v1.MaintenanceService/ListTrash",
            "/drover.v1.MaintenanceService/GetTrash",
            "/drover.v1.MaintenanceService/GetSafeMode",
            "/drover.v1.MaintenanceService/GetDebug",
            "/drover.v1.EventService/ListEvents",
            "/drover.v1.EventService/WatchEvents",
            "/drover.v1.AccessService/WhoAmI",
            "/drover.v1.AccessService/ListProjects",
        ],
    ),
    (
        Needs::Role(Role::Operator),
        &[
            "/drover.v1.SessionService/CreateSession",
            "/drover.v1.SessionService/BatchCreateSessions",
            "/drover.v1.SessionService/StartSession",
            "/drover.v1.SessionService/StopSession",
            "/drover.v1.SessionService/HoldSession",
            "/drover.v1.SessionService/ReleaseSession",
            "/drover.v1.SessionService/ResetSession",
            "/drover.v1.SessionService/DeleteSession",
            "/drover.v1.SessionService/ExtendSession",
            "/drover.v1.SessionService/Checkpoint",
            "/drover.v1.MaintenanceService/PlanRepair",
            "/drover.v1.MaintenanceService/PlanCleanup",
            "/drover.v1.MaintenanceService/ApplyPlan",
            "/drover.v1.MaintenanceService/RestoreTrash",
        ],
    ),
    (
        Needs::Role(Role::Admin),
        &[
            "/drover.v1.NodeService/CordonNode",
            "/drover.v1.NodeService/UncordonNode",
            "/drover.v1.NodeService/DrainNode",
            "/drover.v1.NodeService/RemoveNode",
            "/drover.v1.NodeService/RevokeNode",
            "/drover.v1.NodeService/CreateJoinToken",
            "/drover.v1.NodeService/ListJoinTokens",
            "/drover.v1.NodeService/RevokeJoinToken",
            "/drover.v1.MaintenanceService/PurgeTrash",
            "/drover.v1.MaintenanceService/SetSafeMode",
            "/drover.v1.MaintenanceService/SetDebug",
            "/drover.v1.AccessService/CreateToken",
            "/drover.v1.AccessService/ListTokens",
            "/drover.v1.AccessService/RevokeToken",
            "/drover.v1.AccessService/UpdateProject",
        ],
    ),
];

impl Role {
    pub fn wire(self) -> v1::Role {
        match self {
            Self::Viewer => v1::Role::Viewer,
            Self::Operator => v1::Role::Operator,
            Self::Admin => v1::Role::Admin,
            Self::Node => v1::Role::Node,
        }
    }

    fn word(self) -> &'static str {
        match self {
            Self::Viewer => "viewer",
            Self::Operator => "operator",
            Self::Admin => "admin",
            Self::Node => "node",
        }
    }

    fn includes(self, other: Self) -> bool {
        match (self, other) {
            (Self::Node, Self::Node) => true,
            (Self::Node, _) | (_, Self::Node) => false,
            (has, needed) => has >= needed,
        }
    }
}

impl Principal {
    pub fn actor(&self) -> Actor {
        match self {
            Self::User { name, .. } => Actor::User((&**name).into()),
            Self::Node(id) => Actor::Node(*id),
            Self::Nobody => Actor::User("nobody".into()),
        }
    }

    pub fn name(&self) -> String {
        match self {
            Self::User { name, .. } => name.to_string(),
            Self::Node(id) => id.to_string(),
            Self::Nobody => "nobody".to_owned(),
        }
    }

    pub fn role(&self) -> Role {
        match self {
            Self::User { role, .. } => *role,
            Self::Node(_) => Role::Node,
            // It is never asked: calls that need nothing do not look.
            Self::Nobody => Role::Viewer,
        }
    }
}

/// What a call needs. `None`: there is no such call.
pub fn needs(path: &str) -> Option<Needs> {
    MATRIX.iter().find(|(_, paths)| paths.contains(&path)).map(|(needs, _)| *needs)
}

/// The path as it stands in the matrix, if it does.
pub fn known(path: &str) -> Option<&'static str> {
    MATRIX.iter().flat_map(|(_, paths)| *paths).copied().find(|known| *known == path)
}

/// Whether `principal` may call `path`.
pub fn allow(principal: &Principal, path: &str) -> Result<(), Error> {
    let needed = match needs(path) {
        Some(Needs::Nothing) => return Ok(()),
        Some(Needs::Role(role)) => role,
        None => {
            return Err(Error::new(
                Code::Unimplemented,
                "NO_SUCH_CALL",
                format!("there is no call {path}"),
                "",
            ));
        }
    };
    if *principal == Principal::Nobody {
        let hint = "give a token (droverctl context add), or for an agent its certificate";
        return Err(Error::new(
            Code::Unauthenticated,
            "WHO_ARE_YOU",
            "the call came without a token or certificate",
            hint,
        ));
    }
    if principal.role().includes(needed) {
        return Ok(());
    }
    let text =
        format!("{} is {} and this call needs {}", principal.name(), principal.role().word(), needed.word());
    Err(Error::new(Code::PermissionDenied, "NOT_ALLOWED", text, "ask somebody who may, or use another token"))
}

/// The tokens of people: today the operator's, made at the first start. Only hashes stay in memory.
#[derive(Clone, Debug, Default)]
pub struct Tokens(Arc<Vec<Known>>);

/// The hash of a token, whose it is, and what he may do.
type Known = ([u8; 32], Arc<str>, Role);

impl Tokens {
    pub fn new(tokens: impl IntoIterator<Item = (String, &'static str, Role)>) -> Self {
        // An emptied file must not let everybody in.
        let hashed = tokens
            .into_iter()
            .filter(|(secret, ..)| !secret.is_empty())
            .map(|(secret, name, role)| (random::hash(secret.as_bytes()), name.into(), role));
        Self(Arc::new(hashed.collect()))
    }

    /// Whose token this is. Hashes are compared, so that the time it takes tells nothing of the secret.
    pub fn find(&self, bearer: &str) -> Option<Principal> {
        let hash = random::hash(bearer.as_bytes());
        let found = self.0.iter().find(|(known, ..)| *known == hash)?;
        Some(Principal::User { name: found.1.clone(), role: found.2 })
    }
}

/// Who makes this call, as the layer found out.
pub fn principal_of<T>(request: &Request<T>) -> Result<Principal, Error> {
    let found = request.extensions().get::<Principal>().cloned();
    found.ok_or_else(|| Error::new(Code::Unauthenticated, "WHO_ARE_YOU", "the caller is not known", ""))
}

/// The node that makes this call.
pub fn node_of<T>(request: &Request<T>) -> Result<NodeId, Error> {
    match principal_of(request)? {
        Principal::Node(id) => Ok(id),
        Principal::User { .. } | Principal::Nobody => Err(Error::new(
            Code::PermissionDenied,
            "NOT_ALLOWED",
            "only an agent may call this, with its certificate",
            "",
        )),
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use prost::Message;

    fn user(role: Role) -> Principal {
        Principal::User { name: "u".into(), role }
    }

    #[test]
    fn every_call_there_is_stands_in_the_matrix_once() {
        let set = prost_types::FileDescriptorSet::decode(drover_proto::FILE_DESCRIPTOR_SET).unwrap();
        let mut count = 0;
        for file in set.file {
            let package = file.package().to_owned();
            for service in file.service {
                for method in &service.method {
                    let path = format!("/{package}.{}/{}", service.name(), method.name());
                    let rows = MATRIX.iter().filter(|(_, paths)| paths.contains(&path.as_str())).count();
                    assert_eq!(rows, 1, "{path}");
                    count += 1;
                }
            }
        }
        let listed: usize = MATRIX
            .iter()
            .map(|(_, paths)| paths.iter().filter(|path| path.contains("drover.")).count())
            .sum();
        assert_eq!(listed, count, "no row is about a call that is not there");
    }

    #[test]
    fn roles_include_those_below_and_nodes_speak_only_for_themselves() {
        let (get, create, token) = (
            "/drover.v1.SessionService/GetSession",
            "/drover.v1.SessionService/CreateSession",
            "/drover.v1.NodeService/CreateJoinToken",
        );
        let link = "/drover.node.v1.NodeLinkService/Link";
        let node = Principal::Node(NodeId::from_random([1; 10]));
        let table = [
            (user(Role::Viewer), get, true),
            (user(Role::Viewer), create, false),
            (user(Role::Operator), create, true),
            (user(Role::Operator), token, false),
            (user(Role::Admin), token, true),
            (user(Role::Admin), link, false),
            (node.clone(), link, true),
            (node.clone(), get, false),
            (Principal::Nobody, get, false),
            (Principal::Nobody, "/drover.v1.EnrollmentService/Enroll", true),
            (user(Role::Admin), "/drover.v1.SessionService/Nonsense", false),
        ];
        for (principal, path, expected) in table {
            assert_eq!(allow(&principal, path).is_ok(), expected, "{principal:?} {path}");
        }
    }

    #[test]
    fn a_path_is_known_as_it_stands_and_in_no_other_way() {
        let get = "/drover.v1.SessionService/GetSession";
        assert_eq!(known(get), Some(get));
        for other in ["", "/", "drover.v1.SessionService/GetSession", "/drover.v1.SessionService/getsession"]
        {
            assert_eq!(known(other), None, "{other}");
        }
    }

    #[test]
    fn a_token_is_known_by_its_whole_text_only() {
        let tokens = Tokens::new([("abc".to_owned(), "operator", Role::Admin)]);
        assert!(tokens.find("abc").is_some());
        assert!(tokens.find("ab").is_none() && tokens.find("").is_none());
    }

    #[test]
    fn an_empty_token_is_nobodys() {
        assert!(Tokens::new([(String::new(), "operator", Role::Admin)]).find("").is_none());
    }
}
