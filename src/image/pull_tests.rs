//! Pulling from a real registry (Debian's docker-registry on loopback) and from hostile ones.

use std::net::TcpListener;
use std::sync::Mutex;
use std::time::{Duration, Instant};

use super::pull::pull_patiently;
use super::registry::{Config, Timing};
use super::test_registries::{Hostile, INDEX, MANIFEST, Pushed, Registry, Reply, descriptor, gzip, layer};
use super::*;
use crate::base::id::Digest;
use crate::model::event::{Event, EventStatus, Progress, Silent};
use crate::model::image::Image;
use crate::model::reference::Reference;
use crate::store::Store;
use crate::store::testing::Folder;

fn impatient() -> Timing {
    Timing {
        connect: Duration::from_secs(5),
        stall: Duration::from_millis(700),
        pause: Duration::from_millis(5),
        attempts: 3,
    }
}

fn always() -> PullOptions {
    PullOptions { policy: PullPolicy::Always, ..PullOptions::default() }
}

fn pull_here(store: &Store, reference: &Reference) -> Result<Image> {
    pull_patiently(store, reference, &always(), &Silent, impatient(), Some(Config::default()))
}

fn entries(store: &Store, folder: &str) -> usize {
    std::fs::read_dir(store.paths().root.join(folder)).unwrap().count()
}

#[test]
fn an_image_comes_from_a_real_registry() {
    let registry = Registry::start();
    let (first, second) = (layer(1, 3_000_000), layer(2, 200_000));
    let pushed =
        Pushed::new(&[(first.clone(), "gzip"), (second.clone(), "zstd"), (layer(3, 10), ""), (first.clone(), "gzip")]);
    registry.push("shop/web", "1", &pushed);
    let folder = Folder::new();
    let store = folder.store();
    let reference = registry.reference("shop/web:1");
    let image = pull_here(&store, &reference).unwrap();
    assert_eq!(image.diff_ids(), [&first, &second, &layer(3, 10), &first].map(|layer| Digest::of(layer)));
    assert_eq!(image.id, Digest::of(&pushed.blobs[0]));
    assert_eq!(image.manifest, Some(Digest::of(&pushed.manifest)));
    let path = store.layers().path(&Digest::of(&second)).join("d/2");
    assert_eq!(std::fs::metadata(path).unwrap().len(), 200_000);
    // The compressed layers are kept: three different ones, config and manifest.
    assert_eq!((entries(&store, "blobs/sha256"), entries(&store, "layers")), (5, 3));
    assert!(
        image.layers.iter().all(|layer| layer.blob.as_ref().is_some_and(|blob| store.blobs().exists(&blob.digest)))
    );
    for name in ["tmp", "spool", "lock/d", "trash"] {
        assert_eq!(entries(&store, name), 0, "{name}");
    }
    // Every layer has lost its mark.
    for layer in &image.layers {
        assert!(!store.layers().path(&layer.diff_id).with_file_name("unsynced").exists());
    }
    let pinned = format!("127.0.0.1:{}/shop/web@{}", registry.port, Digest::of(&pushed.manifest));
    assert_eq!(pull_here(&store, &pinned.parse().unwrap()).unwrap(), image);
    assert_eq!(store.images().references(&image.id).unwrap().len(), 2);
    let by_name: Reference = format!("localhost:{}/shop/web:1", registry.port).parse().unwrap();
    assert_eq!(pull_here(&store, &by_name).unwrap(), image);
    // Without the registry, and without asking it.
    drop(registry);
    let missing = PullOptions::default();
    assert_eq!(pull(&store, &reference, &missing, &Silent).unwrap(), image);
    let error = pull_here(&store, &reference).unwrap_err();
    assert!(matches!(error, Error::Unreachable { .. }), "{error}");
    let never = PullOptions { policy: PullPolicy::Never, ..PullOptions::default() };
    let error = pull(&store, &"redis:7".parse().unwrap(), &never, &Silent).unwrap_err();
    assert!(matches!(error, Error::NotHere { .. }), "{error}");
}

#[test]
fn an_index_gives_the_image_of_the_platform() {
    let registry = Registry::start();
    let platforms = ["linux/s390x", "linux/arm/v6", "linux/arm/v7"];
    let mut manifests = Vec::new();
    for (number, platform) in platforms.iter().enumerate() {
        let platform = Platform::parse(platform).unwrap();
        let pushed = Pushed::of_platform(&[(layer(number as u64, 10), "gzip")], &platform);
        registry.push("app", &format!("p{number}"), &pushed);
        let mut entry = descriptor(&pushed.manifest, MANIFEST);
        entry["platform"] = serde_json::json!({"os": platform.os, "architecture": platform.architecture});
        if let Some(variant) = platform.variant {
            entry["platform"]["variant"] = variant.into();
        }
        manifests.push(entry);
    }
    let mut attestation = manifests[0].clone();
    attestation["platform"] = serde_json::json!({"os": "unknown", "architecture": "unknown"});
    manifests.push(attestation);
    let index = serde_json::json!({"schemaVersion": 2, "mediaType": INDEX, "manifests": manifests}).to_string();
    registry.push_manifest("app", "latest", INDEX, index.as_bytes());
    let folder = Folder::new();
    let store = folder.store();
    let reference = registry.reference("app");
    let pulled = |platform: &str| {
        let options = PullOptions { platforms: Platforms::one(Some(platform)), ..always() };
        pull_patiently(&store, &reference, &options, &Silent, impatient(), Some(Config::default()))
    };
    assert_eq!(pulled("linux/s390x").unwrap().diff_ids(), [Digest::of(&layer(0, 10))]);
    assert_eq!(pulled("linux/arm/v7").unwrap().diff_ids(), [Digest::of(&layer(2, 10))]);
    assert_eq!(pulled("linux/arm/v8").unwrap().diff_ids(), [Digest::of(&layer(2, 10))]);
    let error = pulled("linux/riscv64").unwrap_err();
    let expected = "there is no image for linux/riscv64, only for linux/s390x, linux/arm/v6, linux/arm/v7";
    assert_eq!(error.to_string(), expected);
    let error = pull_here(&store, &registry.reference("app:nothing")).unwrap_err();
    assert!(matches!(error, Error::UnknownImage { .. }), "{error}");
    let error = pull_here(&store, &registry.reference("nobody/nothing")).unwrap_err();
    assert!(matches!(error, Error::UnknownImage { .. }), "{error}");
}

#[test]
fn https_needs_a_certificate_that_is_trusted() {
    let folder = Folder::new();
    let (key, certificate) = (folder.path().join("key.pem"), folder.path().join("ca.pem"));
    let made = std::process::Command::new("openssl")
        .args(["req", "-x509", "-newkey", "rsa:2048", "-nodes", "-days", "2", "-subj", "/CN=test"])
        .args(["-addext", "subjectAltName=IP:127.0.0.1", "-addext", "basicConstraints=critical,CA:FALSE", "-keyout"])
        .arg(&key)
        .arg("-out")
        .arg(&certificate)
        .output()
        .unwrap();
    assert!(made.status.success(), "{}", String::from_utf8_lossy(&made.stderr));
    let settings = format!("  tls:\n    certificate: {}\n    key: {}\n", certificate.display(), key.display());
    let registry = Registry::start_with(folder, &settings);
    let trusting = |ca: &str| -> Config {
        serde_json::from_str(&format!(r#"{{"127.0.0.1:{}": {{"ca": "{ca}"}}}}"#, registry.port)).unwrap()
    };
    let folder = Folder::new();
    let store = folder.store();
    let pulled = |config| {
        let patient = Timing { stall: Duration::from_secs(20), ..impatient() };
        pull_patiently(&store, &registry.reference("app"), &always(), &Silent, patient, Some(config)).unwrap_err()
    };
    // The registry answers over TLS that it has no such image.
    let error = pulled(trusting(&certificate.display().to_string()));
    assert!(matches!(error, Error::UnknownImage { .. }), "{error:?}");
    // The system's certificates know nothing of this one.
    let error = pulled(trusting("/etc/ssl/certs/ca-certificates.crt"));
    assert!(matches!(error, Error::Unreachable { .. }), "{error}");
    let hint = crate::base::error::Explain::hint(&error).unwrap();
    assert!(hint.contains("`ca`"), "{hint}: {error:?}");
    let error = pulled(trusting("/etc/passwd"));
    assert!(matches!(error, Error::Unsupported { .. }), "{error}");
}

#[test]
fn an_image_of_another_platform_is_pulled_with_a_warning_unless_one_was_named() {
    let server = Hostile::start();
    let platform = Platform::parse("linux/s390x").unwrap();
    server.serve("app", &Pushed::of_platform(&[(layer(1, 10), "gzip")], &platform));
    let folder = Folder::new();
    let store = folder.store();
    let events = Recorder::default();
    let reference = server.reference("app");
    let named = PullOptions { platforms: Platforms::one(Some("linux/amd64")), ..always() };
    let error = pull_patiently(&store, &reference, &named, &events, impatient(), Some(Config::default())).unwrap_err();
    assert!(matches!(error, Error::NoPlatform { .. }), "{error}");
    pull_patiently(&store, &reference, &always(), &events, impatient(), Some(Config::default())).unwrap();
    let events = events.0.into_inner().unwrap();
    let warning = events.iter().find(|event| event.status == EventStatus::Warning).unwrap();
    assert!(warning.text.starts_with("the image is for linux/s390x"), "{}", warning.text);
    let last = events.last().unwrap();
    assert_eq!((last.status, last.text.as_str()), (EventStatus::Done, "Pulled"));
    assert!(events.iter().any(|event| event.parent.as_ref() == Some(&last.resource) && event.text == "Pull complete"));
}

/// Keeps all events.
#[derive(Default)]
struct Recorder(Mutex<Vec<Event>>);

impl Progress for Recorder {
    fn report(&self, event: Event) {
        self.0.lock().unwrap().push(event);
    }
}

#[test]
fn two_commands_fetch_a_layer_once() {
    let server = Hostile::start();
    server.serve("app", &Pushed::new(&[(layer(1, 2_000_000), "gzip")]));
    let folder = Folder::new();
    std::thread::scope(|scope| {
        for _ in 0..3 {
            scope.spawn(|| pull_here(&folder.store(), &server.reference("app")).unwrap());
        }
    });
    let layer_blob = server.state.lock().unwrap().layers[0].clone();
    assert_eq!(server.requests(&layer_blob).len(), 1);
}

fn ok(body: Vec<u8>) -> Reply {
    Reply { status: 200, body, ..Reply::default() }
}

/// A hostile registry with an image of one layer.
fn hostile() -> (Hostile, Folder, String) {
    let server = Hostile::start();
    server.serve("app", &Pushed::new(&[(layer(7, 1_000_000), "gzip")]));
    let path = server.layer_path();
    (server, Folder::new(), path)
}

#[test]
fn a_wrong_layer_is_refused_and_not_kept() {
    let (server, folder, path) = hostile();
    let good = server.state.lock().unwrap().content[&path].0.clone();
    let store = folder.store();
    let mut wrong_middle = good.clone();
    wrong_middle[good.len() / 2] ^= 1;
    let mut longer = good.clone();
    longer.extend([0; 100]);
    // Honest bytes of another layer, of the right length.
    let mut other = gzip(&layer(8, 1_000_000));
    other.resize(good.len(), 0);
    for body in [wrong_middle, longer, other, vec![0; good.len()]] {
        server.state.lock().unwrap().rules.clear();
        let wanted = path.clone();
        server.rule(move |request, _| (request.path == wanted).then(|| ok(body.clone())));
        let error = pull_here(&store, &server.reference("app")).unwrap_err();
        assert!(matches!(error, Error::WrongContent { .. }), "{error}");
        for name in ["tmp", "trash", "spool", "layers", "images", "refs"] {
            assert_eq!(entries(&store, name), 0, "{name}");
        }
    }
    server.state.lock().unwrap().rules.clear();
    pull_here(&store, &server.reference("app")).unwrap();
}

#[test]
fn a_layer_that_is_not_what_the_config_says_is_refused() {
    let server = Hostile::start();
    let mut pushed = Pushed::new(&[(layer(1, 1000), "gzip")]);
    let (good, other) = (Digest::of(&layer(1, 1000)), Digest::of(b"other"));
    let old = pushed.blobs[0].clone();
    let config = String::from_utf8(old.clone()).unwrap().replace(good.as_str(), other.as_str());
    let manifest = String::from_utf8(pushed.manifest.clone()).unwrap();
    pushed.manifest = manifest.replace(Digest::of(&old).as_str(), Digest::of(config.as_bytes()).as_str()).into();
    pushed.blobs[0] = config.into();
    server.serve("app", &pushed);
    let folder = Folder::new();
    let error = pull_here(&folder.store(), &server.reference("app")).unwrap_err();
    assert!(matches!(&error, Error::WrongContent { digest, .. } if *digest == other), "{error}");
}

#[test]
fn a_download_that_breaks_goes_on_with_a_range() {
    let (server, folder, path) = hostile();
    let wanted = path.clone();
    let body = server.state.lock().unwrap().content[&path].0.clone();
    server.rule(move |request, before| {
        let first = request.path == wanted && before == 0;
        first.then(|| Reply { cut: Some(body.len() / 2), ..ok(body.clone()) })
    });
    pull_here(&folder.store(), &server.reference("app")).unwrap();
    let requests = server.requests(&path);
    assert_eq!(requests.len(), 2);
    assert!(requests[1].headers["range"].starts_with("bytes="));
}

#[test]
fn a_server_without_ranges_is_read_from_the_beginning() {
    let (server, folder, path) = hostile();
    server.state.lock().unwrap().without_ranges = true;
    let wanted = path.clone();
    let body = server.state.lock().unwrap().content[&path].0.clone();
    server.rule(move |request, before| {
        let first = request.path == wanted && before == 0;
        first.then(|| Reply { cut: Some(body.len() / 3), ..ok(body.clone()) })
    });
    pull_here(&folder.store(), &server.reference("app")).unwrap();
    assert_eq!(server.requests(&path).len(), 2);
}

#[test]
fn a_stalled_download_ends_and_the_next_command_goes_on() {
    let (server, folder, path) = hostile();
    let wanted = path.clone();
    let body = server.state.lock().unwrap().content[&path].0.clone();
    let half = body.len() / 2;
    server.rule(move |request, before| {
        if request.path != wanted || before >= 4 {
            return None;
        }
        // The first time half of it, then nothing at all.
        if before == 0 {
            return Some(Reply { stall: Some(half), ..ok(body.clone()) });
        }
        let range = vec![("Content-Range", format!("bytes {half}-9/9"))];
        Some(Reply { status: 206, stall: Some(0), headers: range, body: vec![0; 9], ..Reply::default() })
    });
    let store = folder.store();
    let begun = Instant::now();
    let error = pull_here(&store, &server.reference("app")).unwrap_err();
    assert!(matches!(error, Error::Stalled { .. }), "{error}");
    assert!(begun.elapsed() < Duration::from_secs(10));
    assert_eq!(entries(&store, "spool"), 1);
    drop(store);
    pull_here(&folder.store(), &server.reference("app")).unwrap();
    let last = server.requests(&path).pop().unwrap();
    assert_eq!(last.headers["range"], format!("bytes={half}-"));
    assert_eq!(entries(&folder.store(), "spool"), 0);
}

#[test]
fn a_blob_whose_command_ended_before_the_image_was_recorded_is_kept() {
    let (server, folder, path) = hostile();
    let digest: Digest = path.rsplit('/').next().unwrap().parse().unwrap();
    let store = folder.store();
    let reference = server.reference("app");
    let image = pull_here(&store, &reference).unwrap();
    let (blob, spool) = (store.blobs().path(&digest), store.paths().root.join("spool").join(digest.hex()));
    let sizes = |store: &Store| (entries(store, "spool"), store.blobs().exists(&digest));
    std::fs::rename(&blob, &spool).unwrap();
    assert_eq!(pull_here(&store, &reference).unwrap(), image);
    assert_eq!((sizes(&store), server.requests(&path).len()), ((0, true), 1));
    // What is in the spool is not believed.
    let mut content = std::fs::read(&blob).unwrap();
    content[0] ^= 1;
    std::fs::remove_file(&blob).unwrap();
    std::fs::write(&spool, content).unwrap();
    assert_eq!(pull_here(&store, &reference).unwrap().layers[0].blob, None);
    assert_eq!(sizes(&store), (0, false));
}

#[test]
fn a_wrong_beginning_left_by_an_earlier_command_is_fetched_again() {
    let (server, folder, path) = hostile();
    let store = folder.store();
    let digest: Digest = path.rsplit('/').next().unwrap().parse().unwrap();
    std::fs::write(store.paths().root.join("spool").join(digest.hex()), [0x1f; 5000]).unwrap();
    pull_here(&store, &server.reference("app")).unwrap();
    assert_eq!(server.requests(&path).len(), 2);
}

#[test]
fn a_token_goes_to_no_other_host() {
    let (server, folder, path) = hostile();
    let other = Hostile::start();
    other.state.lock().unwrap().content = server.state.lock().unwrap().content.clone();
    let (token_port, other_port, wanted) = (server.port, other.port, path.clone());
    server.rule(move |request, _| {
        if request.path.starts_with("/token?") {
            return Some(ok(br#"{"token": "secret"}"#.to_vec()));
        }
        if request.headers.get("authorization").map(String::as_str) != Some("Bearer secret") {
            let challenge = format!(
                r#"Bearer realm="http://127.0.0.1:{token_port}/token",service="it",scope="repository:app:pull""#
            );
            return Some(Reply { status: 401, headers: vec![("WWW-Authenticate", challenge)], ..Reply::default() });
        }
        let target = format!("http://127.0.0.1:{other_port}{}", request.path);
        (request.path == wanted).then(|| Reply { status: 307, headers: vec![("Location", target)], ..Reply::default() })
    });
    pull_here(&folder.store(), &server.reference("app")).unwrap();
    let redirected = other.requests(&path);
    assert_eq!(redirected.len(), 1);
    assert!(!redirected[0].headers.contains_key("authorization"), "{redirected:?}");
    // One token for everything.
    assert_eq!(server.requests("/token?service=it&scope=repository%3Aapp%3Apull").len(), 1);
}

#[test]
fn without_a_login_the_error_says_so() {
    let (server, folder, _) = hostile();
    server.rule(|_, _| {
        let challenge = r#"Basic realm="private""#.to_owned();
        Some(Reply { status: 401, headers: vec![("WWW-Authenticate", challenge)], ..Reply::default() })
    });
    let error = pull_here(&folder.store(), &server.reference("app")).unwrap_err();
    assert!(matches!(&error, Error::Unauthorized { reason, .. } if reason == "it needs a login"), "{error}");
    server.state.lock().unwrap().rules.clear();
    let port = server.port;
    server.rule(move |request, _| {
        if request.path.starts_with("/token?") {
            return Some(ok(br#"{"access_token": "anonymous"}"#.to_vec()));
        }
        let challenge = format!(r#"Bearer realm="http://127.0.0.1:{port}/token""#);
        Some(Reply { status: 401, headers: vec![("WWW-Authenticate", challenge)], ..Reply::default() })
    });
    let error = pull_here(&folder.store(), &server.reference("app")).unwrap_err();
    assert!(error.to_string().ends_with("it does not exist or needs a login"), "{error}");
}

#[test]
fn failures_that_pass_are_tried_again_and_limits_are_explained() {
    let (server, folder, path) = hostile();
    let wanted = path.clone();
    server.rule(move |request, before| {
        let busy = Reply { status: 429, headers: vec![("Retry-After", "0".into())], ..Reply::default() };
        match (request.path.contains("/manifests/"), before) {
            (true, 0) => Some(Reply { status: 503, ..Reply::default() }),
            (true, 1) => Some(busy),
            (false, 0) if request.path == wanted => Some(Reply { status: 500, ..Reply::default() }),
            _ => None,
        }
    });
    pull_here(&folder.store(), &server.reference("app")).unwrap();
    server.state.lock().unwrap().rules.clear();
    server.rule(|_, _| Some(Reply { status: 429, headers: vec![("Retry-After", "3600".into())], ..Reply::default() }));
    let begun = Instant::now();
    let error = pull_here(&folder.store(), &server.reference("app")).unwrap_err();
    assert!(matches!(error, Error::RateLimited { retry_after_seconds: Some(3600), .. }), "{error}");
    let hint = crate::base::error::Explain::hint(&error).unwrap();
    assert!(hint.contains("3600 s") && hint.contains("log in"), "{hint}");
    assert!(begun.elapsed() < Duration::from_secs(20));
}

#[test]
fn what_is_no_image_for_us_is_refused_with_the_reason() {
    let (server, folder, _) = hostile();
    let config = descriptor(b"{}", "application/vnd.oci.image.config.v1+json");
    let foreign = descriptor(b"x", "application/vnd.docker.image.rootfs.foreign.diff.tar.gzip");
    let artifact = descriptor(b"{}", "application/vnd.cncf.helm.config.v1+json");
    for (manifest, reason) in [
        (serde_json::json!({"schemaVersion": 1, "name": "x", "fsLayers": []}).to_string(), "schema version 1"),
        (serde_json::json!({"schemaVersion": 2, "config": config, "layers": [foreign]}).to_string(), "foreign"),
        (serde_json::json!({"schemaVersion": 2, "config": artifact, "layers": []}).to_string(), "artifact of type"),
        ("<html>".to_owned(), "cannot understand the manifest"),
        ("[".repeat(100_000), "cannot understand the manifest"),
        (" ".repeat(5 << 20), "more than it should"),
    ] {
        server.state.lock().unwrap().rules.clear();
        server.rule(move |_, _| Some(ok(manifest.clone().into_bytes())));
        let error = pull_here(&folder.store(), &server.reference("app")).unwrap_err();
        assert!(error.to_string().contains(reason), "{error}");
    }
    server.state.lock().unwrap().rules.clear();
    server.rule(|_, _| Some(Reply { status: 302, headers: vec![("Location", "/again".into())], ..Reply::default() }));
    let error = pull_here(&folder.store(), &server.reference("app")).unwrap_err();
    assert!(error.to_string().contains("too many redirects"), "{error}");
    let digest = Digest::of(b"another");
    let error = pull_here(&folder.store(), &format!("127.0.0.1:{}/app@{digest}", server.port).parse().unwrap());
    assert!(error.is_err());
}

#[test]
fn a_mirror_that_does_not_have_it_is_passed_over() {
    let (server, folder, path) = hostile();
    let empty = Hostile::start();
    let closed = TcpListener::bind("127.0.0.1:0").unwrap().local_addr().unwrap().port();
    let settings = format!(
        r#"{{"127.0.0.1:{}": {{"mirrors": ["http://127.0.0.1:{closed}", "http://127.0.0.1:{}"]}}}}"#,
        server.port, empty.port
    );
    let config: Config = serde_json::from_str(&settings).unwrap();
    let reference = server.reference("app");
    pull_patiently(&folder.store(), &reference, &always(), &Silent, impatient(), Some(config)).unwrap();
    assert_eq!(empty.requests("/v2/app/manifests/latest").len(), 1);
    assert_eq!(server.requests(&path).len(), 1);
}

/// Run by the test below in a process of its own, which is killed; does nothing otherwise.
#[test]
fn child_that_pulls() {
    let Some(arguments) = std::env::var_os("WHARF_TEST_PULL") else { return };
    let arguments = arguments.into_string().unwrap();
    let (root, reference) = arguments.split_once(' ').unwrap();
    let root = std::path::Path::new(root);
    let store = Store::open(&crate::base::paths::Paths::new(root.join("root"), root.join("run"))).unwrap();
    let patient = Timing { stall: Duration::from_secs(60), ..impatient() };
    drop(pull_patiently(&store, &reference.parse().unwrap(), &always(), &Silent, patient, Some(Config::default())));
}

#[test]
fn a_killed_command_leaves_only_what_the_next_one_goes_on_with() {
    let (server, folder, path) = hostile();
    let wanted = path.clone();
    let body = server.state.lock().unwrap().content[&path].0.clone();
    let half = body.len() / 2;
    server.rule(move |request, before| {
        let first = request.path == wanted && before == 0;
        first.then(|| Reply { stall: Some(half), ..ok(body.clone()) })
    });
    let reference = server.reference("app");
    let mut child = std::process::Command::new(std::env::current_exe().unwrap())
        .args(["--exact", "image::pull_tests::child_that_pulls"])
        .env("WHARF_TEST_PULL", format!("{} {reference}", folder.path().display()))
        .stdout(std::process::Stdio::null())
        .spawn()
        .unwrap();
    let store = folder.store();
    let digest: Digest = path.rsplit('/').next().unwrap().parse().unwrap();
    let spool = store.paths().root.join("spool").join(digest.hex());
    let deadline = Instant::now() + Duration::from_secs(30);
    while std::fs::metadata(&spool).map_or(0, |metadata| metadata.len()) < half as u64 {
        assert!(Instant::now() < deadline, "the child downloads nothing");
        std::thread::sleep(Duration::from_millis(10));
    }
    // While it lives, what it makes is not swept.
    store.sweep_leftovers().unwrap();
    assert!(entries(&store, "tmp") > 0);
    child.kill().unwrap();
    child.wait().unwrap();
    assert_eq!(entries(&store, "images"), 0);
    pull_here(&store, &reference).unwrap();
    assert_eq!(server.requests(&path).pop().unwrap().headers["range"], format!("bytes={half}-"));
    for name in ["tmp", "spool", "trash"] {
        assert_eq!(entries(&store, name), 0, "{name}");
    }
}

/// A small file system that is full soon; unmounted when dropped.
struct SmallDisk(std::path::PathBuf);

impl Drop for SmallDisk {
    fn drop(&mut self) {
        let _gone_with_the_namespace = rustix::mount::unmount(&self.0, rustix::mount::UnmountFlags::DETACH);
    }
}

#[test]
fn a_full_disk_is_named_and_leaves_no_image() {
    let server = Hostile::start();
    server.serve("app", &Pushed::new(&[(layer(1, 8_000_000), "gzip")]));
    let folder = Folder::new();
    let root = folder.path().join("root");
    std::fs::create_dir(&root).unwrap();
    let flags = rustix::mount::MountFlags::empty();
    rustix::mount::mount("tmpfs", &root, "tmpfs", flags, c"size=6m").unwrap();
    let disk = SmallDisk(root);
    let store = folder.store();
    let error = pull_here(&store, &server.reference("app")).unwrap_err();
    let hint = crate::base::error::Explain::hint(&error).unwrap_or_default();
    assert!(hint.contains("free disk space"), "{error}: {hint}");
    for name in ["tmp", "trash", "layers", "images"] {
        assert_eq!(entries(&store, name), 0, "{name}");
    }
    drop(disk);
}

#[test]
fn an_image_whose_layers_came_in_another_compression_can_be_pushed() {
    let registry = Registry::start();
    let archive = layer(1, 10_000);
    registry.push("first", "1", &Pushed::new(&[(archive.clone(), "gzip")]));
    let platform = Platform { variant: Some("v1".into()), ..Platform::host() };
    registry.push("second", "1", &Pushed::of_platform(&[(archive, "zstd")], &platform));
    let folder = Folder::new();
    let store = folder.store();
    pull_here(&store, &registry.reference("first:1")).unwrap();
    let second = pull_here(&store, &registry.reference("second:1")).unwrap();
    let third = registry.reference("third:1");
    store.images().tag(&third, &second.id).unwrap();
    super::push::push_with(&store, &third, None, &Silent, impatient(), &Config::default()).unwrap();
    let other = Folder::new();
    assert_eq!(pull_here(&other.store(), &third).unwrap().id, second.id);
    assert_eq!(check(&store).unwrap().damages, []);
}
