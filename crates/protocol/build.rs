//! Compiles the protocol's files in `proto/` at the root into Rust, without `protoc`.
//!
//! Also writes the descriptor set that gRPC reflection answers from.

use std::error::Error;
use std::path::PathBuf;

fn main() -> Result<(), Box<dyn Error>> {
    println!("cargo::rerun-if-changed=../../proto");
    let mut compiler = protox::Compiler::new(["../../proto"])?;
    let compiler = compiler.include_imports(true).open_files(["inference.proto"])?;

    let out_dir = PathBuf::from(std::env::var("OUT_DIR")?);
    std::fs::write(out_dir.join("inference.bin"), compiler.encode_file_descriptor_set())?;

    tonic_prost_build::configure()
        .bytes(".")
        .btree_map(".")
        .build_transport(false)
        .emit_rerun_if_changed(false)
        .compile_fds(compiler.include_source_info(true).file_descriptor_set())?;
    Ok(())
}
