//! Containers that change what is below our hands: links that come and go where we write, mount or enter, and our own
//! program while it is inside. In Docker these were CVE-2018-15664, CVE-2021-30465, CVE-2024-21626, CVE-2019-5736 and
//! GHSA-rg2x-37c3-w2rh; it refuses all of them today.

use std::fs;

use crate::probes::listing;
use crate::world::World;

/// Rounds of each race. A link is in the way in about one of four looks.
const ROUNDS: usize = 20;

#[test]
fn links_that_come_and_go_lead_nowhere() {
    let world = World::new();
    let host = world.folder().join("host");
    fs::create_dir_all(host.join("inner")).expect("it can be made");
    fs::write(host.join("secret"), "of the host").expect("it can be written");
    world.write("file", "content\n");
    let target = host.display();
    // Both on the root file system and in a volume that others mount below.
    let script = format!(
        "mkdir -p /dir/inner /v/dir/inner; echo mine > /dir/secret; ln -s {target} /link; ln -s {target} /v/link; touch /ready; \
         while :; do for d in '' /v; do \
         mv $d/dir $d/keep; mv $d/link $d/dir; mv $d/dir $d/link; mv $d/keep $d/dir; done; done"
    );
    world.ok(&["docker", "run", "-d", "--name", "rogue", "-v", "v:/v", "busybox", "sh", "-c", &script]);
    crate::world::eventually("the race begins", || {
        (world.wharf(&["docker", "exec", "rogue", "test", "-e", "/ready"]).code == 0).then_some(())
    });
    crate::world::eventually("a link is in the way", || {
        (world.wharf(&["docker", "exec", "rogue", "readlink", "/v/dir"]).code == 0).then_some(())
    });
    let before = listing(&host);
    for _ in 0..ROUNDS {
        for words in [
            &["cp", "-q", "file", "rogue:/dir/stolen"][..],
            &["cp", "-q", "rogue:/dir/secret", "out"],
            &["cp", "-q", "rogue:/v/dir", "out-folder"],
            &["exec", "-w", "/dir/made-by-exec", "rogue", "true"],
            &["run", "--rm", "-v", "v:/v", "-v", "other:/v/dir/inner", "busybox", "touch", "/v/dir/inner/stolen"],
            &["run", "--rm", "-v", "v:/v", "--tmpfs", "/v/dir/made", "busybox", "true"],
            &["run", "--rm", "-v", "v:/v", "-w", "/v/dir/made-by-run", "busybox", "true"],
        ] {
            // Each may fail, as the place comes and goes.
            let answer = world.wharf(&[&["docker"], words].concat());
            assert!(!answer.stdout.contains("of the host") && answer.code != 101, "{words:?}: {}", answer.stderr);
            for copy in ["out", "out-folder"] {
                let copy = world.folder().join(copy);
                // A link is copied as one, as `cp` without -L does: what it leads to was not read.
                let Ok(metadata) = copy.symlink_metadata() else { continue };
                let text = if metadata.is_dir() {
                    fs::read_to_string(copy.join("secret"))
                } else if metadata.is_file() {
                    fs::read_to_string(&copy)
                } else {
                    Ok(String::new())
                };
                assert!(!text.unwrap_or_default().contains("of the host"), "{words:?}");
                let removed = if metadata.is_dir() { fs::remove_dir_all(&copy) } else { fs::remove_file(&copy) };
                removed.expect("it can be removed");
            }
        }
    }
    assert_eq!(listing(&host), before);
    assert_eq!(fs::read_to_string(host.join("secret")).expect("it is there"), "of the host");
    world.ok(&["docker", "rm", "-f", "rogue"]);
    world.ok(&["docker", "volume", "prune", "-af"]);
    world.expect_no_trace();
}

#[test]
fn our_program_cannot_be_had_from_inside() {
    let world = World::new();
    // Looks at every process as it comes, ours among them while they enter.
    let script = "touch /ready; while :; do for p in /proc/[0-9]*; do case \"$(readlink $p/exe)\" in *wharf*) \
                  echo GOT-THROUGH link $p; head -c 4 $p/exe >/dev/null && echo GOT-THROUGH read;; esac; done; done 2>/dev/null";
    world.ok(&["docker", "run", "-d", "--init", "--name", "rogue", "busybox", "sh", "-c", script]);
    crate::world::eventually("the race begins", || {
        (world.wharf(&["docker", "exec", "rogue", "test", "-e", "/ready"]).code == 0).then_some(())
    });
    for _ in 0..2 * ROUNDS {
        world.ok(&["docker", "exec", "rogue", "true"]);
    }
    world.ok(&["docker", "cp", "-q", "rogue:/etc/passwd", "out"]);
    assert_eq!(world.ok(&["docker", "logs", "rogue"]), "");
    world.ok(&["docker", "rm", "-f", "rogue"]);
    world.expect_no_trace();
}

#[test]
fn links_in_place_of_the_files_that_we_provide_lead_nowhere() {
    let world = World::new();
    let host = world.folder().join("host");
    fs::create_dir_all(&host).expect("it can be made");
    let names = ["hosts", "hostname", "resolv.conf", "passwd", "group"];
    for name in names {
        fs::write(host.join(name), format!("hostuser:x:0:0::/:/bin/sh {name}\n")).expect("it can be written");
    }
    let image = world.folder().join("image");
    fs::create_dir_all(image.join("bin")).expect("it can be made");
    fs::create_dir_all(image.join("etc")).expect("it can be made");
    fs::copy("/bin/busybox", image.join("bin/busybox")).expect("busybox-static is installed");
    std::os::unix::fs::symlink("busybox", image.join("bin/sh")).expect("a link can be made");
    for name in names {
        std::os::unix::fs::symlink(host.join(name), image.join("etc").join(name)).expect("a link can be made");
    }
    let archive = world.folder().join("image.tar");
    let packed = std::process::Command::new("tar").arg("-C").arg(&image).arg("-cf").arg(&archive).arg(".").status();
    assert!(packed.expect("tar is there").success());
    world.ok(&["image", "import", &archive.to_string_lossy(), "links"]);
    let script = "for f in hosts hostname resolv.conf passwd group; do echo mine >> /etc/$f; done; true";
    world.wharf(&["docker", "run", "--rm", "links", "sh", "-c", script]);
    // Nobody of the host's is known inside.
    let answer = world.wharf(&["docker", "run", "--rm", "-u", "hostuser", "links", "sh", "-c", "true"]).expect(125);
    assert!(answer.stderr.contains("unable to find user hostuser"), "{}", answer.stderr);
    for name in names {
        let content = fs::read_to_string(host.join(name)).expect("it is there");
        assert_eq!(content, format!("hostuser:x:0:0::/:/bin/sh {name}\n"));
    }
    world.expect_no_trace();
}
