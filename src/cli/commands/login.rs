use std::io::{self, IsTerminal, Read, Write};

use crate::cli::{Context, Failure, Mistake, Outcome};
use crate::image::login::{self, Kept};

/// Longest password that is read.
const PASSWORD_BYTES_MAX: u64 = 64 << 10;

/// Log in to a registry
#[derive(Debug, clap::Args)]
pub struct Login {
    /// The registry; Docker Hub when left out
    #[arg(default_value = "", hide_default_value = true)]
    server: String,
    /// User name
    #[arg(short, long, value_name = "USER")]
    username: Option<String>,
    /// Password; seen by everybody on this machine
    #[arg(short, long, value_name = "PASSWORD")]
    password: Option<String>,
    /// Read the password from standard input
    #[arg(long, conflicts_with = "password")]
    password_stdin: bool,
}

/// Log out of a registry
#[derive(Debug, clap::Args)]
pub struct Logout {
    /// The registry; Docker Hub when left out
    #[arg(default_value = "", hide_default_value = true)]
    server: String,
}

/// Logs in.
pub fn login(context: &Context, args: &Login) -> Outcome {
    if args.password.is_some() {
        context.warn("--password is insecure: everybody on this machine can see it; use --password-stdin");
    }
    if args.password_stdin && args.username.is_none() {
        return Err(Mistake::usage("--password-stdin needs --username").into());
    }
    let user = match &args.username {
        Some(user) => user.clone(),
        None => ask("Username: ", true)?,
    };
    let password = match &args.password {
        Some(password) => password.clone(),
        None if args.password_stdin => {
            let mut text = String::new();
            io::stdin().lock().take(PASSWORD_BYTES_MAX).read_to_string(&mut text)?;
            text.trim_end_matches(['\n', '\r']).to_owned()
        }
        None => ask("Password: ", false)?,
    };
    if user.is_empty() || password.is_empty() {
        return Err(Mistake::usage("a login needs a user name and a password").into());
    }
    match login::login(&args.server, &user, &password)? {
        Kept::Helper(_) => {}
        Kept::File(path) => context.warn(&format!(
            "the password is stored unencrypted in {}: configure a credential helper (credsStore) to avoid this",
            path.display()
        )),
    }
    let mut out = context.output();
    writeln!(out, "Login Succeeded")?;
    out.flush()?;
    Ok(0)
}

/// Logs out.
pub fn logout(context: &Context, args: &Logout) -> Outcome {
    let shown = if args.server.is_empty() { login::DOCKER_HUB } else { &args.server };
    let mut out = context.output();
    match login::logout(&args.server)? {
        true => writeln!(out, "Removing login credentials for {shown}")?,
        false => writeln!(out, "Not logged in to {shown}")?,
    }
    out.flush()?;
    Ok(0)
}

/// Asks on the terminal; what is secret is not shown.
fn ask(question: &str, is_shown: bool) -> Result<String, Failure> {
    if !io::stdin().is_terminal() {
        let hint = Some("give --username and --password-stdin".into());
        return Err(Mistake::Usage { text: "a login needs a terminal to ask for it".into(), hint }.into());
    }
    let mut err = io::stderr().lock();
    write!(err, "{question}")?;
    err.flush()?;
    let before = rustix::termios::tcgetattr(io::stdin()).ok();
    if let (false, Some(before)) = (is_shown, &before) {
        let mut silent = before.clone();
        silent.local_modes.remove(rustix::termios::LocalModes::ECHO);
        // Shown rather than not asked for.
        let _shown = rustix::termios::tcsetattr(io::stdin(), rustix::termios::OptionalActions::Flush, &silent);
    }
    let mut answer = String::new();
    let read = io::stdin().read_line(&mut answer);
    if let (false, Some(before)) = (is_shown, &before) {
        let _same = rustix::termios::tcsetattr(io::stdin(), rustix::termios::OptionalActions::Flush, before);
        writeln!(err)?;
    }
    read?;
    Ok(answer.trim().to_owned())
}
