//! runc's command line, for those who drive a runtime: `wharf oci create ...`, or through a link named `wharf-oci`.
//!
//! Podman takes the path of a runtime and nothing more (`podman --runtime /usr/local/bin/wharf-oci run ...`): hence the
//! name of the program counts. Nobody types these verbs, so they are in no help of ours.

use std::ffi::{OsStr, OsString};
use std::io::Write;
use std::path::{Path, PathBuf};
use std::process::ExitCode;

use clap::Parser;

use crate::base::error::Explain;
use crate::base::fs;
use crate::engine::signal;
use crate::oci::{self, Console, Create, Error, Exec, Runtime};
use crate::runtime::bundle::Process;

/// The name of a link to wharf that speaks this grammar.
const PROGRAM: &str = "wharf-oci";
/// The same as a verb.
const VERB: &str = "oci";

#[derive(Debug, Parser)]
#[command(name = PROGRAM, version, subcommand_required = true, arg_required_else_help = true)]
struct Arguments {
    /// Folder of the containers
    #[arg(long, value_name = "FOLDER", default_value = oci::ROOT)]
    root: PathBuf,
    /// File that errors are written to as well
    #[arg(long, value_name = "FILE")]
    log: Option<PathBuf>,
    /// text or json
    #[arg(long, value_name = "FORMAT", default_value = "text")]
    log_format: String,
    /// Taken, and means nothing: there is nothing more to tell
    #[arg(long)]
    debug: bool,
    /// Control groups are named `slice:prefix:name`
    #[arg(long)]
    systemd_cgroup: bool,
    /// Taken for runc's sake: only true, auto or false
    #[arg(long, value_name = "WORD", hide = true)]
    rootless: Option<String>,
    #[command(subcommand)]
    verb: Verb,
}

#[derive(Debug, clap::Subcommand)]
enum Verb {
    /// Make a container from a bundle; it waits to be started
    Create(Make),
    /// Let a created container's program run
    Start { id: String },
    /// Create and start a container, wait for its end and delete it
    Run {
        #[command(flatten)]
        make: Make,
        /// Return when it runs
        #[arg(short, long)]
        detach: bool,
    },
    /// Show a container's state
    State { id: String },
    /// Send a signal to a container
    Kill {
        /// To all of its processes
        #[arg(short, long)]
        all: bool,
        id: String,
        #[arg(default_value = "SIGTERM")]
        signal: String,
    },
    /// Remove a container
    Delete {
        /// Kill it before; one that does not exist is fine
        #[arg(short, long)]
        force: bool,
        id: String,
    },
    /// Start a process in a container
    Exec(Box<Further>),
    /// Stop all processes of a container
    Pause { id: String },
    /// Let them go on
    Resume { id: String },
    /// List the processes of a container
    Ps {
        #[arg(short, long, default_value = "table")]
        format: String,
        id: String,
    },
    /// List containers
    List {
        #[arg(short, long, default_value = "table")]
        format: String,
        #[arg(short, long)]
        quiet: bool,
    },
    /// Tell what this runtime can do
    Features,
}

#[derive(Debug, clap::Args)]
struct Make {
    /// Folder of the bundle
    #[arg(short, long, value_name = "FOLDER", default_value = ".")]
    bundle: PathBuf,
    /// Where the number of the process is written to
    #[arg(long, value_name = "FILE")]
    pid_file: Option<PathBuf>,
    /// Socket that gets the terminal
    #[arg(long, value_name = "SOCKET")]
    console_socket: Option<PathBuf>,
    /// Put the root over the host's instead of exchanging them
    #[arg(long)]
    no_pivot: bool,
    /// Leave it the caller's session keyring
    #[arg(long)]
    no_new_keyring: bool,
    /// How many descriptors behind the standard ones it inherits
    #[arg(long, value_name = "N", default_value_t = 0)]
    preserve_fds: u32,
    id: String,
}

#[derive(Debug, clap::Args)]
struct Further {
    /// The process as in config.json
    #[arg(short, long, value_name = "FILE")]
    process: Option<PathBuf>,
    /// Return when it runs
    #[arg(short, long)]
    detach: bool,
    /// Give it a terminal
    #[arg(short, long)]
    tty: bool,
    #[arg(long, value_name = "FILE")]
    pid_file: Option<PathBuf>,
    #[arg(long, value_name = "SOCKET")]
    console_socket: Option<PathBuf>,
    #[arg(long, value_name = "N", default_value_t = 0)]
    preserve_fds: u32,
    #[arg(long, value_name = "FOLDER")]
    cwd: Option<String>,
    /// KEY=value beside the container's
    #[arg(short, long, value_name = "KEY=VALUE")]
    env: Vec<String>,
    /// UID[:GID]
    #[arg(short, long, value_name = "UID[:GID]")]
    user: Option<String>,
    #[arg(short = 'g', long, value_name = "GID")]
    additional_gids: Vec<u32>,
    /// Capability beside the container's
    #[arg(short, long, value_name = "NAME")]
    cap: Vec<String>,
    #[arg(long)]
    no_new_privs: bool,
    /// AppArmor profile
    #[arg(long, value_name = "NAME")]
    apparmor: Option<String>,
    /// Start it in a paused container, to run when that goes on
    #[arg(long)]
    ignore_paused: bool,
    id: String,
    #[arg(trailing_var_arg = true, allow_hyphen_values = true)]
    command: Vec<String>,
}

/// The arguments behind the program, when this is runc's grammar; else all of them as they came.
pub(super) fn arguments(mut arguments: Vec<OsString>) -> Result<Vec<OsString>, Vec<OsString>> {
    let program = arguments.first().and_then(|path| Path::new(path).file_name());
    if program == Some(OsStr::new(PROGRAM)) {
        return Ok(arguments);
    }
    if arguments.get(1).is_some_and(|verb| verb == VERB) {
        arguments.remove(0);
        return Ok(arguments);
    }
    Err(arguments)
}

/// Runs one command line and returns the exit code of the process.
pub(super) fn main(arguments: &[OsString]) -> ExitCode {
    let arguments = match Arguments::try_parse_from(arguments) {
        Ok(arguments) => arguments,
        Err(error) => {
            // A closed pipe behind `--help` is fine.
            drop(error.print());
            return ExitCode::from(u8::from(error.use_stderr()));
        }
    };
    let runtime = Runtime::new(&arguments.root);
    let outcome = carry_out(&arguments, &runtime);
    for warning in runtime.warnings() {
        tell(&arguments, "warning", &sentence(&warning));
    }
    match outcome {
        Ok(code) => ExitCode::from(code),
        Err(error) => {
            tell(&arguments, "error", &sentence(&error));
            let is_program = matches!(arguments.verb, Verb::Run { .. } | Verb::Exec(_));
            ExitCode::from(if is_program { error.exit_code() } else { 1 })
        }
    }
}

/// An error with its causes and what to do, in one line.
fn sentence(error: &Error) -> String {
    let mut text = error.to_string();
    let mut cause = std::error::Error::source(error);
    while let Some(next) = cause {
        // A transparent error is its own cause.
        if !text.ends_with(&next.to_string()) {
            text = format!("{text}: {next}");
        }
        cause = next.source();
    }
    match error.hint() {
        Some(hint) => format!("{text} ({hint})"),
        None => text,
    }
}

/// Writes a line to stderr, and to the log of those who asked for one.
fn tell(arguments: &Arguments, level: &str, text: &str) {
    // Nobody is left to tell when stderr is closed.
    drop(writeln!(std::io::stderr(), "{level}: {text}"));
    let Some(path) = &arguments.log else { return };
    let time = jiff::Timestamp::now().to_string();
    let line = if arguments.log_format == "json" {
        serde_json::json!({ "level": level, "msg": text, "time": time }).to_string()
    } else {
        format!("time=\"{time}\" level={level} msg={text:?}")
    };
    let file = std::fs::OpenOptions::new().append(true).create(true).open(path);
    // The same was said on stderr.
    drop(file.and_then(|mut file| writeln!(file, "{line}")));
}

fn carry_out(arguments: &Arguments, runtime: &Runtime) -> Result<u8, Error> {
    match &arguments.verb {
        Verb::Create(make) => runtime.create(&make.wish(arguments)).map(|_| 0),
        Verb::Run { make, detach } => runtime.run(&make.wish(arguments), *detach),
        Verb::Start { id } => runtime.start(id).map(|()| 0),
        Verb::State { id } => {
            let state = runtime.find(id)?.state();
            print(&serde_json::to_string_pretty(&state).unwrap_or_default())
        }
        Verb::Kill { all, id, signal: name } => {
            let number = signal::parse(name).map_err(|_| Error::Signal { name: name.clone() })?;
            runtime.kill(id, number, *all).map(|()| 0)
        }
        Verb::Delete { force, id } => runtime.delete(id, *force).map(|()| 0),
        Verb::Exec(further) => runtime.exec(&further.wish(runtime)?),
        Verb::Pause { id } => runtime.pause(id, true).map(|()| 0),
        Verb::Resume { id } => runtime.pause(id, false).map(|()| 0),
        Verb::Ps { format, id } => {
            let pids = runtime.find(id)?.pids()?;
            match format.as_str() {
                "json" => print(&serde_json::to_string(&pids).unwrap_or_default()),
                _ => print(&pids.iter().map(ToString::to_string).collect::<Vec<_>>().join("\n")),
            }
        }
        Verb::List { format, quiet } => list(runtime, format, *quiet),
        Verb::Features => print(&serde_json::to_string_pretty(&oci::features()).unwrap_or_default()),
    }
}

fn print(text: &str) -> Result<u8, Error> {
    // A reader that went away has read enough.
    drop(writeln!(std::io::stdout(), "{text}"));
    Ok(0)
}

fn list(runtime: &Runtime, format: &str, quiet: bool) -> Result<u8, Error> {
    let states: Vec<_> = runtime.list().iter().map(oci::Container::state).collect();
    if quiet {
        return print(&states.iter().map(|state| state.id.as_str()).collect::<Vec<_>>().join("\n"));
    }
    if format == "json" {
        return print(&serde_json::to_string(&states).unwrap_or_default());
    }
    let mut text = format!("{:<32}{:<12}{:<12}{:<32}CREATED", "ID", "PID", "STATUS", "BUNDLE");
    for state in states {
        let (status, bundle) = (state.status.to_string(), state.bundle.display().to_string());
        text.push_str(&format!("\n{:<32}{:<12}{status:<12}{bundle:<32}{}", state.id, state.pid, state.created));
    }
    print(&text)
}

impl Make {
    fn wish(&self, arguments: &Arguments) -> Create {
        Create {
            id: self.id.clone(),
            bundle: self.bundle.clone(),
            pid_file: self.pid_file.clone(),
            console: Console { socket: self.console_socket.clone() },
            without_pivot: self.no_pivot,
            keeps_keyring: self.no_new_keyring,
            preserved: self.preserve_fds,
            systemd_names: arguments.systemd_cgroup,
        }
    }
}

/// More than any process is described by.
const PROCESS_BYTES_MAX: u64 = 4 << 20;

impl Further {
    fn wish(&self, runtime: &Runtime) -> Result<Exec, Error> {
        let process = match &self.process {
            Some(path) => Process::parse(&fs::read_limited(path, PROCESS_BYTES_MAX)?)?,
            None => self.typed(runtime.first_process(&self.id)?)?,
        };
        Ok(Exec {
            id: self.id.clone(),
            process,
            detach: self.detach,
            pid_file: self.pid_file.clone(),
            console: Console { socket: self.console_socket.clone() },
            preserved: self.preserve_fds,
            may_be_paused: self.ignore_paused,
        })
    }

    /// The container's own process with what was typed.
    fn typed(&self, mut process: Process) -> Result<Process, Error> {
        process.args.clone_from(&self.command);
        process.terminal = self.tty;
        process.env.extend(self.env.iter().cloned());
        process.no_new_privileges |= self.no_new_privs;
        process.user.additional_gids.extend(&self.additional_gids);
        if let Some(cwd) = &self.cwd {
            process.cwd.clone_from(cwd);
        }
        if let Some(profile) = &self.apparmor {
            process.apparmor_profile.clone_from(profile);
        }
        if let Some(user) = &self.user {
            let (uid, gid) = user.split_once(':').unwrap_or((user, ""));
            let wrong = || crate::runtime::Error::IdOutOfRange { id: user.clone() };
            process.user.uid = uid.parse().map_err(|_| wrong())?;
            if !gid.is_empty() {
                process.user.gid = gid.parse().map_err(|_| wrong())?;
            }
        }
        let sets = &mut process.capabilities;
        for set in [&mut sets.bounding, &mut sets.permitted, &mut sets.effective] {
            set.extend(self.cap.iter().cloned());
        }
        Ok(process)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_name_or_the_first_word_choose_the_grammar() {
        let check = |typed: &str| arguments(typed.split(' ').map(OsString::from).collect()).map(|words| words.len());
        assert_eq!(check("/usr/bin/wharf-oci --root /x state c1"), Ok(5));
        assert_eq!(check("wharf oci state c1"), Ok(3));
        assert!(check("wharf state oci").is_err() && check("docker run oci").is_err());
    }

    #[test]
    fn the_flags_are_consistent() {
        use clap::CommandFactory;
        Arguments::command().debug_assert();
        for typed in [
            "wharf-oci --root /r --log=/l --log-format=json --systemd-cgroup create --bundle /b --pid-file /p --no-pivot c1",
            "wharf-oci create c1 --bundle /b --console-socket /s --no-new-keyring --preserve-fds 2",
            "wharf-oci exec --process /p --pid-file /q --detach --tty c1",
            "wharf-oci exec -u 5:6 -e A=b c1 sh -c true",
            "wharf-oci kill c1 9 --all",
            "wharf-oci delete --force c1",
        ] {
            assert!(Arguments::try_parse_from(typed.split(' ')).is_ok(), "{typed}");
        }
    }
}
