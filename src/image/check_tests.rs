//! A store with each kind of damage is found out, and made whole from what is left of it.

use std::collections::HashSet;

use super::pull::pull_patiently;
use super::registry::{Config, Timing};
use super::test_registries::{Pushed, Registry, layer};
use super::*;
use crate::base::id::Digest;
use crate::model::event::Silent;
use crate::model::image::{Image, ImageConfig};
use crate::store::Store;
use crate::store::testing::Folder;

fn pulled(store: &Store, registry: &Registry) -> Image {
    let always = PullOptions { policy: PullPolicy::Always, ..PullOptions::default() };
    let reference = registry.reference("app:1");
    pull_patiently(store, &reference, &always, &Silent, Timing::default(), Some(Config::default())).unwrap()
}

fn app(registry: &Registry) -> Pushed {
    let image = Pushed::new(&[(layer(1, 300_000), "gzip"), (layer(2, 1000), "zstd")]);
    registry.push("app", "1", &image);
    image
}

/// One of a layer's files gets another byte, its size and time stay.
fn flip(store: &Store, diff_id: &Digest, name: &str) {
    let path = store.layers().path(diff_id).join(name);
    let time = std::fs::metadata(&path).unwrap().modified().unwrap();
    let mut content = std::fs::read(&path).unwrap();
    content[7] ^= 1;
    std::fs::write(&path, content).unwrap();
    std::fs::File::options().write(true).open(&path).unwrap().set_modified(time).unwrap();
}

fn faults(store: &Store) -> Vec<String> {
    let found = check(store).unwrap();
    found.damages.iter().map(|damage| format!("{} {} {:?}", damage.part, damage.reason, damage.images)).collect()
}

fn repaired(store: &Store) -> Vec<String> {
    let damages = check(store).unwrap().damages;
    let done = repair(store, &damages, &|_| false, &Silent).unwrap();
    done.iter().map(|repair| format!("{repair:?}")).collect()
}

#[test]
fn a_flipped_bit_of_an_unpacked_layer_is_found_and_mended_without_the_registry() {
    let registry = Registry::start();
    app(&registry);
    let folder = Folder::new();
    let store = folder.store();
    let image = pulled(&store, &registry);
    let name = registry.reference("app:1");
    drop(registry);
    let sound = Checked { images: 1, layers: 2, blobs: 4, damages: Vec::new() };
    assert_eq!(check(&store).unwrap(), sound);
    let broken = image.layers[0].diff_id.clone();
    flip(&store, &broken, "d/1");
    let expected = format!("layer {} differs from its archive: /d/1 has another content [\"{name}\"]", broken.short());
    assert_eq!(faults(&store), [expected]);
    // Not below a container that runs.
    let damages = check(&store).unwrap().damages;
    let used = HashSet::from([broken.clone()]);
    let kept = repair(&store, &damages, &|layer| used.contains(layer), &Silent).unwrap();
    assert!(matches!(kept.as_slice(), [Repair::Kept(Part::Layer(layer), _)] if *layer == broken), "{kept:?}");
    assert_eq!(repaired(&store).len(), 1);
    assert_eq!(check(&store).unwrap(), sound);
    std::fs::remove_file(store.layers().path(&broken).join("d/1")).unwrap();
    assert!(faults(&store)[0].contains("/d/1 is missing"));
    repaired(&store);
    assert_eq!(check(&store).unwrap(), sound);
}

#[test]
fn damaged_and_missing_blobs_come_from_the_registry_again() {
    let registry = Registry::start();
    let pushed = app(&registry);
    let folder = Folder::new();
    let store = folder.store();
    let image = pulled(&store, &registry);
    let blobs = [image.id.clone(), image.manifest.clone().unwrap(), image.layers[0].blob.clone().unwrap().digest];
    for digest in &blobs {
        std::fs::write(store.blobs().path(digest), b"rubbish").unwrap();
    }
    store.blobs().remove(&image.layers[1].blob.as_ref().unwrap().digest).unwrap();
    flip(&store, &image.layers[1].diff_id, "d/2");
    let found = faults(&store);
    // Three wrong blobs, a missing one, and two layers that nothing proves any more.
    assert_eq!(found.len(), 6, "{found:#?}");
    let done = repaired(&store);
    assert!(done.iter().all(|repair| repair.starts_with("Restored")), "{done:#?}");
    assert_eq!(check(&store).unwrap(), Checked { images: 1, layers: 2, blobs: 4, damages: Vec::new() });
    assert_eq!(store.blobs().read(&image.id, 1 << 20).unwrap(), pushed.blobs[0]);
}

#[test]
fn what_nobody_can_restore_is_removed_and_what_is_only_in_doubt_is_kept() {
    let folder = Folder::new();
    let store = folder.store();
    let build = |name: &str| {
        let writer = store.layers().begin().unwrap();
        std::fs::write(writer.folder().join("file"), format!("the content of {name}")).unwrap();
        let layer = writer.commit_by_content().unwrap();
        let mut config = ImageConfig::default();
        config.rootfs.diff_ids = vec![layer.diff_id.clone()];
        publish(&store, config, None, vec![layer], &[name.parse().unwrap()]).unwrap()
    };
    let (sound, broken, torn) = (build("sound"), build("broken"), build("torn"));
    assert_eq!(check(&store).unwrap(), Checked { images: 3, layers: 3, blobs: 3, damages: Vec::new() });
    // A config that was made here is made again.
    std::fs::write(store.blobs().path(&sound.id), b"{}").unwrap();
    store.layers().remove(&broken.layers[0].diff_id).unwrap();
    let record = store.paths().root.join("images").join(format!("{}.json", torn.id.hex()));
    std::fs::write(record, b"{").unwrap();
    assert_eq!(faults(&store).len(), 3, "{:?}", faults(&store));
    let done = repaired(&store);
    assert!(
        done.iter().any(|repair| repair.starts_with("Removed(Image") && repair.contains(broken.id.hex())),
        "{done:?}"
    );
    assert_eq!(check(&store).unwrap().damages, []);
    assert_eq!(store.images().ids().unwrap(), std::slice::from_ref(&sound.id));
    flip(&store, &sound.layers[0].diff_id, "file");
    assert!(repaired(&store)[0].contains("nothing proves it"));
    assert_eq!(store.images().ids().unwrap(), [sound.id]);
}

#[test]
fn an_image_without_one_of_its_layers_is_not_taken_for_whole() {
    let registry = Registry::start();
    app(&registry);
    let folder = Folder::new();
    let store = folder.store();
    let image = pulled(&store, &registry);
    store.layers().remove(&image.layers[0].diff_id).unwrap();
    let missing = PullOptions::default();
    let again = pull(&store, &registry.reference("app:1"), &missing, &Silent).unwrap();
    assert_eq!(again, image);
    assert!(store.layers().exists(&image.layers[0].diff_id));
}
