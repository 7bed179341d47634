//! Hash the sources into the build, so that a stale shared object can be refused when it is loaded.
//!
//! The digest is SHA-256 over, for each of Cargo.toml and src/**/*.rs sorted by its path relative to native/ (with
//! forward slashes): path, a zero byte, the decimal length, a zero byte, the content. `tongshi._media.SOURCE_DIGEST`.

use sha2::{Digest, Sha256};
use std::path::{Path, PathBuf};
use std::{env, fs, io};

fn rust_files(dir: &Path, into: &mut Vec<PathBuf>) -> io::Result<()> {
    for entry in fs::read_dir(dir)? {
        let path = entry?.path();
        if path.is_dir() {
            rust_files(&path, into)?;
        } else if path.extension().is_some_and(|e| e == "rs") {
            into.push(path);
        }
    }
    Ok(())
}

fn digest(root: &Path) -> io::Result<String> {
    let mut paths = vec![root.join("Cargo.toml")];
    rust_files(&root.join("src"), &mut paths)?;
    let mut named: Vec<(String, PathBuf)> = paths
        .into_iter()
        .map(|p| (p.strip_prefix(root).expect("below root").to_string_lossy().replace('\\', "/"), p))
        .collect();
    named.sort();
    let mut hash = Sha256::new();
    for (name, path) in named {
        let content = fs::read(path)?;
        hash.update(format!("{name}\0{}\0", content.len()));
        hash.update(content);
    }
    Ok(hash.finalize().iter().map(|b| format!("{b:02x}")).collect())
}

fn main() -> io::Result<()> {
    let root = PathBuf::from(env::var("CARGO_MANIFEST_DIR").expect("set by cargo"));
    println!("cargo:rerun-if-changed=Cargo.toml");
    println!("cargo:rerun-if-changed=src");
    println!("cargo:rustc-env=SOURCE_DIGEST={}", digest(&root)?);
    Ok(())
}
