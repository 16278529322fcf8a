//! The corpora of the fuzz targets, each file also damaged in some places: ordinary tests of the same assertions.

#[path = "../fuzz/targets.rs"]
mod targets;

use std::path::Path;

/// Runs a target on the files of its corpus and on variants of each: cut, with a byte changed, with a part twice.
fn run(name: &str, target: fn(&[u8])) {
    let folder = Path::new(env!("CARGO_MANIFEST_DIR")).join("fuzz/corpus").join(name);
    let mut files = 0;
    for entry in std::fs::read_dir(&folder).expect("each target has a corpus") {
        let path = entry.expect("the corpus is readable").path();
        let seed = std::fs::read(&path).expect("the corpus is readable");
        files += 1;
        target(&seed);
        // The same variants each time, spread over the file.
        for variant in 0..24usize {
            let at = seed.len() * variant / 24;
            target(&seed[..at]);
            let mut changed = seed.clone();
            if let Some(byte) = changed.get_mut(at) {
                *byte ^= 1 << (variant % 8);
            }
            target(&changed);
            let doubled = [&seed[..at], &seed[at / 2..]].concat();
            target(&doubled);
        }
    }
    assert!(files >= 3, "{name} has {files} files");
}

#[test]
fn compose_files() {
    run("compose", targets::compose);
}

#[test]
fn dockerfiles() {
    run("dockerfile", targets::dockerfile);
}

#[test]
fn ignore_files() {
    run("ignore_file", targets::ignore_file);
}

#[test]
fn references() {
    run("reference", targets::reference);
}

#[test]
fn manifests() {
    run("manifest", targets::manifest);
}

#[test]
fn layers() {
    run("layer", targets::layer);
}

#[test]
fn credential_files() {
    run("credentials", targets::credentials);
}
