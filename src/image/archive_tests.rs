//! Archives as Docker and others write them, made here by hand.

use std::io::{Read, Write};

use super::unpack_tests::Archive;
use super::*;
use crate::base::id::Digest;
use crate::model::event::Silent;
use crate::model::image::ImageConfig;
use crate::store::Store;
use crate::store::testing::Folder;

fn gzip(bytes: &[u8]) -> Vec<u8> {
    let mut encoder = flate2::write::GzEncoder::new(Vec::new(), flate2::Compression::fast());
    encoder.write_all(bytes).unwrap();
    encoder.finish().unwrap()
}

fn layer() -> Vec<u8> {
    Archive::default().folder("bin").file("bin/sh", "#!").bytes()
}

fn config(diff_ids: &[Digest]) -> Vec<u8> {
    let mut config = ImageConfig { architecture: "amd64".into(), os: "linux".into(), ..ImageConfig::default() };
    config.rootfs.diff_ids = diff_ids.to_vec();
    serde_json::to_vec(&config).unwrap()
}

fn file(archive: Archive, name: &str, content: &[u8]) -> Archive {
    archive.entry(tar::EntryType::Regular, name, "", content)
}

fn entries(store: &Store, folder: &str) -> usize {
    std::fs::read_dir(store.paths().root.join(folder)).unwrap().count()
}

#[test]
fn a_tar_becomes_an_image() {
    let folder = Folder::new();
    let store = folder.store();
    let options = ImportOptions {
        reference: Some("base:1".parse().unwrap()),
        changes: vec!["CMD [\"sh\"]".into(), "ENV A=b".into()],
        message: Some("by hand".into()),
        platform: None,
    };
    for compressed in [layer(), gzip(&layer()), zstd::encode_all(&layer()[..], 1).unwrap()] {
        let image = import(&store, &mut &compressed[..], &options).unwrap();
        // The layer is named by what an archive of it will be.
        let mut again = store.blobs().begin().unwrap();
        crate::store::write_archive(&store.layers().path(&image.diff_ids()[0]), &mut again).unwrap();
        assert_eq!(image.diff_ids(), [again.digest()]);
        drop(again);
        assert_eq!(image.config.config.cmd.as_deref(), Some(&["sh".to_owned()][..]));
        assert_eq!(image.size_bytes(), 2);
        assert_eq!(store.images().find("base:1").unwrap(), image);
        let content = std::fs::read_to_string(store.layers().path(&image.diff_ids()[0]).join("bin/sh")).unwrap();
        assert_eq!(content, "#!");
    }
    assert_eq!((entries(&store, "layers"), entries(&store, "tmp")), (1, 0));
    let wrong = ImportOptions { changes: vec!["RUN x".into()], ..ImportOptions::default() };
    assert!(matches!(import(&store, &mut &layer()[..], &wrong), Err(Error::InvalidChange { .. })));
}

/// What `docker save` of Docker before 25 writes, with a link from one layer to another.
#[test]
fn an_archive_of_docker_save_is_loaded() {
    let folder = Folder::new();
    let store = folder.store();
    let layer = layer();
    let config = config(&[Digest::of(&layer), Digest::of(&layer)]);
    let manifest =
        r#"[{"Config":"c.json","RepoTags":["shop/web:2","web:latest"],"Layers":["a/layer.tar","b/layer.tar"]}]"#;
    let mut archive = file(Archive::default(), "a/layer.tar", &layer);
    archive = archive.entry(tar::EntryType::Symlink, "b/layer.tar", "../a/layer.tar", b"");
    archive = file(archive, "c.json", &config);
    let archive = gzip(&file(archive, "manifest.json", manifest.as_bytes()).bytes());
    let loaded = load(&store, &mut &archive[..], None, &Silent).unwrap();
    assert_eq!(loaded.len(), 1);
    assert_eq!(loaded[0].images[0].id, Digest::of(&config));
    assert_eq!(loaded[0].references.iter().map(ToString::to_string).collect::<Vec<_>>(), ["shop/web:2", "web:latest"]);
    assert_eq!(store.images().find("web").unwrap(), loaded[0].images[0]);
    // The config, and the layer as it came.
    assert_eq!((entries(&store, "blobs/sha256"), entries(&store, "tmp")), (2, 0));
}

#[test]
fn an_image_layout_is_loaded_for_this_platform() {
    let folder = Folder::new();
    let store = folder.store();
    let (plain, compressed) = (layer(), gzip(&layer()));
    let config = config(&[Digest::of(&plain)]);
    let name = |content: &[u8]| format!("blobs/sha256/{}", Digest::of(content).hex());
    let descriptor = |content: &[u8], media_type: &str| serde_json::json!({"mediaType": media_type, "digest": Digest::of(content), "size": content.len()});
    let manifest = serde_json::json!({
        "schemaVersion": 2,
        "mediaType": "application/vnd.oci.image.manifest.v1+json",
        "config": descriptor(&config, "application/vnd.oci.image.config.v1+json"),
        "layers": [descriptor(&compressed, "application/vnd.oci.image.layer.v1.tar+gzip")],
    })
    .to_string();
    let mut entry = descriptor(manifest.as_bytes(), "application/vnd.oci.image.manifest.v1+json");
    let host = Platform::host();
    entry["platform"] = serde_json::json!({"os": host.os, "architecture": host.architecture});
    let mut other = entry.clone();
    other["platform"]["architecture"] = "s390x".into();
    other["digest"] = serde_json::json!(Digest::of(b"elsewhere"));
    let nested = serde_json::json!({"schemaVersion": 2, "manifests": [other, entry]}).to_string();
    let mut top = descriptor(nested.as_bytes(), "application/vnd.oci.image.index.v1+json");
    top["annotations"] = serde_json::json!({"io.containerd.image.name": "docker.io/library/web:3"});
    let index = serde_json::json!({"schemaVersion": 2, "manifests": [top]}).to_string();
    let mut archive = file(Archive::default(), "oci-layout", br#"{"imageLayoutVersion":"1.0.0"}"#);
    archive = file(archive, "index.json", index.as_bytes());
    for content in [nested.as_bytes(), manifest.as_bytes(), &config, &compressed] {
        archive = file(archive, "blobs/x", content);
        archive = file(archive, &name(content), content);
    }
    let loaded = load(&store, &mut &archive.bytes()[..], None, &Silent).unwrap();
    assert_eq!(loaded[0].references[0].to_string(), "web:3");
    let blob = loaded[0].images[0].layers[0].blob.as_ref().unwrap();
    assert_eq!(
        (&blob.digest, blob.media_type.as_str()),
        (&Digest::of(&compressed), "application/vnd.oci.image.layer.v1.tar+gzip")
    );
    let mut kept = Vec::new();
    store.blobs().open(&blob.digest).unwrap().read_to_end(&mut kept).unwrap();
    assert_eq!(kept, compressed);
}

#[test]
fn wrong_archives_are_refused_with_a_reason_and_leave_nothing() {
    let folder = Folder::new();
    let store = folder.store();
    let config = config(&[Digest::of(b"other")]);
    let manifest = br#"[{"Config":"c.json","Layers":["l.tar"]}]"#;
    let base = || file(Archive::default(), "manifest.json", manifest);
    for (archive, reason) in [
        (layer(), "manifest.json"),
        (base().bytes(), "no file `c.json`"),
        (file(file(base(), "c.json", &config), "l.tar", &layer()).bytes(), "digest"),
        (file(Archive::default(), "manifest.json", b"{").bytes(), "cannot understand"),
        (b"hello".to_vec(), "damaged"),
        (b"BZh91AY&SY".to_vec(), "cannot read"),
    ] {
        let error = load(&store, &mut &archive[..], None, &Silent).unwrap_err();
        assert!(error.to_string().contains(reason), "{error}");
    }
    for name in ["tmp", "trash", "layers", "images", "refs"] {
        assert_eq!(entries(&store, name), 0, "{name}");
    }
}

#[test]
fn an_image_goes_with_its_last_name() {
    let folder = Folder::new();
    let store = folder.store();
    let options = ImportOptions { reference: Some("web:1".parse().unwrap()), ..ImportOptions::default() };
    let image = import(&store, &mut &layer()[..], &options).unwrap();
    store.images().tag(&"web:2".parse().unwrap(), &image.id).unwrap();
    assert!(matches!(remove(&store, image.id.short(), None, false), Err(Error::SeveralNames { .. })));
    assert_eq!(remove(&store, "web:2", None, false).unwrap(), [Removed::Untagged("web:2".parse().unwrap())]);
    drop(store);
    // Another process: the lease of the one that made it is gone.
    let store = folder.store();
    let removed = remove(&store, "web:1", None, false).unwrap();
    assert_eq!(removed, [Removed::Untagged("web:1".parse().unwrap()), Removed::Deleted(image.id)]);
    assert_eq!((entries(&store, "layers"), entries(&store, "blobs/sha256"), entries(&store, "refs")), (0, 0, 0));
    assert!(remove(&store, "web:1", None, false).is_err());
}
