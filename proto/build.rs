use prost::Message;
use std::path::Path;

const SUITE: &str = "evenkeel/suite/v1/suite.proto";

fn main() -> Result<(), Box<dyn std::error::Error>> {
    let root = Path::new("proto");
    let files = [
        SUITE,
        "evenkeel/v1/agent.proto",
        "evenkeel/v1/runs.proto",
        "evenkeel/ledger/v1/ledger.proto",
    ];
    for file in files {
        println!("cargo:rerun-if-changed={}", root.join(file).display());
    }
    let all = protox::compile(files, [root])?;
    // What servers tell of themselves when they are asked.
    let out = std::env::var_os("OUT_DIR").ok_or("OUT_DIR is not set")?;
    std::fs::write(
        Path::new(&out).join("evenkeel.descriptors"),
        all.encode_to_vec(),
    )?;
    tonic_prost_build::configure()
        .btree_map(".")
        .compile_fds(protox::compile([SUITE], [root])?)?;
    // What both packages use is one type.
    tonic_prost_build::configure()
        .btree_map(".")
        .extern_path(".evenkeel.suite.v1", "crate::suite")
        .compile_fds(all)?;
    Ok(())
}
