//! Builds that are really executed, as root, on a base made of the host's static busybox. No network is needed.
//!
//! Each test has a store of its own in a temporary folder and leaves nothing behind.

use std::os::unix::fs::{MetadataExt, PermissionsExt, symlink};
use std::path::{Path, PathBuf};
use std::sync::Mutex;

use wharf::base::error::Explain;
use wharf::base::paths::Paths;
use wharf::build::{BuildNetwork, BuildRequest, DockerfileSource, Error, build};
use wharf::image::{ImportOptions, import};
use wharf::model::event::{Event, EventStatus, Progress};
use wharf::model::image::Image;
use wharf::store::Store;

/// A store with the image `busybox`, and a build context.
struct Bench {
    folder: PathBuf,
    store: Store,
    events: Mutex<Vec<Event>>,
}

impl Progress for Bench {
    fn report(&self, event: Event) {
        self.events.lock().expect("no test panics while it reports").push(event);
    }
}

impl Bench {
    fn new() -> Self {
        let folder = std::env::temp_dir().join(format!("wharf-build-{}", wharf::base::id::random_hex(6)));
        std::fs::create_dir_all(folder.join("context")).expect("a context");
        let store = Store::open(&Paths::new(folder.join("root"), folder.join("run"))).expect("a store");
        let mut archive = base_archive();
        let options = ImportOptions { reference: Some("busybox".parse().expect("a name")), ..ImportOptions::default() };
        import(&store, &mut archive.as_slice(), &options).expect("the base image");
        archive.clear();
        Self { folder, store, events: Mutex::default() }
    }

    fn path(&self, name: &str) -> PathBuf {
        self.folder.join("context").join(name)
    }

    fn write(&self, name: &str, content: &str) {
        let path = self.path(name);
        std::fs::create_dir_all(path.parent().expect("a folder")).expect("the folder");
        std::fs::write(path, content).expect("the file");
    }

    fn request(&self, dockerfile: &str) -> BuildRequest {
        let mut request = BuildRequest::new(self.folder.join("context"));
        request.dockerfile = DockerfileSource::Inline(dockerfile.to_owned());
        request.network = BuildNetwork::None;
        request
    }

    fn try_build(&self, dockerfile: &str) -> Result<Image, Error> {
        self.events.lock().expect("no test panics while it reports").clear();
        build(&self.store, &self.request(dockerfile), self)
    }

    fn build(&self, dockerfile: &str) -> Image {
        self.try_build(dockerfile).unwrap_or_else(|error| panic!("{}", told(&error)))
    }

    /// How many steps were taken from the cache and how many were done.
    fn counts(&self) -> (usize, usize) {
        let events = self.events.lock().expect("no test panics while it reports");
        let done = |cached: bool| {
            let steps = events.iter().filter(|event| event.parent.is_some() && event.status == EventStatus::Done);
            steps.filter(|event| (event.text == "CACHED") == cached).count()
        };
        (done(true), done(false))
    }

    fn output(&self) -> Vec<String> {
        let events = self.events.lock().expect("no test panics while it reports");
        events.iter().filter(|event| event.status == EventStatus::Output).map(|event| event.text.clone()).collect()
    }

    /// A file of an image: that of the top-most layer that has it.
    fn file(&self, image: &Image, name: &str) -> Option<PathBuf> {
        let layers = image.layers.iter().rev();
        layers
            .map(|layer| self.store.layers().path(&layer.diff_id).join("fs").join(name))
            .chain(image.layers.iter().rev().map(|layer| self.store.layers().path(&layer.diff_id).join(name)))
            .find(|path| path.symlink_metadata().is_ok())
    }

    fn text(&self, image: &Image, name: &str) -> String {
        let path = self.file(image, name).unwrap_or_else(|| panic!("{name} is not in the image"));
        std::fs::read_to_string(path).expect("the file is text")
    }
}

impl Drop for Bench {
    fn drop(&mut self) {
        // The default network is made by the first step that needs it, and stays.
        let host = wharf::net::Host::new(self.store.paths());
        for network in self.store.networks().list().unwrap_or_default() {
            drop(wharf::net::network::remove(&host, &network));
        }
        drop(wharf::net::firewall::remove(&host));
        // Groups of steps are removed by the build; their parent is the store's.
        let parent = self.store.paths().instance();
        for hierarchy in std::fs::read_dir("/sys/fs/cgroup").into_iter().flatten().flatten() {
            drop(std::fs::remove_dir(hierarchy.path().join(&parent)));
        }
        drop(std::fs::remove_dir(Path::new("/sys/fs/cgroup").join(&parent)));
        drop(std::fs::remove_dir_all(&self.folder));
    }
}

fn told(error: &Error) -> String {
    let mut text = error.to_string();
    let mut source = std::error::Error::source(error);
    while let Some(cause) = source {
        text.push_str(&format!(": {cause}"));
        source = cause.source();
    }
    text
}

/// A root file system with the host's static busybox under the names that the tests use.
fn base_archive() -> Vec<u8> {
    let busybox = std::fs::read("/bin/busybox").expect("/bin/busybox (Debian's busybox-static)");
    let mut archive = tar::Builder::new(Vec::new());
    let mut add = |name: &str, kind: tar::EntryType, mode: u32, content: &[u8], link: Option<&str>| {
        let mut header = tar::Header::new_gnu();
        header.set_entry_type(kind);
        header.set_mode(mode);
        header.set_uid(0);
        header.set_gid(0);
        header.set_mtime(0);
        header.set_size(content.len() as u64);
        match link {
            Some(link) => archive.append_link(&mut header, name, link).expect("a link"),
            None => archive.append_data(&mut header, name, content).expect("an entry"),
        }
    };
    for folder in ["bin/", "etc/", "tmp/"] {
        add(folder, tar::EntryType::Directory, 0o755, b"", None);
    }
    add("bin/busybox", tar::EntryType::Regular, 0o755, &busybox, None);
    for name in ["sh", "cat", "echo", "ls", "mkdir", "touch", "id", "sleep", "rm", "test", "stat", "true", "ln", "env"]
    {
        add(&format!("bin/{name}"), tar::EntryType::Symlink, 0o777, b"", Some("busybox"));
    }
    add("etc/passwd", tar::EntryType::Regular, 0o644, b"root:x:0:0::/root:/bin/sh\nweb:x:33:34::/:/bin/sh\n", None);
    add("etc/group", tar::EntryType::Regular, 0o644, b"root:x:0:\nweb:x:34:\nstaff:x:50:\n", None);
    archive.into_inner().expect("a finished archive")
}

#[test]
fn a_build_of_several_stages_runs_commands_and_copies_their_results() {
    let bench = Bench::new();
    bench.write("greeting", "hello\n");
    let image = bench.build(
        "FROM busybox AS made\nWORKDIR /work\nCOPY greeting .\nENV WHO=world\nRUN cat greeting > out && echo $WHO >> out\n\
         FROM busybox AS unused\nRUN false\n\
         FROM busybox\nCOPY --from=made --chown=web:staff --chmod=640 /work/out /result/\nUSER web\nRUN id > /tmp/id || id\n\
         CMD [\"cat\", \"/result/out\"]\n",
    );
    assert_eq!(bench.text(&image, "result/out"), "hello\nworld\n");
    let metadata = bench.file(&image, "result/out").expect("copied").metadata().expect("metadata");
    assert_eq!((metadata.uid(), metadata.gid(), metadata.mode() & 0o7777), (33, 50, 0o640));
    assert_eq!(bench.output().last().map(String::as_str), Some("uid=33(web) gid=34(web) groups=34(web)"));
    assert_eq!(image.config.config.cmd.as_deref(), Some(&["cat".to_owned(), "/result/out".to_owned()][..]));
    assert_eq!(image.config.rootfs.diff_ids.len(), image.config.history.iter().filter(|h| !h.empty_layer).count());
}

#[test]
fn what_did_not_change_is_taken_from_the_cache_by_content() {
    let bench = Bench::new();
    bench.write("app/one", "1");
    bench.write("app/two", "2");
    let dockerfile = "FROM busybox\nRUN mkdir /before\nCOPY app /app\nRUN cat /app/one /app/two > /sum\n";
    let first = bench.build(dockerfile);
    assert_eq!(bench.counts(), (0, 3));
    assert_eq!(bench.build(dockerfile).id, first.id, "nothing changed");
    assert_eq!(bench.counts(), (3, 0));

    // Another time, the same content: nothing to do.
    let touched = std::fs::File::options().append(true).open(bench.path("app/one")).expect("the file");
    touched.set_modified(std::time::SystemTime::UNIX_EPOCH).expect("touched");
    assert_eq!(bench.build(dockerfile).id, first.id);
    assert_eq!(bench.counts(), (3, 0));

    // The same length and the same time, other content.
    bench.write("app/one", "9");
    touched.set_modified(std::time::SystemTime::UNIX_EPOCH).expect("touched");
    let changed = bench.build(dockerfile);
    assert_eq!(bench.counts(), (1, 2));
    assert_eq!(bench.text(&changed, "sum"), "92");

    std::fs::set_permissions(bench.path("app/two"), std::fs::Permissions::from_mode(0o755)).expect("chmod");
    bench.build(dockerfile);
    assert_eq!(bench.counts().0, 1, "a mode is content");

    let mut request = bench.request(dockerfile);
    request.no_cache = true;
    bench.events.lock().expect("unpoisoned").clear();
    build(&bench.store, &request, &bench).expect("a build without cache");
    assert_eq!(bench.counts(), (0, 3));
}

#[test]
fn a_large_context_is_known_again_wherever_it_lies() {
    let bench = Bench::new();
    for number in 0..400 {
        bench.write(&format!("src/{}/{number}", number % 7), &format!("{number}\n").repeat(number % 50));
    }
    std::fs::hard_link(bench.path("src/1/1"), bench.path("src/1/again")).expect("a link");
    let dockerfile = "FROM busybox\nCOPY src /src\n";
    // The first time files are hashed while they are copied, then before.
    let first = bench.build(dockerfile);
    assert_eq!(bench.counts(), (0, 1));
    assert_eq!(bench.build(dockerfile).id, first.id);
    assert_eq!(bench.counts(), (1, 0));
    let other = Bench { folder: bench.folder.join("elsewhere"), store: bench.store.clone(), events: Mutex::default() };
    std::fs::create_dir_all(&other.folder).expect("a folder");
    let status = std::process::Command::new("cp")
        .arg("-a")
        .args([bench.folder.join("context"), other.folder.join("context")])
        .status();
    assert!(status.expect("cp is there").success());
    assert_eq!(other.build(dockerfile).id, first.id);
    assert_eq!(other.counts(), (1, 0));
    other.write("src/3/3", "changed");
    let changed = other.build(dockerfile);
    assert_eq!((other.counts(), other.text(&changed, "src/3/3").as_str()), ((0, 1), "changed"));
    std::mem::forget(other);
    let mut request = bench.request(dockerfile);
    request.no_cache = true;
    let anew = build(&bench.store, &request, &bench).expect("it builds");
    assert_eq!(anew.layers[1].size_bytes, first.layers[1].size_bytes);
}

#[test]
fn a_stage_made_anew_with_the_same_files_does_not_rebuild_what_copies_them() {
    let bench = Bench::new();
    let dockerfile = |word: &str| {
        format!(
            "FROM busybox AS made\nRUN : {word}; echo fixed > /file; date > /noise || touch /noise\nFROM busybox\nCOPY --from=made /file /file\n"
        )
    };
    let first = bench.build(&dockerfile("one"));
    let second = bench.build(&dockerfile("two"));
    assert_eq!(bench.counts(), (1, 1), "the copied file is the same");
    assert_eq!(first.id, second.id);
}

#[test]
fn a_failing_command_tells_its_line_code_and_output() {
    let bench = Bench::new();
    let error = bench.try_build("FROM busybox\nRUN echo fine\nRUN echo oh no; \\\n    exit 3\n").expect_err("it fails");
    assert_eq!(error.excerpts().first().map(|excerpt| excerpt.location.line), Some(3));
    let text = told(&error);
    assert!(text.contains("exit code 3") && text.contains("oh no"), "{text}");
    // What was done before the failure is kept.
    drop(bench.try_build("FROM busybox\nRUN echo fine\nRUN exit 4\n"));
    assert_eq!(bench.counts(), (1, 0));
    let missing = bench.try_build("FROM busybox\nRUN [\"/no/such/program\"]\n").expect_err("it is not there");
    assert!(told(&missing).contains("/no/such/program"), "{}", told(&missing));
}

#[test]
fn copies_follow_the_rules_for_folders_links_wildcards_and_ignored_files() {
    let bench = Bench::new();
    for (name, content) in [
        ("tree/a/x.txt", "ax"),
        ("tree/a/y.md", "ay"),
        ("tree/b/x.txt", "bx"),
        ("tree/b/secret", "no"),
        ("single", "s"),
        ("noise.log", "n"),
        (".dockerignore", "*.log\ntree/*/secret\n"),
    ] {
        bench.write(name, content);
    }
    symlink("../../../../etc/passwd", bench.path("tree/a/link")).expect("a link");
    symlink("tree/a", bench.path("to-a")).expect("a link");
    std::fs::hard_link(bench.path("single"), bench.path("tree/again")).expect("a second name");
    std::fs::hard_link(bench.path("single"), bench.path("tree/b/again")).expect("a third name");
    let image = bench.build(
        "FROM busybox\nCOPY tree /merged\nCOPY tree/a single /merged/\nCOPY to-a /followed\nCOPY tree/*/x.txt /last/\n\
         COPY --exclude=**/*.md --parents tree/a /parents/\nCOPY none*such /nowhere\nWORKDIR /deep/down\nCOPY single renamed\n\
         RUN ln -s /merged /alias\nCOPY noise.* single /alias/sub/\n",
    );
    assert_eq!(bench.text(&image, "merged/x.txt"), "ax");
    assert_eq!(bench.text(&image, "merged/single"), "s");
    assert_eq!(bench.text(&image, "merged/a/y.md"), "ay");
    assert_eq!(bench.text(&image, "followed/y.md"), "ay");
    assert_eq!(bench.text(&image, "last/x.txt"), "bx", "the later match wins");
    assert_eq!(bench.text(&image, "deep/down/renamed"), "s");
    assert_eq!(bench.text(&image, "merged/sub/single"), "s", "a link in the destination is followed");
    assert_eq!(bench.text(&image, "parents/tree/a/x.txt"), "ax");
    for absent in ["merged/b/secret", "parents/tree/a/y.md", "nowhere", "merged/sub/noise.log", "parents/tree/b"] {
        assert!(bench.file(&image, absent).is_none(), "{absent}");
    }
    let link = std::fs::read_link(bench.file(&image, "merged/a/link").expect("a link")).expect("a link");
    assert_eq!(link, Path::new("../../../../etc/passwd"), "links are copied as they are");
    let inode = |name: &str| bench.file(&image, name).expect("copied").metadata().expect("metadata").ino();
    assert_eq!(inode("merged/again"), inode("merged/b/again"), "two names of one file stay so");
    assert_ne!(inode("merged/again"), std::fs::metadata(bench.path("single")).expect("metadata").ino());

    for (dockerfile, says) in [
        ("FROM scratch\nCOPY gone /\n", "`gone` does not exist"),
        ("FROM scratch\nCOPY noise.log /\n", "does not exist"),
        ("FROM scratch\nCOPY single /x\nCOPY tree /x\n", "no folder"),
        ("FROM scratch\nCOPY tree/a /single/single\nCOPY single /\nCOPY single /\n", "cannot replace the folder"),
        ("FROM busybox\nCOPY --chown=nobody-knows single /\n", "nobody-knows"),
        ("FROM scratch\nCOPY ../../../etc/passwd /\n", "does not exist"),
    ] {
        let text = told(&bench.try_build(dockerfile).expect_err(dockerfile));
        assert!(text.contains(says), "{dockerfile}: {text}");
    }
    let hidden = bench.try_build("FROM scratch\nCOPY noise.log /\n").expect_err("it is hidden");
    assert!(hidden.hint().is_some_and(|hint| hint.contains(".dockerignore")), "{:?}", hidden.hint());
}

#[test]
fn archives_are_unpacked_by_add_and_stay_below_their_destination() {
    let bench = Bench::new();
    let mut archive = tar::Builder::new(flate2::write::GzEncoder::new(Vec::new(), flate2::Compression::fast()));
    let mut header = tar::Header::new_gnu();
    header.set_mode(0o604);
    header.set_uid(7);
    header.set_gid(8);
    header.set_size(3);
    header.set_mtime(1_000_000_000);
    archive.append_data(&mut header, "folder/file", &b"abc"[..]).expect("an entry");
    let mut link = tar::Header::new_gnu();
    link.set_entry_type(tar::EntryType::Symlink);
    link.set_size(0);
    link.set_uid(0);
    link.set_gid(0);
    archive.append_link(&mut link, "out", "/etc").expect("a link");
    archive.append_data(&mut header, "out/planted", &b"bad"[..]).expect("an entry");
    let bytes = archive.into_inner().and_then(flate2::write::GzEncoder::finish).expect("an archive");
    std::fs::write(bench.path("data.bin"), bytes).expect("the archive");
    let image = bench.build("FROM busybox\nADD data.bin /dest\nCOPY data.bin /kept\n");
    assert_eq!(bench.text(&image, "dest/folder/file"), "abc");
    let metadata = bench.file(&image, "dest/folder/file").expect("unpacked").metadata().expect("metadata");
    assert_eq!(
        (metadata.uid(), metadata.gid(), metadata.mode() & 0o7777, metadata.mtime()),
        (7, 8, 0o604, 1_000_000_000)
    );
    assert!(bench.file(&image, "etc/planted").is_none(), "the link leads to /dest/etc");
    assert_eq!(bench.text(&image, "dest/etc/planted"), "bad");
    assert!(bench.file(&image, "kept").is_some_and(|path| path.is_file()));

    // Other compressions are told by their content, too; what is compressed but no archive is copied as it is.
    let mut plain = tar::Builder::new(Vec::new());
    plain.append_data(&mut header, "inside", &b"abc"[..]).expect("an entry");
    let plain = plain.into_inner().expect("an archive");
    let mut bzip2 = bzip2::write::BzEncoder::new(Vec::new(), bzip2::Compression::fast());
    std::io::Write::write_all(&mut bzip2, &plain).expect("compressed");
    std::fs::write(bench.path("a.bz2"), bzip2.finish().expect("compressed")).expect("the archive");
    std::fs::write(bench.path("a.zst"), zstd::encode_all(plain.as_slice(), 1).expect("compressed"))
        .expect("the archive");
    std::fs::write(bench.path("text.zst"), zstd::encode_all(&b"text"[..], 1).expect("compressed")).expect("the file");
    let image = bench.build("FROM busybox\nADD a.bz2 /b\nADD a.zst /z\nADD text.zst /t/\n");
    assert_eq!((bench.text(&image, "b/inside"), bench.text(&image, "z/inside")), ("abc".into(), "abc".into()));
    assert!(bench.file(&image, "t/text.zst").is_some());
}

#[test]
fn heredocs_and_mounts_reach_commands_and_leave_nothing() {
    let bench = Bench::new();
    bench.write("input", "from the context\n");
    bench.write("token", "hush");
    let dockerfile = "FROM busybox\nRUN <<END\nset -e\necho one > /one\necho two > /two\nEND\n\
         RUN <<script\n#!/bin/cat\nscript\n\
         RUN --mount=target=/context,source=. --mount=type=tmpfs,target=/scratch --mount=type=cache,target=/cache \
         --mount=type=secret,id=token --mount=type=secret,id=token,env=TOKEN \
         cat /context/input /run/secrets/token && echo $TOKEN && touch /scratch/x && echo more >> /cache/log && cat /cache/log\n";
    let run = |no_cache: bool| {
        let mut request = bench.request(dockerfile);
        request.no_cache = no_cache;
        let source = wharf::build::SecretSource::File(bench.path("token"));
        request.secrets.insert("token".into(), source);
        bench.events.lock().expect("unpoisoned").clear();
        build(&bench.store, &request, &bench).unwrap_or_else(|error| panic!("{}", told(&error)))
    };
    let image = run(false);
    assert_eq!(bench.text(&image, "two"), "two\n");
    assert_eq!(bench.output(), ["#!/bin/cat", "from the context", "hushhush", "more"]);
    for absent in ["context", "scratch", "cache", "run", "dev", "proc", "sys", "etc/resolv.conf", "etc/hosts"] {
        assert!(bench.file(&image, absent).is_none(), "{absent} is only a mount point");
    }
    run(true);
    assert_eq!(bench.output().iter().filter(|line| *line == "more").count(), 2, "the cache is kept");
    for layer in &image.layers {
        let folder = bench.store.layers().path(&layer.diff_id);
        assert!(!holds(&folder, b"hush"), "the secret is in no layer");
    }
    assert!(!serde_json::to_string(&image.config).expect("json").contains("hush"));
}

fn holds(folder: &Path, wanted: &[u8]) -> bool {
    std::fs::read_dir(folder).into_iter().flatten().flatten().any(|entry| {
        let path = entry.path();
        let kind = entry.file_type().expect("a type");
        if kind.is_dir() {
            return holds(&path, wanted);
        }
        kind.is_file()
            && std::fs::read(&path)
                .is_ok_and(|bytes| bytes.len() < 4096 && bytes.windows(wanted.len()).any(|w| w == wanted))
    })
}

#[test]
fn deleted_files_are_gone_and_equal_layers_do_not_disturb() {
    let bench = Bench::new();
    let image = bench.build(
        "FROM busybox\nRUN echo x > /file\nRUN rm /file\nRUN test ! -e /file\nWORKDIR /same\nWORKDIR /same\nRUN ls /same\n",
    );
    assert_eq!(image.layers.len(), 7, "the base and six steps");
}

#[test]
fn two_builds_at_once_do_the_work_once() {
    let bench = Bench::new();
    let dockerfile = "FROM busybox\nRUN sleep 0.5; echo $$ > /pid\n";
    let ids: Vec<_> = std::thread::scope(|scope| {
        let threads: Vec<_> =
            (0..3).map(|_| scope.spawn(|| build(&bench.store, &bench.request(dockerfile), &bench))).collect();
        threads.into_iter().map(|thread| thread.join().expect("no panic").expect("a build").id).collect()
    });
    assert!(ids.iter().all(|id| *id == ids[0]));
    assert_eq!(bench.counts(), (2, 1));
}

#[test]
fn triggers_of_a_base_image_come_first_and_are_not_inherited() {
    let bench = Bench::new();
    bench.write("source", "s");
    let mut request = bench
        .request("FROM busybox\nONBUILD ARG MODE=plain\nONBUILD COPY source /src/\nONBUILD RUN echo $MODE > /mode\n");
    request.tags.push("builder:1".parse().expect("a name"));
    build(&bench.store, &request, &bench).expect("the base");
    let image = bench.build("FROM builder:1\nRUN cat /src/source /mode\n");
    assert_eq!(bench.text(&image, "mode"), "plain\n");
    assert!(image.config.config.on_build.is_empty());
}

#[test]
fn a_mounted_context_hides_what_is_ignored() {
    let bench = Bench::new();
    bench.write("src/seen", "s");
    bench.write("src/hidden.log", "h");
    bench.write(".dockerignore", "**/*.log\n");
    bench.build("FROM busybox\nRUN --mount=target=/all cat /all/src/seen && test ! -e /all/src/hidden.log\n");
    bench.build("FROM busybox\nRUN --mount=target=/part,source=src cat /part/seen && test ! -e /part/hidden.log\n");
}

#[test]
fn an_image_of_another_platform_is_not_taken_for_the_wanted_one() {
    let bench = Bench::new();
    let image = bench.store.images().find("busybox").expect("the base");
    // Nobody listens there: the pull fails at once, on this machine.
    let name = "127.0.0.1:9/base";
    bench.store.images().tag(&name.parse().expect("a name"), &image.id).expect("a tag");
    bench.build(&format!("FROM {name}\nRUN true\n"));
    let error =
        bench.try_build(&format!("FROM --platform=linux/s390x {name}\nRUN true\n")).expect_err("it is not here");
    assert!(matches!(error, Error::Image { .. }), "{}", told(&error));
    assert_eq!(error.excerpts().first().map(|excerpt| excerpt.location.column), Some(29));
}

#[test]
fn the_same_sources_make_the_same_digest_at_a_given_time() {
    let bench = Bench::new();
    bench.write("a", "a");
    let mut request =
        bench.request("FROM busybox\nARG SOURCE_DATE_EPOCH\nRUN mkdir /d; echo $SOURCE_DATE_EPOCH >/d/x\nCOPY a /d/\n");
    request.no_cache = true;
    request.args.insert("SOURCE_DATE_EPOCH".into(), Some("1700000000".into()));
    let build = || build(&bench.store, &request, &bench).unwrap_or_else(|error| panic!("{}", told(&error)));
    let (first, second) = (build(), build());
    assert_eq!(first.id, second.id);
    assert_eq!(first.config.created.as_deref(), Some("2023-11-14T22:13:20Z"));
    assert_eq!(bench.text(&first, "d/x"), "1700000000\n");
    for name in ["d", "d/x", "d/a"] {
        let path = bench.file(&first, name).expect("the file");
        assert_eq!(path.metadata().expect("metadata").mtime(), 1_700_000_000, "{name}");
    }
    request.args.insert("SOURCE_DATE_EPOCH".into(), Some("soon".into()));
    let error = wharf::build::build(&bench.store, &request, &bench).expect_err("not a time");
    assert!(told(&error).contains("invalid SOURCE_DATE_EPOCH: soon"), "{}", told(&error));
}

/// Serves the files below `folder` on a loopback port as long as the process lives; returns its address.
fn serve(folder: PathBuf) -> String {
    let listener = std::net::TcpListener::bind("127.0.0.1:0").expect("a port");
    let address = format!("http://{}", listener.local_addr().expect("its address"));
    std::thread::spawn(move || {
        for stream in listener.incoming().flatten() {
            drop(answer(stream, &folder));
        }
    });
    address
}

fn answer(mut stream: std::net::TcpStream, folder: &Path) -> std::io::Result<()> {
    use std::io::{BufRead, BufReader, Write};
    let mut lines = BufReader::new(stream.try_clone()?).lines();
    let first = lines.next().unwrap_or_else(|| Ok(String::new()))?;
    while lines.next().transpose()?.is_some_and(|line| !line.is_empty()) {}
    let path =
        first.split(' ').nth(1).unwrap_or_default().split('?').next().unwrap_or_default().trim_start_matches('/');
    if path == "moved" {
        return stream
            .write_all(b"HTTP/1.1 302 Found\r\nLocation: /a.tar\r\nContent-Length: 0\r\nConnection: close\r\n\r\n");
    }
    match std::fs::read(folder.join(path)) {
        Ok(content) => {
            let head = "HTTP/1.1 200 OK\r\nLast-Modified: Wed, 21 Oct 2015 07:28:00 GMT\r\nConnection: close\r\n";
            stream.write_all(format!("{head}Content-Length: {}\r\n\r\n", content.len()).as_bytes())?;
            stream.write_all(&content)
        }
        Err(_) => stream.write_all(b"HTTP/1.1 404 Not Found\r\nContent-Length: 0\r\nConnection: close\r\n\r\n"),
    }
}

/// A small archive with the file `inside`.
fn small_archive() -> Vec<u8> {
    let mut archive = tar::Builder::new(Vec::new());
    let mut header = tar::Header::new_gnu();
    header.set_mode(0o644);
    header.set_size(2);
    archive.append_data(&mut header, "inside", &b"in"[..]).expect("an entry");
    archive.into_inner().expect("an archive")
}

#[test]
fn urls_are_added_under_their_names_with_their_times_and_checksums() {
    let bench = Bench::new();
    bench.write("served/f.txt", "file");
    std::fs::write(bench.path("served/a.tar"), small_archive()).expect("the archive");
    let server = serve(bench.path("served"));
    let digest = wharf::base::id::Digest::of(b"file");
    let image = bench.build(&format!(
        "FROM busybox\nADD {server}/f.txt?x=y /d/\nADD --checksum={digest} --chmod=644 {server}/f.txt /g\n\
         ADD {server}/moved /kept\nADD --unpack {server}/a.tar /un/\n"
    ));
    let file = bench.file(&image, "d/f.txt").expect("the file");
    let metadata = file.metadata().expect("metadata");
    assert_eq!((metadata.mode() & 0o7777, metadata.mtime()), (0o600, 1_445_412_480));
    assert_eq!(bench.text(&image, "g"), "file");
    assert_eq!(bench.file(&image, "g").expect("it").metadata().expect("metadata").mode() & 0o7777, 0o644);
    assert_eq!(std::fs::read(bench.file(&image, "kept").expect("it")).expect("content"), small_archive());
    assert_eq!(bench.text(&image, "un/inside"), "in");
    let other = wharf::base::id::Digest::of(b"other");
    for (wrong, why) in [
        (format!("ADD --checksum={other} {server}/f.txt /"), "its digest is"),
        (format!("ADD {server}/none /"), "404"),
        ("ADD --checksum=md5:1 http://127.0.0.1:1/x /".to_owned(), "is not a checksum"),
    ] {
        let error = bench.try_build(&format!("FROM busybox\n{wrong}\n")).expect_err(&wrong);
        assert!(told(&error).contains(why), "{wrong}: {}", told(&error));
    }
}

/// Runs git with a configuration of its own.
fn git(folder: &Path, arguments: &[&str]) {
    let status = std::process::Command::new("git")
        .args(["-c", "user.name=n", "-c", "user.email=n@example.com", "-c", "init.defaultBranch=main"])
        .args(arguments)
        .current_dir(folder)
        .env("GIT_CONFIG_GLOBAL", "/dev/null")
        .env("GIT_COMMITTER_DATE", "@1600000000 +0000")
        .output();
    let output = status.expect("git is needed for this test");
    assert!(output.status.success(), "git {arguments:?}: {}", String::from_utf8_lossy(&output.stderr));
}

#[test]
fn repositories_are_added_and_built_from() {
    let bench = Bench::new();
    bench.write("repo/sub/s", "one");
    bench.write("repo/Dockerfile", "FROM busybox\nCOPY . /r\n");
    bench.write("repo/.dockerignore", "sub\n");
    let repo = bench.path("repo");
    git(&repo, &["init", "-q"]);
    git(&repo, &["add", "."]);
    git(&repo, &["commit", "-qm", "one"]);
    git(&repo, &["tag", "v1"]);
    bench.write("repo/sub/s", "two");
    git(&repo, &["commit", "-qam", "two"]);
    std::fs::create_dir_all(bench.path("served")).expect("a folder");
    git(&bench.path("served"), &["clone", "-q", "--bare", &repo.display().to_string(), "x.git"]);
    git(&bench.path("served/x.git"), &["update-server-info"]);
    let server = serve(bench.path("served"));
    let image = bench
        .build(&format!("FROM busybox\nADD {server}/x.git#v1:sub /one/\nADD --keep-git-dir {server}/x.git /two\n"));
    assert_eq!((bench.text(&image, "one/s"), bench.text(&image, "two/sub/s")), ("one".into(), "two".into()));
    assert_eq!(bench.file(&image, "one/s").expect("it").metadata().expect("metadata").mtime(), 1_600_000_000);
    assert!(bench.file(&image, "two/.git/HEAD").is_some() && bench.file(&image, "one/.git").is_none());
    // Again: nothing is fetched, everything is cached.
    bench.build(&format!("FROM busybox\nADD {server}/x.git#v1:sub /one/\nADD --keep-git-dir {server}/x.git /two\n"));
    assert_eq!(bench.counts(), (2, 0));
    let wrong = format!("FROM busybox\nADD --checksum=0000000 {server}/x.git /\n");
    let error = told(&bench.try_build(&wrong).expect_err("another commit"));
    assert!(error.contains("the commit is"), "{error}");
    // As the context its ignore file does not count.
    let context = wharf::build::fetch_context(&bench.store, &format!("{server}/x.git?tag=v1"), &Default::default())
        .unwrap_or_else(|error| panic!("{}", told(&error)));
    let mut request = BuildRequest::new(&context.folder);
    (request.ignore_file, request.context_time_seconds) = (false, context.time_seconds);
    request.args.insert("SOURCE_DATE_EPOCH".into(), Some("context".into()));
    let image = build(&bench.store, &request, &bench).unwrap_or_else(|error| panic!("{}", told(&error)));
    assert_eq!(bench.text(&image, "r/sub/s"), "one");
    assert_eq!(image.config.created.as_deref(), Some("2020-09-13T12:26:40Z"));
    let folder = context.folder.clone();
    drop(context);
    assert!(!folder.exists(), "a fetched context goes with its value");
}

#[test]
fn named_contexts_and_seeds_of_caches_are_read() {
    let bench = Bench::new();
    bench.write("named/f", "named");
    bench.write("named/hidden", "no");
    bench.write("named/.dockerignore", "hidden\n");
    let mut request = bench.request(
        "FROM busybox AS seed\nRUN mkdir /s && echo seed >/s/f\n\
         FROM named AS first\nFROM busybox\nCOPY --from=first / /n\n\
         RUN --mount=type=cache,target=/c,from=seed,source=/s cat /c/f >/seed; echo more >/c/f\n\
         RUN --mount=type=cache,target=/c,from=seed,source=/s cat /c/f >/more\n",
    );
    request.additional_contexts.insert("named".into(), bench.path("named").display().to_string());
    let image = build(&bench.store, &request, &bench).unwrap_or_else(|error| panic!("{}", told(&error)));
    assert_eq!(bench.text(&image, "n/f"), "named");
    assert!(bench.file(&image, "n/hidden").is_none());
    assert_eq!((bench.text(&image, "seed"), bench.text(&image, "more")), ("seed\n".into(), "more\n".into()));
    // The result as an image layout, read as a context of that kind.
    let layout = bench.path("layout");
    std::fs::create_dir_all(&layout).expect("a folder");
    let saved =
        wharf::image::Saved { images: std::slice::from_ref(&image), references: &[], annotations: &Default::default() };
    let mut archive = Vec::new();
    wharf::image::save(&bench.store, &[saved], &mut archive).expect("an archive");
    tar::Archive::new(archive.as_slice()).unpack(&layout).expect("a layout");
    let mut request = bench.request("FROM layout\nRUN cat /n/f >/again\n");
    request.additional_contexts.insert("layout".into(), format!("oci-layout://{}", layout.display()));
    let image = build(&bench.store, &request, &bench).unwrap_or_else(|error| panic!("{}", told(&error)));
    assert_eq!(bench.text(&image, "again"), "named");
}

#[test]
fn agents_answer_in_the_step_and_entitlements_have_to_be_given() {
    let bench = Bench::new();
    let socket = bench.folder.join("agent");
    let _listener = std::os::unix::net::UnixListener::bind(&socket).expect("a socket");
    let text = "FROM busybox\nUSER 12\nRUN --mount=type=ssh,uid=12 stat -c '%F %u %a' $SSH_AUTH_SOCK\n";
    let mut request = bench.request(text);
    request.ssh.insert("default".into(), wharf::build::SshSource::Socket(socket));
    build(&bench.store, &request, &bench).unwrap_or_else(|error| panic!("{}", told(&error)));
    assert_eq!(bench.output(), ["socket 12 600"]);
    for (wrong, why) in [
        ("RUN --mount=type=ssh,required true", "no SSH agent `default` was given"),
        ("RUN --security=insecure true", "security.insecure is not allowed"),
        ("RUN --network=host true", "network.host is not allowed"),
        ("RUN --device=x.com/y=z true", "not part of the stable"),
    ] {
        let error = told(&bench.try_build(&format!("FROM busybox\n{wrong}\n")).expect_err(wrong));
        assert!(error.contains(why), "{wrong}: {error}");
    }
    let mut request = bench.request("FROM busybox\nRUN --security=insecure mkdir /t && mount -t tmpfs x /t\n");
    request.allow_insecure = true;
    build(&bench.store, &request, &bench).unwrap_or_else(|error| panic!("{}", told(&error)));
}

#[test]
fn steps_of_a_stage_can_be_run_again() {
    let bench = Bench::new();
    let text = "FROM busybox AS a\nRUN echo a >/a\nFROM busybox AS b\nCOPY --from=a /a /\nRUN echo b >/b\n";
    bench.build(text);
    let mut request = bench.request(text);
    request.no_cache_stages.push("A".into());
    bench.events.lock().expect("no test panics while it reports").clear();
    build(&bench.store, &request, &bench).unwrap_or_else(|error| panic!("{}", told(&error)));
    assert_eq!(bench.counts(), (2, 1));
}

#[test]
fn another_processors_programs_are_refused_with_the_reason() {
    let bench = Bench::new();
    let foreign = if cfg!(target_arch = "x86_64") { "linux/s390x" } else { "linux/amd64" };
    let host = if cfg!(target_arch = "x86_64") { "linux/amd64" } else { "linux/arm64" };
    let mut request =
        bench.request(&format!("FROM --platform={host} busybox AS b\nFROM scratch\nCOPY --from=b / /\nRUN true\n"));
    request.platform = Some(foreign.into());
    match build(&bench.store, &request, &bench) {
        // A host with a handler for it runs the step, which fails: the program is not of that processor.
        Ok(_) => {}
        Err(error) => assert!(told(&error).contains("cannot run on this"), "{}", told(&error)),
    }
}
