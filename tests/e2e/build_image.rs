//! `wharf image build`, `docker build`: one image from a folder, an archive or standard input.

use std::fs;
use std::io::Read;
use std::process::Stdio;

use crate::world::{World, eventually};

/// The files in an archive.
fn names(archive: &[u8]) -> Vec<String> {
    let mut archive = tar::Archive::new(archive);
    let entries = archive.entries().expect("an archive");
    entries.map(|entry| entry.expect("an entry").path().expect("a name").display().to_string()).collect()
}

#[test]
fn an_image_is_built_tagged_and_told() {
    let world = World::new();
    world.write(
        "ctx/Dockerfile",
        "FROM busybox AS base\nRUN echo hello\nFROM base\nCOPY a /a\nLABEL x=y\nCMD echo hi\n",
    );
    world.write("ctx/a", "a");
    let context = world.folder().join("ctx").display().to_string();
    let id = world.folder().join("id").display().to_string();
    let metadata = world.folder().join("metadata").display().to_string();
    let arguments = [
        "image",
        "build",
        "-t",
        "shop:1",
        "-t",
        "shop:2",
        "--label",
        "z=w",
        "--progress",
        "plain",
        "--iidfile",
        &id,
        "--metadata-file",
        &metadata,
        &context,
    ];
    let told = world.wharf(&arguments).expect(0);
    assert!(
        told.stderr.contains("#1 [base 1/1] RUN echo hello\n") && told.stderr.contains(" hello\n"),
        "{}",
        told.stderr
    );
    assert!(told.stderr.contains("JSONArgsRecommended: JSON arguments recommended for CMD"), "{}", told.stderr);
    assert_eq!(told.stdout, "");
    let id = std::fs::read_to_string(&id).expect("the id");
    let metadata: serde_json::Value =
        serde_json::from_str(&std::fs::read_to_string(&metadata).expect("metadata")).expect("JSON");
    assert_eq!(metadata["image.name"], "docker.io/library/shop:1,docker.io/library/shop:2");
    assert_eq!(metadata["containerimage.config.digest"], id.as_str());
    // Again: the same image, everything from the cache; quiet says the id.
    assert_eq!(world.ok(&["docker", "build", "-q", "-t", "shop:2", "--label", "z=w", &context]), id);
    assert_eq!(world.ok(&["run", "--rm", "shop:2"]), "hi");
    let check = world.wharf(&["docker", "buildx", "build", "--check", &context]).expect(1);
    assert!(
        check.stdout.starts_with("Check complete, 1 warning has been found!\n\nWARNING: JSONArgs"),
        "{}",
        check.stdout
    );
    world.wharf(&["image", "build", "--check", &context]).expect(0);
    world.expect_no_trace();
}

#[test]
fn contexts_come_from_standard_input_and_files_go_where_they_are_wanted() {
    let world = World::new();
    world.write("Dockerfile", "FROM scratch\nCOPY f /d/f\n");
    world.write("f", "file");
    let mut archive = tar::Builder::new(Vec::new());
    archive.append_dir_all(".", world.folder()).expect("an archive");
    let archive = archive.into_inner().expect("an archive");
    let files = world.wharf_with_input(&["image", "build", "-q", "-o", "out", "-"], &archive).expect(0);
    assert_eq!((files.stdout.as_str(), files.stderr.as_str()), ("", ""));
    assert_eq!(std::fs::read_to_string(world.folder().join("out/d/f")).expect("the file"), "file");
    let folder = world.folder().display().to_string();
    let tar = world.folder().join("o.tar").display().to_string();
    world.wharf(&["image", "build", "-q", "-o", &format!("type=tar,dest={tar}"), &folder]).expect(0);
    assert_eq!(names(&std::fs::read(&tar).expect("the archive")), ["d/", "d/f"]);
    let text = b"FROM busybox\nARG A\nRUN --mount=type=secret,id=s,env=S echo $A $S >/x\n";
    world.write("secret", "hush");
    let secret = format!("id=s,src={}", world.folder().join("secret").display());
    let arguments = ["image", "build", "-q", "--build-arg", "A=b", "--secret", &secret, "-t", "in", "-f", "-", &folder];
    world.wharf_with_input(&arguments, text).expect(0);
    assert_eq!(world.ok(&["run", "--rm", "in", "cat", "/x"]), "b hush");
    assert_eq!(
        world.wharf_with_input(&["docker", "build", "-q", "-"], b"FROM scratch\nENV a=b\n").expect(0).stdout.len(),
        72
    );
    for (wrong, why) in [
        (vec!["-f", "-", "-"], "stdin for both"),
        (vec!["/no/such/folder"], "there is no folder /no/such/folder"),
        (vec!["--secret", "id=x,src=/no/such/file", "."], "there is no file"),
        (vec!["--target", "none", &folder], "the target stage `none` does not exist"),
    ] {
        let arguments: Vec<&str> = ["image", "build"].into_iter().chain(wrong).collect();
        let answer = world.wharf(&arguments).expect(1);
        assert!(answer.stderr.contains(why), "{}", answer.stderr);
    }
    world.expect_no_trace();
}

#[test]
fn an_image_archive_is_loaded_again_as_it_was() {
    let world = World::new();
    world.write("Dockerfile", "FROM busybox\nRUN echo a >/a\n");
    let folder = world.folder().display().to_string();
    let archive = world.folder().join("image.tar").display().to_string();
    world.wharf(&["image", "build", "-q", "-t", "one:1", "-o", &format!("type=oci,dest={archive}"), &folder]).expect(0);
    assert_eq!(world.wharf(&["image", "inspect", "one:1"]).stderr.lines().count(), 1, "an export alone keeps nothing");
    let mut bytes = Vec::new();
    std::fs::File::open(&archive).and_then(|mut file| file.read_to_end(&mut bytes)).expect("the archive");
    let names = names(&bytes);
    assert!(
        ["index.json", "manifest.json", "oci-layout"].iter().all(|name| names.contains(&(*name).to_owned())),
        "{names:?}"
    );
    let loaded = world.ok(&["load", "-i", &archive]);
    assert!(loaded.contains("one:1"), "{loaded}");
    assert_eq!(world.ok(&["run", "--rm", "one:1", "cat", "/a"]), "a");
    world.expect_no_trace();
}

/// The processes whose command line has this text.
fn processes_with(text: &str) -> Vec<String> {
    let mut found = Vec::new();
    for entry in fs::read_dir("/proc").expect("mounted").flatten() {
        let line = fs::read(entry.path().join("cmdline")).unwrap_or_default();
        let line = String::from_utf8_lossy(&line).replace('\0', " ");
        found.extend(line.contains(text).then_some(line));
    }
    found
}

#[test]
fn a_killed_build_takes_git_along() {
    let world = World::new();
    // A server that takes connections and says nothing.
    let silent = std::net::TcpListener::bind("127.0.0.1:0").expect("a port");
    let address = format!("http://127.0.0.1:{}/r.git", silent.local_addr().expect("bound").port());
    world.write("Dockerfile", &format!("FROM busybox\nADD {address} /r\n"));
    let mut build = world.command(&["docker", "build", "-q", "."]);
    let mut build = build.stdout(Stdio::null()).stderr(Stdio::null()).spawn().expect("wharf can be run");
    silent.set_nonblocking(true).expect("a socket");
    let _connection = eventually("git asks", || silent.accept().ok());
    assert!(processes_with(&address).len() >= 2, "{:?}", processes_with(&address));
    build.kill().expect("it runs");
    build.wait().expect("it was killed");
    eventually("git is gone", || processes_with(&address).is_empty().then_some(()));
}
