//! The wire: what the .proto files say, as types, and the conversions between them and the domain.
//!
//! Wire types end here and in the handlers; a value that made it into the domain has been checked, and what was wrong
//! with one that did not is said with the path of its field.

pub mod convert;

/// Generated; the modules are nested as the packages are.
#[allow(
    missing_debug_implementations,
    unreachable_pub,
    rust_2018_idioms,
    clippy::all,
    clippy::too_many_lines
)]
mod drover {
    pub mod v1 {
        tonic::include_proto!("drover.v1");
    }
    pub mod node {
        pub mod v1 {
            tonic::include_proto!("drover.node.v1");
        }
    }
    pub mod store {
        pub mod v1 {
            tonic::include_proto!("drover.store.v1");
        }
    }
}

/// What the controller and its agents speak.
pub use drover::node::v1 as node_v1;
/// How the registry's rows look inside.
pub use drover::store::v1 as store_v1;
/// What clients speak.
pub use drover::v1;

/// All of the .proto files, for reflection and for the JSON mapping.
pub const FILE_DESCRIPTOR_SET: &[u8] = include_bytes!(concat!(env!("OUT_DIR"), "/drover.bin"));
