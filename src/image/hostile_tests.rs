//! A table of what a hostile registry may send: each is refused with a reason, in bounded time, and nothing stays.

use std::time::{Duration, Instant};

use super::pull::pull_patiently;
use super::registry::{Config, Timing};
use super::test_registries::{Hostile, INDEX, MANIFEST, Pushed, Reply, descriptor, gzip, layer};
use super::unpack_tests::Archive;
use super::*;
use crate::base::id::Digest;
use crate::model::event::Silent;
use crate::store::Store;
use crate::store::testing::Folder;

/// The longest that a refusal may take on a machine that is busy.
const PATIENCE: Duration = Duration::from_secs(20);

fn refusal(store: &Store, server: &Hostile) -> String {
    let timing = Timing {
        connect: Duration::from_secs(5),
        stall: Duration::from_millis(300),
        pause: Duration::from_millis(1),
        attempts: 2,
    };
    let options = PullOptions { policy: PullPolicy::Always, ..PullOptions::default() };
    let begun = Instant::now();
    let reference = server.reference("app");
    let error = pull_patiently(store, &reference, &options, &Silent, timing, Some(Config::default())).unwrap_err();
    assert!(begun.elapsed() < PATIENCE, "{:?}: {error}", begun.elapsed());
    std::iter::successors(Some(&error as &dyn std::error::Error), |error| error.source())
        .map(ToString::to_string)
        .collect::<Vec<_>>()
        .join(": ")
}

fn expect_nothing(store: &Store, what: &str) {
    for name in ["tmp", "trash", "layers", "images", "refs", "blobs/sha256", "spool"] {
        let left = std::fs::read_dir(store.paths().root.join(name)).unwrap().count();
        assert_eq!(left, 0, "{what}: {name}");
    }
}

/// An image whose only layer has these bytes, whatever they are.
fn of_layer(archive: Vec<u8>) -> Hostile {
    let server = Hostile::start();
    server.serve("app", &Pushed::new(&[(archive, "gzip")]));
    server
}

fn zeros(mebibytes: usize) -> impl std::io::Read {
    std::io::Read::take(std::io::repeat(0), (mebibytes as u64) << 20)
}

#[test]
fn layers_that_climb_out_or_explode_are_refused() {
    let empty = Archive::default;
    let link = tar::EntryType::Symlink;
    let hard = tar::EntryType::Link;
    let file = tar::EntryType::Regular;
    let deep = "d/".repeat(300);
    let mut cut = layer(1, 100_000);
    cut.truncate(60_000);
    for (what, archive, reason) in [
        ("dots", empty().entry(file, "../victim", "", b"x"), ".."),
        ("dots within", empty().entry(file, "a/../../victim", "", b"x"), ".."),
        ("through a link", empty().entry(link, "out", "/tmp", b"").entry(file, "out/victim", "", b"x"), "link"),
        ("hard link out", empty().entry(hard, "x", "../../etc/passwd", b""), ".."),
        ("absolute hard link", empty().entry(hard, "x", "/etc/passwd", b""), "not in this archive"),
        (
            "through links",
            empty().entry(link, "l", "..", b"").entry(hard, "x", "l/etc/passwd", b""),
            "not in this archive",
        ),
        ("links in a loop", empty().entry(link, "a", "b", b"").entry(link, "b", "a", b"").file("a/x", "x"), "loop"),
        ("depth", empty().pax(&[("path", &format!("{deep}file"))]).file("file", "x"), "deep"),
        ("no archive", Archive(b"MZ this is no archive at all, whatever its name may say".repeat(40)), "damaged"),
        ("cut", Archive(cut), ""),
    ] {
        let folder = Folder::new();
        let store = folder.store();
        let bytes = if what == "cut" || what == "no archive" { archive.0 } else { archive.bytes() };
        let reason_given = refusal(&store, &of_layer(bytes));
        assert!(reason_given.contains(reason), "{what}: {reason_given}");
        expect_nothing(&store, what);
        assert!(!folder.path().join("root/tmp/victim").exists() && !std::path::Path::new("/tmp/victim").exists());
    }
}

#[test]
fn a_layer_that_inflates_beyond_reason_is_refused() {
    // To a tar reader these are blocks that end an archive, one after the other.
    let mut encoder = zstd::stream::write::Encoder::new(Vec::new(), 1).unwrap();
    std::io::copy(&mut zeros(1100), &mut encoder).unwrap();
    let bomb = encoder.finish().unwrap();
    let server = of_layer(layer(1, 10));
    let (wanted, length) = (server.layer_path(), bomb.len());
    let digest = Digest::of(&bomb);
    let config = {
        let state = server.state.lock().unwrap();
        let found = state.content.iter().find(|(path, _)| path.contains("/blobs/") && **path != wanted);
        found.unwrap().1.0.clone()
    };
    let manifest = serde_json::json!({
        "schemaVersion": 2,
        "mediaType": MANIFEST,
        "config": descriptor(&config, "application/vnd.oci.image.config.v1+json"),
        "layers": [{"mediaType": "application/vnd.oci.image.layer.v1.tar+zstd", "digest": digest, "size": length}],
    });
    server.serve("app", &Pushed { manifest: manifest.to_string().into_bytes(), blobs: vec![config, bomb] });
    let folder = Folder::new();
    let store = folder.store();
    let reason = refusal(&store, &server);
    assert!(reason.contains("times its size"), "{reason}");
    expect_nothing(&store, "a bomb");
}

#[test]
fn documents_that_lie_are_refused() {
    let config = descriptor(b"{}", "application/vnd.oci.image.config.v1+json");
    let one = descriptor(b"x", "application/vnd.oci.image.layer.v1.tar");
    let image = |layers: &serde_json::Value| serde_json::json!({"schemaVersion": 2, "mediaType": MANIFEST, "config": config, "layers": layers});
    let index = |manifests: serde_json::Value| serde_json::json!({"schemaVersion": 2, "mediaType": INDEX, "manifests": manifests});
    let mut huge = one.clone();
    huge["size"] = u64::MAX.into();
    let mut negative = one.clone();
    negative["size"] = (-1).into();
    let mut sha512 = one.clone();
    sha512["digest"] = format!("sha512:{}", "a".repeat(128)).into();
    let mut climbing = one.clone();
    climbing["digest"] = "sha256:../../../../etc/passwd".into();
    let mut large_config = image(&serde_json::json!([]));
    large_config["config"]["size"] = (1u64 << 30).into();
    let many: Vec<_> = std::iter::repeat_n(one.clone(), 501).collect();
    let nested = descriptor(index(serde_json::json!([])).to_string().as_bytes(), INDEX);
    for (what, document, reason) in [
        ("too many layers", image(&serde_json::json!(many)), "501 layers"),
        ("another number of layers", image(&serde_json::json!([one])), "disagree"),
        ("a huge layer", image(&serde_json::json!([huge])), "disagree"),
        ("a negative size", image(&serde_json::json!([negative])), "cannot understand"),
        ("another algorithm", image(&serde_json::json!([sha512])), ""),
        ("a digest that is a path", image(&serde_json::json!([climbing])), ""),
        ("a config of 1 GiB", large_config, "4 MiB"),
        ("an empty index", index(serde_json::json!([])), "no image for"),
        ("an index of indexes", index(serde_json::json!([nested])), "an index refers to an index"),
        ("null", serde_json::Value::Null, "cannot understand"),
        ("a list", serde_json::json!([1, 2]), "cannot understand"),
    ] {
        let server = Hostile::start();
        {
            let mut state = server.state.lock().unwrap();
            let mut put = |kind: &str, name: &str, content: &[u8]| {
                state.content.insert(format!("/v2/app/{kind}/{name}"), (content.to_vec(), "application/json"));
            };
            put("manifests", "latest", document.to_string().as_bytes());
            put("blobs", Digest::of(b"{}").as_str(), b"{}");
            let empty = index(serde_json::json!([])).to_string();
            put("manifests", Digest::of(empty.as_bytes()).as_str(), empty.as_bytes());
        }
        let folder = Folder::new();
        let store = folder.store();
        let given = refusal(&store, &server);
        assert!(given.contains(reason), "{what}: {given}");
        expect_nothing(&store, what);
    }
}

/// An index cannot contain its own digest, but a server may answer every request with it.
#[test]
fn an_index_that_points_at_itself_ends() {
    let server = Hostile::start();
    let itself = descriptor(b"whatever", INDEX);
    let index = serde_json::json!({"schemaVersion": 2, "mediaType": INDEX, "manifests": [itself]}).to_string();
    server.rule(move |_, _| Some(Reply { status: 200, body: index.clone().into_bytes(), ..Reply::default() }));
    let folder = Folder::new();
    let store = folder.store();
    assert!(refusal(&store, &server).contains("another digest"));
    assert_eq!(server.state.lock().unwrap().requests.len(), 2);
    expect_nothing(&store, "an index of itself");
}

#[test]
fn a_manifest_of_a_gigabyte_is_not_read() {
    for announced in [true, false] {
        let server = Hostile::start();
        server.rule(move |_, _| {
            // What announces nothing says so in chunks of its own making.
            let body = if announced {
                vec![b' '; 1 << 20]
            } else {
                [b"100000\r\n", [b' '; 1 << 20].as_slice(), b"\r\n"].concat()
            };
            let headers = if announced { Vec::new() } else { vec![("Transfer-Encoding", "chunked".to_owned())] };
            Some(Reply { status: 200, headers, body, again: 1023, ..Reply::default() })
        });
        let folder = Folder::new();
        let store = folder.store();
        assert!(refusal(&store, &server).contains("more than it should"));
        // What the kernel keeps for both sides comes on top of the 4 MiB.
        let sent = server.state.lock().unwrap().sent_bytes;
        assert!(sent < 32 << 20, "{sent} bytes were taken");
        expect_nothing(&store, "a large manifest");
    }
}

#[test]
fn what_only_drips_is_given_up() {
    let drip = Some(Duration::from_millis(60));
    let body = vec![b' '; 100_000];
    let server = Hostile::start();
    let slow = body.clone();
    server.rule(move |_, _| Some(Reply { status: 200, body: slow.clone(), drip, ..Reply::default() }));
    let folder = Folder::new();
    let store = folder.store();
    assert!(refusal(&store, &server).contains("sent nothing for"));
    let server = of_layer(layer(1, 100_000));
    let wanted = server.layer_path();
    server.rule(move |request, _| {
        (request.path == wanted).then(|| Reply { status: 200, body: body.clone(), drip, ..Reply::default() })
    });
    assert!(refusal(&store, &server).contains("sent nothing for"));
    for name in ["tmp", "layers", "images", "refs"] {
        assert_eq!(std::fs::read_dir(store.paths().root.join(name)).unwrap().count(), 0, "{name}");
    }
}

#[test]
fn ranges_that_lie_are_noticed() {
    let content = layer(1, 200_000);
    let blob = gzip(&content);
    let half = blob.len() / 2;
    let lie = |range: &str, from: usize| Reply {
        status: 206,
        headers: vec![("Content-Range", range.to_owned())],
        body: blob[from..].to_vec(),
        ..Reply::default()
    };
    for (what, second) in [
        ("a later range", lie(&format!("bytes {}-", half + 10), half + 10)),
        ("no range", Reply { status: 206, body: blob[half..].to_vec(), ..Reply::default() }),
        ("not a number", lie("bytes x-y/z", half)),
        ("bytes of elsewhere", lie(&format!("bytes {half}-{}/{}", blob.len() - 1, blob.len()), 0)),
    ] {
        let server = of_layer(content.clone());
        let wanted = server.layer_path();
        let first = Reply { status: 200, body: blob.clone(), cut: Some(half), ..Reply::default() };
        server.rule(move |request, before| {
            let reply = if before == 0 { &first } else { &second };
            (request.path == wanted).then(|| reply.clone())
        });
        let folder = Folder::new();
        let store = folder.store();
        let given = refusal(&store, &server);
        // Wrong bytes may end the unpacking before the digest of all of them is known.
        let is_refused = given.contains("is not what the registry sent") || given.contains("corrupt deflate");
        assert!(is_refused, "{what}: {given}");
        expect_nothing(&store, what);
    }
}

/// The registry sends us to another host, which asks for the password that is meant for the registry.
#[test]
fn a_host_that_we_are_sent_to_gets_no_login() {
    let server = of_layer(layer(1, 1000));
    let other = Hostile::start();
    let port = other.port;
    other.rule(move |_, _| {
        let challenge = format!(r#"Bearer realm="http://127.0.0.1:{port}/token""#);
        Some(Reply { status: 401, headers: vec![("WWW-Authenticate", challenge)], ..Reply::default() })
    });
    let wanted = server.layer_path();
    server.rule(move |request, _| {
        let target = format!("http://127.0.0.1:{port}/blob");
        (request.path == wanted).then(|| Reply { status: 307, headers: vec![("Location", target)], ..Reply::default() })
    });
    let folder = Folder::new();
    let store = folder.store();
    let given = refusal(&store, &server);
    assert!(given.contains("a redirect to a host that asks for a login"), "{given}");
    let asked = other.state.lock().unwrap().requests.clone();
    assert!(asked.iter().all(|request| request.path == "/blob"), "{asked:?}");
}
