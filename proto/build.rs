//! Compiles the .proto files without protoc, and keeps their descriptors for reflection and for the JSON mapping.

use std::error::Error;
use std::path::PathBuf;

use prost::Message;

const FILES: [&str; 12] = [
    "drover/v1/log.proto",
    "drover/v1/removal.proto",
    "drover/v1/session.proto",
    "drover/v1/session_service.proto",
    "drover/v1/node_service.proto",
    "drover/v1/maintenance_service.proto",
    "drover/v1/event_service.proto",
    "drover/v1/access_service.proto",
    "drover/v1/enrollment_service.proto",
    "drover/node/v1/inventory.proto",
    "drover/node/v1/node_link.proto",
    "drover/store/v1/store.proto",
];

fn main() -> Result<(), Box<dyn Error>> {
    println!("cargo::rerun-if-changed=proto");
    let files = protox::compile(FILES, ["proto"])?;
    let out = PathBuf::from(std::env::var("OUT_DIR")?);
    std::fs::write(out.join("drover.bin"), files.encode_to_vec())?;
    tonic_prost_build::configure()
        .bytes("drover.v1.LogChunk.data")
        .bytes("drover.v1.GetDiffResponse.data")
        .bytes("drover.node.v1.TunnelRequest.diff")
        .btree_map(".")
        .compile_fds(files)?;
    Ok(())
}
