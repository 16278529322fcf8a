//! What the store promises as a whole: unique names under contention, no half-made things, nothing in use collected.

use std::collections::BTreeMap;

use super::testing::Folder;
use super::*;
use crate::base::id::{ContainerId, Digest, NetworkId};
use crate::model::container::*;
use crate::model::image::{Image, ImageConfig, LayerRecord};
use crate::model::network::{Endpoint, NetworkRecord};
use crate::model::reference::Reference;
use crate::model::volume::VolumeRecord;

pub(super) fn spec(name: &str) -> ContainerSpec {
    ContainerSpec {
        id: ContainerId::random(),
        name: name.into(),
        created: jiff::Timestamp::now(),
        image: "busybox".into(),
        image_id: None,
        layers: vec![],
        labels: BTreeMap::new(),
        process: Process { args: vec!["true".into()], ..Process::default() },
        hostname: "h".into(),
        domainname: None,
        read_only: false,
        mounts: vec![],
        files: vec![],
        shm_size_bytes: 64 << 20,
        network: NetworkMode::None,
        ports: vec![],
        exposed_ports: vec![],
        extra_hosts: vec![],
        dns: vec![],
        dns_search: vec![],
        dns_options: vec![],
        security: Security::default(),
        resources: Resources::default(),
        sysctls: BTreeMap::new(),
        ulimits: BTreeMap::new(),
        init: false,
        stop_signal: 15,
        stop_timeout_ms: 10_000,
        restart: RestartPolicy::No,
        healthcheck: None,
        logging: Logging::default(),
        auto_remove: false,
        entrypoint_length: 0,
        uid_maps: vec![],
        gid_maps: vec![],
    }
}

fn layer(store: &Store, content: &str) -> LayerRecord {
    let writer = store.layers().begin().unwrap();
    std::fs::write(writer.folder().join("file"), content).unwrap();
    writer.commit_by_content().unwrap()
}

fn image(store: &Store, layers: &[LayerRecord]) -> Image {
    let mut config = ImageConfig { architecture: "amd64".into(), os: "linux".into(), ..ImageConfig::default() };
    config.rootfs.diff_ids = layers.iter().map(|layer| layer.diff_id.clone()).collect();
    store.layers().make_durable(layers.iter().map(|layer| &layer.diff_id)).unwrap();
    let id = store.blobs().put(&serde_json::to_vec(&config).unwrap()).unwrap();
    let image = Image { id, manifest: None, config, layers: layers.to_vec() };
    store.images().add(&image).unwrap();
    image
}

/// Another process: its leases are not ours.
fn other(folder: &Folder) -> Store {
    folder.store()
}

#[test]
fn a_container_is_found_by_name_id_and_prefix() {
    let folder = Folder::new();
    let store = folder.store();
    let containers = store.containers();
    let web = spec("web");
    containers.create(&web).unwrap();
    assert_eq!(containers.spec(&web.id).unwrap(), web);
    assert_eq!(containers.state(&web.id).unwrap().status, Status::Created);
    for text in ["web", "/web", web.id.as_str(), &web.id.as_str()[..6]] {
        assert_eq!(containers.find(text).unwrap(), web.id, "{text}");
    }
    for text in ["", "we", "../web", "web/x", &"a".repeat(300)] {
        assert!(containers.find(text).unwrap_err().is_not_found(), "{text}");
    }
    assert!(matches!(containers.create(&spec("web")), Err(Error::NameInUse { .. })));
    assert!(matches!(containers.create(&spec("-web")), Err(Error::InvalidName { .. })));
    containers.rename(&web.id, "site").unwrap();
    assert!(containers.find("web").is_err());
    assert_eq!(containers.list().unwrap()[0].0.name, "site");
    containers.create(&spec("web")).unwrap();
    containers.remove(&web.id).unwrap();
    assert!(containers.find("site").is_err());
    assert!(!containers.run_folder(&web.id).exists());
    assert!(containers.lock(&web.id).unwrap_err().is_not_found());
    assert_eq!(containers.list().unwrap().len(), 1);
    // Neither creation, refused or not, nor removal leaves anything behind.
    assert_eq!(entries(&store.root("tmp")).unwrap().len() + entries(&store.root("trash")).unwrap().len(), 0);
}

#[test]
fn an_ambiguous_prefix_is_an_error() {
    let folder = Folder::new();
    let store = folder.store();
    for end in ["1", "2"] {
        let id = format!("{}{end}", "a".repeat(63)).parse().unwrap();
        store.containers().create(&ContainerSpec { id, ..spec(&format!("c{end}")) }).unwrap();
    }
    assert!(matches!(store.containers().find("aaa"), Err(Error::Ambiguous { count: 2, .. })));
}

#[test]
fn of_many_that_want_a_name_one_gets_it() {
    let folder = Folder::new();
    let stores: Vec<Store> = (0..8).map(|_| other(&folder)).collect();
    let winners: Vec<ContainerId> = std::thread::scope(|scope| {
        let threads: Vec<_> = stores
            .iter()
            .map(|store| {
                scope.spawn(move || {
                    let mut won = Vec::new();
                    for _ in 0..10 {
                        let candidate = ContainerSpec { auto_remove: true, ..spec("web") };
                        match store.containers().create(&candidate) {
                            Ok(()) => won.push(candidate.id),
                            Err(Error::NameInUse { .. }) => {}
                            Err(error) => panic!("{error}"),
                        }
                    }
                    won
                })
            })
            .collect();
        threads.into_iter().flat_map(|thread| thread.join().unwrap()).collect()
    });
    assert_eq!(winners.len(), 1);
    assert_eq!(stores[0].containers().list().unwrap().len(), 1);
}

#[test]
fn a_name_whose_creator_died_is_free() {
    let folder = Folder::new();
    let store = folder.store();
    // Died between taking the name and renaming the folder into place.
    let dead = ContainerId::random();
    std::os::unix::fs::symlink(dead.as_str(), store.root("names/containers/web")).unwrap();
    assert!(store.containers().find("web").is_err());
    store.containers().create(&spec("web")).unwrap();
    store.containers().find("web").unwrap();
}

#[test]
fn a_rename_that_was_killed_half_way_can_be_done_again_or_given_up() {
    let folder = Folder::new();
    let store = folder.store();
    let web = spec("temporary");
    store.containers().create(&web).unwrap();
    // Died before the record got the new name.
    std::os::unix::fs::symlink(web.id.as_str(), store.root("names/containers/web")).unwrap();
    store.containers().rename(&web.id, "web").unwrap();
    assert_eq!(store.containers().find("web").unwrap(), web.id);
    // Died before the old name was given up.
    std::os::unix::fs::symlink(web.id.as_str(), store.root("names/containers/temporary")).unwrap();
    store.containers().create(&spec("temporary")).unwrap();
}

#[test]
fn leftovers_of_dead_commands_are_swept_and_those_of_living_ones_stay() {
    let folder = Folder::new();
    let store = folder.store();
    let dead = store.root("tmp/0123456789abcdef-1");
    std::fs::create_dir_all(dead.join("fs/deep")).unwrap();
    std::fs::write(store.root("lock/leases/0123456789abcdef"), "").unwrap();
    std::fs::create_dir(store.root("trash/0123456789abcdef-2")).unwrap();
    let living = other(&folder);
    let writer = living.layers().begin().unwrap();
    store.sweep_leftovers().unwrap();
    assert!(
        !dead.exists()
            && !store.root("trash/0123456789abcdef-2").exists()
            && !store.root("lock/leases/0123456789abcdef").exists()
    );
    assert!(writer.folder().is_dir());
    let kept = writer.folder().to_owned();
    std::mem::forget(writer);
    drop(living);
    // `forget` kept the writer's store alive, and with it the lease; a process that dies loses both.
    store.sweep_leftovers().unwrap();
    assert!(kept.is_dir());
}

#[test]
fn what_ran_before_the_boot_has_exited() {
    let folder = Folder::new();
    let store = folder.store();
    let containers = store.containers();
    let web = spec("web");
    containers.create(&web).unwrap();
    let mut state = containers.state(&web.id).unwrap();
    state.status = Status::Running;
    state.process = Some(ProcessIdentity { pid: 1, start_ticks: 1 });
    containers.set_state(&web.id, &state).unwrap();
    assert_eq!(containers.state(&web.id).unwrap(), state);
    state.boot_id = "another".into();
    write_record(&containers.state_path(&web.id), &state, Durability::Volatile).unwrap();
    let now = containers.state(&web.id).unwrap();
    assert_eq!((now.status, now.exit_code, now.process), (Status::Exited, 255, None));
    // Emptied by a power cut.
    std::fs::write(containers.state_path(&web.id), "").unwrap();
    assert_eq!(containers.state(&web.id).unwrap().status, Status::Exited);
    // The spec of a container that removes itself is not synced: gone, it counts as never made.
    std::fs::write(containers.folder(&web.id).join("config.json"), "").unwrap();
    assert_eq!(containers.list().unwrap().len(), 0);
    store.sweep_after_power_cut().unwrap();
    assert!(!containers.exists(&web.id));
    containers.create(&spec("web")).unwrap();
}

#[test]
fn the_first_command_after_a_boot_sweeps() {
    let folder = Folder::new();
    let store = folder.store();
    let kept = layer(&store, "kept");
    let lost = layer(&store, "lost");
    store.layers().make_durable([&kept.diff_id]).unwrap();
    let mark = store.layers().folder(&lost.diff_id).join("unsynced");
    std::fs::remove_file(&mark).unwrap();
    std::os::unix::fs::symlink("another-boot", &mark).unwrap();
    let (old, new) = (store.root("images/.tmp-old"), store.root("images/.tmp-new"));
    for path in [&old, &new] {
        std::fs::write(path, "{").unwrap();
    }
    let long_ago = std::time::SystemTime::now() - std::time::Duration::from_secs(3600);
    std::fs::File::options().write(true).open(&old).unwrap().set_modified(long_ago).unwrap();
    std::fs::create_dir(store.root("tmp/0123456789abcdef-1")).unwrap();
    std::fs::remove_dir_all(&store.paths().run).unwrap();
    let next = other(&folder);
    assert_eq!(next.layers().list().unwrap(), [kept.diff_id]);
    assert!(!old.exists() && new.exists());
    assert!(entries(&next.root("tmp")).unwrap().is_empty() && entries(&next.root("trash")).unwrap().is_empty());
}

#[test]
fn a_wish_survives_and_costs_nothing_unchanged() {
    let folder = Folder::new();
    let store = folder.store();
    let web = spec("web");
    store.containers().create(&web).unwrap();
    assert_eq!(store.containers().wish(&web.id).unwrap(), Wish::Running);
    store.containers().set_wish(&web.id, Wish::Stopped).unwrap();
    assert_eq!(other(&folder).containers().wish(&web.id).unwrap(), Wish::Stopped);
    store.containers().set_wish(&web.id, Wish::Running).unwrap();
    assert_eq!(store.containers().wish(&web.id).unwrap(), Wish::Running);
}

#[test]
fn a_supervisor_is_alive_while_it_holds_its_lock() {
    let folder = Folder::new();
    let store = folder.store();
    let web = spec("web");
    store.containers().create(&web).unwrap();
    assert!(!store.containers().supervisor_alive(&web.id).unwrap());
    let lock = store.containers().supervisor_lock(&web.id).unwrap().unwrap();
    assert!(store.containers().supervisor_alive(&web.id).unwrap());
    assert!(store.containers().supervisor_lock(&web.id).unwrap().is_none());
    drop(lock);
    assert!(!store.containers().supervisor_alive(&web.id).unwrap());
}

#[test]
fn a_newer_format_is_refused() {
    let folder = Folder::new();
    let store = folder.store();
    std::fs::write(store.root("format"), "wharf 2\n").unwrap();
    let error = Store::open(store.paths()).unwrap_err();
    assert!(matches!(&error, Error::NewerFormat { found, .. } if found == "wharf 2"), "{error}");
}

#[test]
fn layers_are_found_by_content_and_lost_with_the_power() {
    let folder = Folder::new();
    let store = folder.store();
    let (first, second) = (layer(&store, "a"), layer(&store, "a"));
    assert_eq!(first, second);
    assert_eq!(first.size_bytes, 1);
    assert_ne!(layer(&store, "b").diff_id, first.diff_id);
    assert!(store.layers().exists(&first.diff_id));
    // The power goes before it was synced: another boot.
    let mark = store.layers().folder(&first.diff_id).join("unsynced");
    std::fs::remove_file(&mark).unwrap();
    std::os::unix::fs::symlink("another-boot", &mark).unwrap();
    assert!(!store.layers().exists(&first.diff_id));
    // It is made again in its place.
    layer(&store, "a");
    assert!(store.layers().exists(&first.diff_id));
    store.layers().make_durable([&first.diff_id]).unwrap();
    assert!(mark.symlink_metadata().is_err());
    assert!(store.layers().exists(&first.diff_id));
}

#[test]
fn an_archive_of_a_folder_is_the_same_each_time_and_has_overlay_marks() {
    use std::os::unix::fs::PermissionsExt;
    let folder = Folder::new();
    let root = folder.path().join("layer");
    std::fs::create_dir_all(root.join("dir")).unwrap();
    let long = "n".repeat(200);
    std::fs::write(root.join("dir").join(&long), "long").unwrap();
    std::fs::hard_link(root.join("dir").join(&long), root.join("dir/zlink")).unwrap();
    std::os::unix::fs::symlink("t".repeat(150), root.join("dir/symlink")).unwrap();
    std::fs::set_permissions(root.join("dir").join(&long), std::fs::Permissions::from_mode(0o4755)).unwrap();
    let device = rustix::fs::makedev(0, 0);
    let kind = rustix::fs::FileType::CharacterDevice;
    rustix::fs::mknodat(rustix::fs::CWD, root.join("gone"), kind, rustix::fs::Mode::empty(), device).unwrap();
    let flags = rustix::fs::XattrFlags::empty();
    rustix::fs::setxattr(root.join("dir"), "trusted.overlay.opaque", b"y", flags).unwrap();
    rustix::fs::setxattr(root.join("dir"), "user.note", b"kept", flags).unwrap();
    let mut once = Vec::new();
    let size = write_archive(&root, &mut once).unwrap();
    let mut again = Vec::new();
    write_archive(&root, &mut again).unwrap();
    assert_eq!(once, again);
    assert_eq!(size, 4);
    let mut archive = tar::Archive::new(&once[..]);
    let names: Vec<String> =
        archive.entries().unwrap().map(|entry| entry.unwrap().path().unwrap().display().to_string()).collect();
    let expected = ["dir/", "dir/.wh..wh..opq", &format!("dir/{long}"), "dir/symlink", "dir/zlink", ".wh.gone"];
    assert_eq!(names, expected);
}

#[test]
fn names_of_images_move_and_ids_abbreviate() {
    let folder = Folder::new();
    let store = folder.store();
    let (first, second) = (image(&store, &[layer(&store, "1")]), image(&store, &[layer(&store, "2")]));
    let name: Reference = "redis:7".parse().unwrap();
    let images = store.images();
    images.tag(&name, &first.id).unwrap();
    assert_eq!(images.resolve(&name).unwrap().unwrap().id, first.id);
    images.tag(&name, &second.id).unwrap();
    assert_eq!(images.find("redis:7").unwrap().id, second.id);
    assert_eq!(images.find("docker.io/library/redis:7").unwrap().id, second.id);
    assert_eq!(images.find(first.id.short()).unwrap().id, first.id);
    assert_eq!(images.find(first.id.as_str()).unwrap().id, first.id);
    assert_eq!(images.resolve(&first.id.short().parse().unwrap()).unwrap().unwrap().id, first.id);
    assert_eq!(images.references(&second.id).unwrap(), std::slice::from_ref(&name));
    assert!(images.resolve(&"other".parse().unwrap()).unwrap().is_none());
    assert_eq!(images.untag(&name).unwrap(), Some(second.id.clone()));
    assert_eq!(images.list().unwrap().len(), 2);
    images.remove(&second.id).unwrap();
    assert!(images.get(&second.id).unwrap_err().is_not_found());
}

#[test]
fn an_image_in_use_stays() {
    let folder = Folder::new();
    let store = folder.store();
    let image = image(&store, &[layer(&store, "1")]);
    let web = ContainerSpec { image_id: Some(image.id.clone()), layers: image.diff_ids(), ..spec("web") };
    store.containers().create(&web).unwrap();
    let error = store.images().remove(&image.id).unwrap_err();
    assert!(matches!(&error, Error::ImageInUse { container, .. } if container == "web"), "{error}");
    let all =
        GcOptions { dangling_images: true, unused_images: true, build_cache: true, spools: true, steps_before: None };
    assert_eq!(other(&folder).gc(&all).unwrap(), GcReport::default());
    store.containers().remove(&web.id).unwrap();
    drop(store);
    let report = other(&folder).gc(&all).unwrap();
    assert_eq!((report.images.len(), report.layers.len(), report.blobs.len()), (1, 1, 1));
}

#[test]
fn a_container_cannot_be_made_of_missing_layers() {
    let folder = Folder::new();
    let store = folder.store();
    let wrong = ContainerSpec { layers: vec![Digest::of(b"x")], ..spec("web") };
    assert!(store.containers().create(&wrong).unwrap_err().is_not_found());
    store.containers().create(&spec("web")).unwrap();
}

#[test]
fn a_collection_spares_what_a_lease_protects() {
    let folder = Folder::new();
    let working = other(&folder);
    let kept = layer(&working, "kept");
    let blob = working.blobs().put(b"content").unwrap();
    let collector = other(&folder);
    assert_eq!(collector.gc(&GcOptions::default()).unwrap(), GcReport::default());
    assert!(working.layers().exists(&kept.diff_id) && working.blobs().exists(&blob));
    drop(working);
    let report = collector.gc(&GcOptions::default()).unwrap();
    assert_eq!((report.layers, report.blobs, report.freed_bytes), (vec![kept.diff_id], vec![blob], 11));
}

#[test]
fn collecting_while_others_build_never_takes_what_they_need() {
    let folder = Folder::new();
    let stop = std::sync::atomic::AtomicBool::new(false);
    std::thread::scope(|scope| {
        scope.spawn(|| {
            let collector = other(&folder);
            while !stop.load(std::sync::atomic::Ordering::Relaxed) {
                collector.gc(&GcOptions { dangling_images: true, ..GcOptions::default() }).unwrap();
            }
        });
        let workers: Vec<_> = (0..3)
            .map(|number| {
                let folder = &folder;
                scope.spawn(move || {
                    for round in 0..15 {
                        // All make the same layers, over and over, each as a process of its own.
                        let store = other(folder);
                        let record = layer(&store, &format!("{}", round % 3));
                        store.layers().make_durable([&record.diff_id]).unwrap();
                        let name = format!("c{number}-{round}");
                        let wanted = ContainerSpec { layers: vec![record.diff_id.clone()], ..spec(&name) };
                        store.containers().create(&ContainerSpec { auto_remove: true, ..wanted.clone() }).unwrap();
                        drop(store);
                        let store = other(folder);
                        assert!(store.layers().exists(&record.diff_id));
                        store.containers().remove(&wanted.id).unwrap();
                    }
                })
            })
            .collect();
        let results: Vec<_> = workers.into_iter().map(|worker| worker.join()).collect();
        stop.store(true, std::sync::atomic::Ordering::Relaxed);
        assert!(results.iter().all(|result| result.is_ok()));
    });
}

#[test]
fn networks_and_endpoints_are_kept() {
    let folder = Folder::new();
    let store = folder.store();
    let record = NetworkRecord {
        id: NetworkId::random(),
        name: "shop_default".into(),
        created: jiff::Timestamp::now(),
        bridge: "wh-1".into(),
        internal: false,
        subnets: vec![],
        mtu: 1500,
        link_group: 1,
        options: BTreeMap::new(),
        labels: BTreeMap::new(),
    };
    let networks = store.networks();
    networks.create(&record).unwrap();
    assert!(matches!(
        networks.create(&NetworkRecord { id: NetworkId::random(), ..record.clone() }),
        Err(Error::NameInUse { .. })
    ));
    assert_eq!(networks.find("shop_default").unwrap(), record);
    assert_eq!(networks.find(record.id.short()).unwrap(), record);
    let endpoint = Endpoint {
        container: ContainerId::random(),
        network: record.id.clone(),
        network_name: record.name.clone(),
        names: vec!["web".into()],
        interface: "eth0".into(),
        ipv4: Some(([10, 0, 0, 2].into(), 24)),
        ipv6: None,
        gateways: vec![],
        mac: String::new(),
        host_link: "wv1".into(),
        link_local: Vec::new(),
        links: Default::default(),
        default_route: false,
    };
    let endpoints = store.endpoints();
    assert_eq!(endpoints.generation(&record.id).unwrap(), 0);
    endpoints.put(&endpoint).unwrap();
    assert_eq!(endpoints.list(&record.id).unwrap(), std::slice::from_ref(&endpoint));
    endpoints.remove(&record.id, &endpoint.container).unwrap();
    endpoints.remove(&record.id, &endpoint.container).unwrap();
    assert_eq!(endpoints.generation(&record.id).unwrap(), 2);
    assert_eq!(endpoints.get(&record.id, &endpoint.container).unwrap(), None);
    networks.remove(&record.id).unwrap();
    assert!(networks.find("shop_default").unwrap_err().is_not_found());
}

#[test]
fn volumes_are_kept() {
    let folder = Folder::new();
    let store = folder.store();
    let record = VolumeRecord {
        name: "data".into(),
        created: jiff::Timestamp::now(),
        anonymous: false,
        options: BTreeMap::new(),
        labels: BTreeMap::new(),
    };
    let volumes = store.volumes();
    volumes.create(&record).unwrap();
    assert!(matches!(volumes.create(&record), Err(Error::NameInUse { .. })));
    std::fs::write(volumes.data_folder("data").join("x"), "y").unwrap();
    assert_eq!(volumes.get("data").unwrap(), record);
    assert!(volumes.get("../containers").unwrap_err().is_not_found());
    let lock = volumes.lock("data").unwrap();
    volumes.remove("data").unwrap();
    drop(lock);
    assert!(volumes.list().unwrap().is_empty());
    assert!(entries(&store.root("tmp")).unwrap().is_empty());
}

#[test]
fn steps_are_remembered_while_their_layers_are_there() {
    let folder = Folder::new();
    let store = folder.store();
    let record = StepRecord {
        key: Digest::of(b"key"),
        description: "RUN true".into(),
        created: jiff::Timestamp::now(),
        layers: vec![layer(&store, "1")],
        data: serde_json::json!({"a": 1}),
    };
    let cache = store.cache();
    assert_eq!(cache.step(&record.key).unwrap(), None);
    cache.remember(&record).unwrap();
    assert_eq!(cache.step(&record.key).unwrap(), Some(record.clone()));
    std::fs::remove_dir_all(store.layers().folder(&record.layers[0].diff_id)).unwrap();
    assert_eq!(cache.step(&record.key).unwrap(), None);
    cache.set_stat(std::path::Path::new("/src"), b"x").unwrap();
    assert_eq!(cache.stat(std::path::Path::new("/src")).unwrap().as_deref(), Some(&b"x"[..]));
    let first = cache.mount("pip", Sharing::Private).unwrap();
    let second = cache.mount("pip", Sharing::Private).unwrap();
    assert!(first.created && second.created && first.folder != second.folder);
    drop(first);
    assert!(!cache.mount("pip", Sharing::Shared).unwrap().created);
}
