//! Compiles the schemas of the two text files, from `proto/` at the root: Rust types, and the
//! descriptors that the text format needs.

use std::path::PathBuf;
use std::{env, error, fs};

fn main() -> Result<(), Box<dyn error::Error>> {
    println!("cargo::rerun-if-changed=../../proto");
    let mut compiler = protox::Compiler::new(["../../proto"])?;
    compiler.include_source_info(false).open_files(["model_config.proto", "model_server_config.proto"])?;
    let out = PathBuf::from(env::var_os("OUT_DIR").ok_or("cargo sets OUT_DIR")?);
    fs::write(out.join("schemas.bin"), compiler.encode_file_descriptor_set())?;
    prost_build::Config::new().btree_map(["."]).compile_fds(compiler.file_descriptor_set())?;
    Ok(())
}
