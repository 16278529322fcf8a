use std::io::BufWriter;

use jiff::Timestamp;

use crate::cli::members::Member;
use crate::cli::output::follow::Follower;
use crate::cli::output::printer::{Look, Printer};
use crate::cli::show::time::parse_moment;
use crate::cli::{Context, Failure, Mistake, Outcome};
use crate::log::ReadOptions;

/// Show what containers have written
#[derive(Debug, clap::Args)]
pub struct Args {
    /// Only these services or containers
    targets: Vec<String>,
    /// Go on with what is written from now on
    #[arg(short, long)]
    follow: bool,
    /// Only the last N lines of each, or all
    #[arg(short = 'n', long, value_name = "N", default_value = "all", hide_default_value = true)]
    tail: String,
    /// Nothing older: a time, a duration back from now (10m), or seconds since 1970
    #[arg(long, value_name = "TIME")]
    since: Option<String>,
    /// Nothing younger
    #[arg(long, value_name = "TIME")]
    until: Option<String>,
    /// With the time of each line
    #[arg(short, long)]
    timestamps: bool,
    /// Without the container's name before each line
    #[arg(long)]
    no_log_prefix: bool,
    /// Without colours
    #[arg(long)]
    no_color: bool,
    /// Which replica of the service
    #[arg(long, value_name = "N")]
    index: Option<u32>,
}

/// Prints logs.
pub fn run(context: &Context, args: &Args) -> Outcome {
    let now = Timestamp::now();
    let moment = |flag, text: &Option<String>| text.as_ref().map(|text| parse_moment(flag, text, now)).transpose();
    let options = ReadOptions {
        follow: args.follow,
        tail: parse_tail(&args.tail)?,
        since: moment("--since", &args.since)?,
        until: moment("--until", &args.until)?,
    };
    let scope = context.in_scope()?;
    if scope.project.is_none() && args.targets.is_empty() {
        return Err(Mistake::Usage {
            text: "`wharf logs` needs the name of a container here".into(),
            hint: Some("there is no compose file in this folder or above it; `wharf ps -a` lists containers".into()),
        }
        .into());
    }
    let mut members = scope.select(context, &args.targets)?;
    if let Some(index) = args.index {
        members.retain(|member| member.number() == index);
        if members.is_empty() {
            return Err(Mistake::NoSuchReplica { name: args.targets.join(", "), index }.into());
        }
    }
    // `docker logs NAME` of one container is its bare output; a service's lines are named as Compose names them.
    let bare = scope.project.is_none() && members.len() == 1;
    let look = Look { prefix: !args.no_log_prefix && !bare, colour: !args.no_color, timestamps: args.timestamps };
    follow(context, &members, options, look, scope.engine.store().clone())
}

fn follow(
    context: &Context,
    members: &[&Member],
    options: ReadOptions,
    look: Look,
    store: crate::store::Store,
) -> Outcome {
    let printer =
        Printer::new(look, &context.terminal, context.output(), BufWriter::with_capacity(0, std::io::stderr()));
    let mut follower = Follower::new(store, options, look.prefix, printer);
    for member in members {
        let name = if look.prefix { member.short_name() } else { &member.spec.name };
        follower.add(&member.spec.id, name, member.service().unwrap_or(&member.spec.name), true)?;
    }
    loop {
        follower.turn()?;
        if follower.is_empty() {
            return Ok(0);
        }
        wait(&follower.fds())?;
    }
}

/// Waits until one of the descriptors is readable.
fn wait(fds: &[std::os::fd::BorrowedFd<'_>]) -> Result<(), Failure> {
    use rustix::event::{PollFd, PollFlags, poll};
    let mut polled: Vec<PollFd<'_>> = fds.iter().map(|fd| PollFd::from_borrowed_fd(*fd, PollFlags::IN)).collect();
    match poll(&mut polled, None) {
        Ok(_) | Err(rustix::io::Errno::INTR) => Ok(()),
        Err(errno) => Err(Mistake::System { operation: "wait for log lines", source: errno.into() }.into()),
    }
}

fn parse_tail(text: &str) -> Result<Option<u64>, Mistake> {
    match text {
        // A negative number is all lines, as Docker has it.
        "all" | "" => Ok(None),
        text if text.starts_with('-') && text[1..].parse::<u64>().is_ok() => Ok(None),
        text => text.parse().map(Some).map_err(|_| Mistake::value("--tail", text, "it takes a number or all")),
    }
}

#[cfg(test)]
mod tests {
    use super::parse_tail;

    #[test]
    fn tails_are_numbers_or_all() {
        assert_eq!(parse_tail("all").ok(), Some(None));
        assert_eq!(parse_tail("-1").ok(), Some(None));
        assert_eq!(parse_tail("0").ok(), Some(Some(0)));
        assert!(parse_tail("ten").is_err());
        assert!(parse_tail("-x").is_err());
    }
}
