//! What is different on a terminal: Ctrl-C goes to the whole group of processes, and progress is drawn.

use std::fs::File;
use std::io::{Read, Write};
use std::process::{Child, Command, Stdio};
use std::sync::{Arc, Mutex, PoisonError};
use std::time::{Duration, Instant};

use crate::world::{World, eventually};

/// A wharf on a terminal of its own.
pub struct OnTerminal {
    child: Child,
    master: File,
    screen: Arc<Mutex<Vec<u8>>>,
}

impl OnTerminal {
    fn run(world: &World, arguments: &[&str]) -> Self {
        Self::of(world.command(arguments))
    }

    /// Runs `program` with its arguments, folder and environment.
    pub fn of(program: Command) -> Self {
        use rustix::pty::{OpenptFlags, grantpt, openpt, ptsname, unlockpt};
        let master = openpt(OpenptFlags::RDWR | OpenptFlags::NOCTTY | OpenptFlags::CLOEXEC).expect("a terminal");
        grantpt(&master).and_then(|()| unlockpt(&master)).expect("it can be opened");
        let size = rustix::termios::Winsize { ws_row: 24, ws_col: 120, ws_xpixel: 0, ws_ypixel: 0 };
        rustix::termios::tcsetwinsize(&master, size).expect("it has a size");
        let path = ptsname(&master, Vec::new()).expect("it has a name").into_string().expect("its name is text");
        let open = || File::options().read(true).write(true).open(&path).expect("it can be opened");
        // `setsid -c` makes it the controlling terminal; the program then runs in the same process.
        let mut command = Command::new("setsid");
        command.arg("-c").arg(program.get_program()).args(program.get_args()).env_clear().env("TERM", "xterm");
        command.envs(program.get_envs().filter_map(|(key, value)| Some((key, value?))));
        command.current_dir(program.get_current_dir().expect("it has a folder"));
        let child = command
            .stdin(Stdio::from(open()))
            .stdout(Stdio::from(open()))
            .stderr(Stdio::from(open()))
            .spawn()
            .expect("setsid is installed (util-linux)");
        let screen = Arc::new(Mutex::new(Vec::new()));
        let mut reader = File::from(master.try_clone().expect("a descriptor"));
        let written = Arc::clone(&screen);
        // Ends when the last process on the terminal has ended (EIO).
        std::thread::spawn(move || {
            let mut buffer = [0; 4096];
            while let Ok(length @ 1..) = reader.read(&mut buffer) {
                written.lock().unwrap_or_else(PoisonError::into_inner).extend_from_slice(&buffer[..length]);
            }
        });
        Self { child, master: File::from(master), screen }
    }

    pub fn screen(&self) -> String {
        String::from_utf8_lossy(&self.screen.lock().unwrap_or_else(PoisonError::into_inner)).into_owned()
    }

    #[track_caller]
    pub fn wait_for(&self, text: &str) {
        let deadline = Instant::now() + Duration::from_secs(20);
        while !self.screen().contains(text) {
            assert!(Instant::now() < deadline, "no `{text}` in\n{}", self.screen());
            std::thread::sleep(Duration::from_millis(10));
        }
    }

    fn press(&mut self, key: u8) {
        self.master.write_all(&[key]).expect("the terminal takes a key");
    }

    pub fn types(&mut self, text: &str) {
        self.master.write_all(text.as_bytes()).expect("the terminal takes keys");
    }

    #[track_caller]
    pub fn exit_code(&mut self) -> Option<i32> {
        let status = eventually("the end of wharf", || self.child.try_wait().expect("it is our child"));
        status.code()
    }
}

impl Drop for OnTerminal {
    fn drop(&mut self) {
        // Ended already is as good.
        drop(self.child.kill());
        drop(self.child.wait());
    }
}

const CTRL_C: u8 = 3;

#[test]
fn ctrl_c_stops_and_a_second_one_kills() {
    let world = World::new();
    world.write(
        "compose.yaml",
        "services:
  web:
    image: busybox
    command: [sh, -c, 'trap \"echo not yet\" TERM; echo ready; while true; do sleep 0.1; done']
    stop_grace_period: 1h
",
    );
    let mut up = OnTerminal::run(&world, &["up"]);
    up.wait_for("ready");
    up.press(CTRL_C);
    up.wait_for("Gracefully");
    // It has the signal, and does not end.
    up.wait_for("not yet");
    assert!(up.child.try_wait().expect("it is our child").is_none());
    up.press(CTRL_C);
    let pressed = Instant::now();
    assert_eq!(up.exit_code(), Some(130), "{}", up.screen());
    assert!(pressed.elapsed() < Duration::from_secs(5), "{:?}", pressed.elapsed());
    assert_eq!(world.ok(&["ps", "-a", "--format", "{{.Service}} {{.ExitCode}}"]), "web 137");
    world.ok(&["down"]);
    world.expect_no_trace();
}

#[test]
fn progress_is_drawn_and_ends_with_what_was_done() {
    let world = World::new();
    world.write(
        "compose.yaml",
        "services:
  db: {image: busybox, command: sleep 1000, volumes: [\"data:/data\"]}
  web: {image: busybox, command: sleep 1000, depends_on: [db]}
volumes: {data: }
",
    );
    let mut up = OnTerminal::run(&world, &["up", "-d"]);
    assert_eq!(up.exit_code(), Some(0), "{}", up.screen());
    let project = world.project_name();
    for line in [format!("Network {project}_default"), format!("Container {project}-web-1")] {
        up.wait_for(&line);
    }
    up.wait_for("[+] Running 4/4");
    let screen = up.screen();
    assert!(screen.contains("\x1b["), "nothing was drawn anew: {screen:?}");
    let last = screen.rfind("[+] Running").expect("it was seen");
    assert_eq!(screen[last..].matches('\u{2714}').count(), 4, "{:?}", &screen[last..]);
    assert!(screen.contains("\x1b[?25l") == screen.contains("\x1b[?25h"), "the cursor is hidden for good: {screen:?}");
    world.ok(&["down", "-v", "-t", "0"]);
}

#[test]
fn keys_watch_view_and_detach() {
    let world = World::new();
    world.write("src/a", "one\n");
    world.write(
        "compose.yaml",
        "services:
  web:
    image: busybox
    command: [sh, -c, 'trap \"exit 0\" TERM; echo ready; while true; do [ -e /srv/b ] && echo arrived && rm /srv/b; sleep 0.05; done']
    develop: {watch: [{path: src, target: /srv, action: sync}]}
",
    );
    let mut up = OnTerminal::run(&world, &["up"]);
    let modes = rustix::termios::tcgetattr(&up.master).expect("a terminal").local_modes;
    up.wait_for("Enable Watch");
    up.wait_for("Detach");
    let keys = rustix::termios::tcgetattr(&up.master).expect("a terminal").local_modes;
    use rustix::termios::LocalModes;
    assert_eq!(keys & (LocalModes::ICANON | LocalModes::ECHO | LocalModes::ISIG), LocalModes::ISIG);
    up.press(b'h');
    up.wait_for("leave the containers running in the background");
    up.press(b'v');
    up.wait_for("STATUS");
    up.press(b'w');
    up.wait_for("Watch enabled");
    up.wait_for("Disable Watch");
    world.write("src/b", "two\n");
    // A line of a container takes the menu's place, and the menu stands below it again.
    up.wait_for("\r\x1b[2K\x1b[36mweb-1  | \x1b[0marrived\r\n");
    let screen = up.screen();
    let line = screen.find("arrived\r\n").expect("it was seen") + "arrived\r\n".len();
    eventually("the menu", || up.screen()[line..].contains("Disable Watch").then_some(()));
    up.press(b'w');
    up.wait_for("Watch disabled");
    up.press(b'd');
    assert_eq!(up.exit_code(), Some(0), "{}", up.screen());
    assert!(up.screen().ends_with("Detached: the containers go on in the background\r\n"), "{:?}", up.screen());
    assert_eq!(rustix::termios::tcgetattr(&up.master).expect("a terminal").local_modes, modes);
    assert_eq!(world.ok(&["ps", "--format", "{{.Service}} {{.State}}"]), "web running");

    // Attached again, Ctrl-C stops it; the menu is gone before that is said.
    let mut again = OnTerminal::run(&world, &["up", "--watch"]);
    again.wait_for("Disable Watch");
    again.press(CTRL_C);
    assert_eq!(again.exit_code(), Some(130), "{}", again.screen());
    assert!(again.screen().contains("\r\x1b[2KGracefully"), "{:?}", again.screen());
    assert_eq!(rustix::termios::tcgetattr(&again.master).expect("a terminal").local_modes, modes);
    // Who does not want keys has none.
    let mut without = OnTerminal::run(&world, &["up", "--menu=false"]);
    without.wait_for("ready");
    without.press(b'd');
    without.press(CTRL_C);
    assert_eq!(without.exit_code(), Some(130), "{}", without.screen());
    assert!(!without.screen().contains("Detach"), "{}", without.screen());
    world.ok(&["down", "-t", "0"]);
    world.expect_no_trace();
}
