//! Tutorials for Docker, typed as their readers type them: through links named `docker` and `docker-compose`, in a
//! shell, with images that come from a registry.

use std::path::Path;
use std::process::Command;

use crate::flask_redis::import_base_images;
use crate::registry::Registry;
use crate::terminal::OnTerminal;
use crate::world::{Answer, World, eventually, free_port, get};

/// Somebody at a shell, on a machine where a registry on loopback stands for Docker Hub.
struct Reader {
    // Fields are dropped in this order.
    registry: Registry,
    world: World,
}

impl Reader {
    /// `images` are pairs of an image that is there and the name that the tutorials use.
    fn new(world: World, images: &[(&str, &str)]) -> Self {
        let registry = Registry::start(&world, "hub", "");
        let hub = registry.name("");
        world.write(
            "registries.json",
            &format!(r#"{{"docker.io": {{"mirrors": ["http://{}"]}}}}"#, hub.trim_end_matches('/')),
        );
        for (image, name) in images {
            let there = registry.name(name);
            world.ok(&["docker", "tag", image, &there]);
            world.ok(&["docker", "push", "-q", &there]);
            world.ok(&["docker", "rmi", &there]);
        }
        for (image, _) in images {
            // Some are pushed under several names.
            world.wharf(&["docker", "rmi", image]);
        }
        std::fs::create_dir(world.folder().join("bin")).expect("made");
        for name in ["docker", "docker-compose"] {
            std::os::unix::fs::symlink(env!("CARGO_BIN_EXE_wharf"), world.folder().join("bin").join(name))
                .expect("made");
        }
        assert_eq!(world.ok(&["docker", "images", "-q"]), "");
        Self { registry, world }
    }

    fn types(&self, line: &str) -> Answer {
        self.types_in("", line)
    }

    /// In a folder of the project.
    fn types_in(&self, folder: &str, line: &str) -> Answer {
        let output = self.shell(folder, line).output().expect("sh is there");
        Answer {
            code: output.status.code().unwrap_or(-1),
            stdout: String::from_utf8_lossy(&output.stdout).into_owned(),
            stderr: String::from_utf8_lossy(&output.stderr).into_owned(),
        }
    }

    #[track_caller]
    fn sees(&self, line: &str) -> String {
        self.types(line).expect(0).stdout.trim_end().to_owned()
    }

    fn shell(&self, folder: &str, line: &str) -> Command {
        let own = self.world.command(&[]);
        let mut shell = Command::new("sh");
        shell.args(["-c", line]).current_dir(self.world.folder().join(folder)).env_clear();
        shell.envs(own.get_envs().filter_map(|(key, value)| Some((key, value?))));
        let path = "/usr/local/sbin:/usr/local/bin:/usr/sbin:/usr/bin:/sbin:/bin";
        shell.env("PATH", format!("{}:{path}", self.world.folder().join("bin").display()));
        shell.env("WHARF_REGISTRIES", self.world.folder().join("registries.json"));
        shell
    }

    fn at_a_terminal(&self, line: &str) -> OnTerminal {
        OnTerminal::of(self.shell("", line))
    }
}

#[track_caller]
fn has(text: &str, expected: &[&str]) {
    for part in expected {
        assert!(text.contains(part), "no `{part}` in\n{text}");
    }
}

#[test]
fn first_steps_with_containers_and_images() {
    let world = World::new();
    world.write("Hello", "FROM busybox\nCMD [\"echo\", \"Hello from Docker!\"]\n");
    world.ok(&["docker", "build", "-q", "-t", "hello", "-f", "Hello", "."]);
    let names = [
        ("hello", "library/hello-world"),
        ("busybox", "library/busybox:1.23"),
        ("busybox", "library/busybox"),
        ("busybox", "library/debian:jessie"),
    ];
    let reader = Reader::new(world, &names);

    let first = reader.types("docker run hello-world").expect(0);
    has(&first.stdout, &["Hello from Docker!"]);
    has(&first.stderr, &[": Pull complete\n"]);
    let first = reader.types("docker run busybox:1.23 echo \"hello world\"").expect(0);
    assert_eq!(first.stdout, "hello world\n");
    let messages = [
        "Unable to find image 'busybox:1.23' locally\n",
        "1.23: Pulling from library/busybox\n",
        ": Already exists\n",
        "Digest: sha256:",
        "Status: Downloaded newer image for busybox:1.23\n",
    ];
    has(&first.stderr, &messages);
    assert_eq!(reader.types("docker run busybox:1.23 echo again").expect(0).stderr, "");
    has(&reader.sees("docker run busybox:latest ls /"), &["bin", "etc", "proc", "sys"]);

    // Interactive, detached, and what is left.
    let mut shell = reader.at_a_terminal("docker run -i -t busybox:latest");
    shell.wait_for("/ #");
    shell.types("touch abc.txt; ls /\r");
    shell.wait_for("abc.txt");
    shell.types("exit\r");
    assert_eq!(shell.exit_code(), Some(0), "{}", shell.screen());
    let id = reader.sees("docker run -d busybox:latest sleep 100");
    assert_eq!(id.len(), 64, "{id}");
    has(&reader.sees("docker ps"), &["CONTAINER ID   IMAGE", &id[..12], "\"sleep 100\"", "Up "]);
    assert_eq!(reader.sees("docker ps | wc -l").trim(), "2");
    let all = reader.sees("docker ps -a");
    has(&all, &["Exited (0)", "hello-world", "\"echo 'hello world'\""]);
    let generated = reader.sees("docker ps -a --format '{{.Names}}' | head -1");
    assert!(generated.split_once('_').is_some(), "{generated}");
    reader.sees("docker run --name hello busybox:latest true");
    has(
        &reader.types("docker run --name hello busybox:latest true").expect(125).stderr,
        &["`hello` is already in use by container"],
    );
    has(&reader.sees(&format!("docker inspect {id}")), &["\"Config\": {"]);
    reader.sees("docker run --name said -d busybox:latest echo so it is");
    eventually("its words", || (reader.sees("docker logs said") == "so it is").then_some(()));
    has(&reader.types(&format!("docker rm {}", &id[..4])).expect(1).stderr, &["is running", "rm -f"]);
    reader.sees(&format!("docker stop -t 0 {}", &id[..4]));
    reader.sees(&format!("docker rm {}", &id[..4]));

    // An image by hand.
    let mut shell = reader.at_a_terminal("docker run -it --name hopeful_ellis debian:jessie");
    shell.wait_for("/ #");
    shell.types("echo worked > /result; exit\r");
    assert_eq!(shell.exit_code(), Some(0), "{}", shell.screen());
    has(&reader.sees("docker diff hopeful_ellis"), &["A /result"]);
    has(&reader.sees("docker commit hopeful_ellis atmamani/debian:0.1"), &["sha256:"]);
    assert_eq!(reader.sees("docker run --rm atmamani/debian:0.1 cat /result"), "worked");
    has(&reader.sees("docker history atmamani/debian:0.1"), &["IMAGE", "CREATED BY", "COMMENT", "<missing>"]);
    let elsewhere = reader.registry.name("atmamani/debian:0.2");
    reader.sees(&format!("docker tag atmamani/debian:0.1 {elsewhere}"));
    has(&reader.sees(&format!("docker push {elsewhere}")), &[": Pushed", "0.2: digest: sha256:"]);
    has(&reader.sees(&format!("docker push {elsewhere}")), &[": Layer already exists"]);

    // Disk space comes back.
    assert_eq!(reader.sees("docker images busybox | wc -l").trim(), "3");
    reader.sees("docker rmi -f hello-world");
    assert_eq!(reader.sees("docker volume create NAMEOFVOLUME"), "NAMEOFVOLUME");
    assert_eq!(reader.sees("docker volume create --name bancomysql"), "bancomysql");
    has(&reader.sees("docker info"), &["Storage Driver: overlay", "Root Dir: "]);
    let pruned = reader.sees("docker system prune -f");
    has(&pruned, &["Deleted Containers:", "Total reclaimed space: "]);
    has(&reader.sees("docker system prune -a -f"), &["Deleted Images:", "untagged: atmamani/debian:0.1"]);
    assert_eq!(reader.sees("docker images -q"), "");
    assert_eq!(reader.sees("docker ps -aq"), "");
    reader.sees("docker volume rm NAMEOFVOLUME bancomysql");

    // What the tutorials have wrong is told as what was meant.
    let wrong = [
        ("docker container run –d –v bancomysql:/var/lib/mysql mysql", 125, "type `-d`"),
        ("docker volume create –name bancomysql", 1, "`--name`"),
        ("docker imagem build -t python-hello-world .", 1, "did you mean `image`"),
        ("docker image prune -all", 125, "--all"),
        ("docker build python-hello-world .", 1, "-t python-hello-world ."),
        ("docker run -p 80 -x busybox", 125, "-x"),
    ];
    for (line, code, hint) in wrong {
        let answer = reader.types(line);
        assert_eq!(answer.code, code, "{line}: {}", answer.stderr);
        assert!(answer.stderr.contains(hint), "{line}: no `{hint}` in\n{}", answer.stderr);
    }
    reader.world.expect_no_trace();
}

/// Flask's counter of requests, in the tutorials' words.
const APP: &str = "from flask import Flask\napp = Flask(__name__)\n\n\n@app.route('/')\ndef hello():\n    return 'hello world!'\n\n\nif __name__ == '__main__':\n    app.run(host='0.0.0.0')\n";

#[test]
fn an_application_in_python() {
    let world = World::empty();
    import_base_images(&world);
    let names = [("python:3.12-slim", "library/python:3.8-slim-buster"), ("redis:7", "library/redis:3.2.0")];
    let reader = Reader::new(world, &names);
    let world = &reader.world;

    // A program, its image, and its sources from outside.
    world.write("hello/hello-docker.py", "print('Hello Docker!')\n");
    world.write(
        "hello/Dockerfile",
        "FROM python:3.8-slim-buster\nWORKDIR /src\nCOPY hello-docker.py .\nCMD python hello-docker.py\n",
    );
    reader.types_in("hello", "docker build -t hello-docker .").expect(0);
    assert_eq!(reader.sees("docker run --rm hello-docker"), "Hello Docker!");
    world.write("hello/hello-docker.py", "print('Hello again!')\n");
    assert_eq!(
        reader.types_in("hello", "docker run --rm -v $(pwd):/src:rw hello-docker").expect(0).stdout,
        "Hello again!\n"
    );
    reader
        .types_in("hello", "docker run --rm -v $(pwd)/vol:/ourAppData/:rw hello-docker touch /ourAppData/kept")
        .expect(0);
    assert!(Path::new(&world.folder().join("hello/vol/kept")).exists());
    reader.types_in("hello", "docker build .").expect(0);
    has(&reader.sees("docker images"), &["<none>"]);

    // A server: built, published, looked at, stopped, pushed.
    world.write("web/app.py", APP);
    let dockerfile = "FROM python:3.8-slim-buster\nRUN pip install flask\nEXPOSE 5000\nCMD [\"python\",\"app.py\"]\nCOPY app.py /app.py\n";
    world.write("web/Dockerfile", dockerfile);
    reader.types_in("web", "docker image build -t python-hello-world .").expect(0);
    let port = free_port();
    let id = reader.sees(&format!("docker run -p {port}:5000 -d python-hello-world"));
    let hello = || get(("127.0.0.1", port), "/").filter(|body| body.contains("hello world!"));
    eventually("the page", hello);
    has(&reader.sees("docker container ls"), &[&id[..12], &format!("0.0.0.0:{port}->5000/tcp")]);
    has(&reader.types(&format!("docker logs {id}")).expect(0).stderr, &["Running on"]);
    has(
        &reader.types(&format!("docker run -p {port}:5000 python-hello-world")).expect(125).stderr,
        &[&port.to_string()],
    );
    reader.sees(&format!("docker container stop {id}"));
    let any = reader.sees("docker run -d -P python-hello-world");
    let published = reader.sees(&format!("docker port {any} 5000"));
    let chosen = published.lines().next().and_then(|line| line.rsplit(':').next()?.parse().ok()).expect("a port");
    eventually("the page", || get(("127.0.0.1", chosen), "/"));
    let mut shell = reader.at_a_terminal(&format!("docker exec -it {any} bash"));
    shell.wait_for("#");
    shell.types("cat /proc/1/cmdline | tr '\\0' ' '; tty\r");
    shell.wait_for("python app.py");
    shell.wait_for("/dev/pts/0");
    shell.types("exit\r");
    assert_eq!(shell.exit_code(), Some(0), "{}", shell.screen());
    reader.sees(&format!("docker rm -f {id} {any}"));

    // With compose: a change of the source is seen after `build`.
    let port = free_port();
    world.write(
        "docker-compose.yml",
        &format!(
            "version: '3'\nservices:\n  dockerapp:\n    build: ./web\n    ports:\n      - \"{port}:5000\"\n    depends_on:\n      - redis\n  redis:\n    image: redis:3.2.0\n"
        ),
    );
    reader.types("docker-compose up -d").expect(0);
    let page = |text: &'static str| move || get(("127.0.0.1", port), "/").filter(|body| body.contains(text));
    eventually("the page", page("hello world!"));
    let order = reader.sees("docker ps --format '{{.Names}}'");
    has(&order, &["dockerapp-1", "redis-1"]);
    let program =
        "import socket; s = socket.create_connection((\"redis\", 6379)); s.send(b\"PING\\r\\n\"); print(s.recv(9))";
    has(&reader.sees(&format!("docker-compose exec -T dockerapp python -c '{program}'")), &["+PONG"]);
    world.write("web/app.py", &APP.replace("hello world!", "hello compose!"));
    reader.types("docker-compose build").expect(0);
    reader.types("docker-compose up -d").expect(0);
    eventually("the new page", page("hello compose!"));
    reader.types("docker-compose up -d --scale redis=3").expect(0);
    assert_eq!(reader.sees("docker-compose ps -q redis | wc -l").trim(), "3");
    reader.types("docker-compose down").expect(0);
    world.write("docker-compose.yml", "verison: '3'\nservices: {web: {image: redis:3.2.0}}\n");
    has(&reader.types("docker-compose up -d").expect(1).stderr, &["verison", "`version`"]);
    world.expect_no_trace();
}
