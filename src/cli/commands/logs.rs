use std::io::BufWriter;

use jiff::Timestamp;

use crate::cli::members::Member;
use crate::cli::output::follow::Follower;
use crate::cli::output::newcomers::Newcomers;
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
    /// With the labels and variables that `--log-opt labels=…` and `env=…` name
    #[arg(long)]
    details: bool,
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
    let engine = context.engine()?;
    // Watched before what is there is read: none is missed.
    let newcomers =
        if args.follow && args.index.is_none() { Some(Newcomers::watch(engine.store().clone())?) } else { None };
    let scope = context.in_scope_of(engine)?;
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
    if let [only] = members.as_slice()
        && context.docker
        && !only.spec.logging.enabled
    {
        let text = format!("container {} has the log driver `none`: what it writes is not kept", only.spec.name);
        return Err(Mistake::usage(text).into());
    }
    let look = Look {
        prefix: !args.no_log_prefix && !bare,
        colour: !args.no_color,
        timestamps: args.timestamps,
        details: args.details,
    };
    let newcomers = newcomers.zip(scope.project.as_deref()).map(|(newcomers, project)| {
        // A name that is a container's stands for that one alone.
        let is_container = |name: &&String| scope.all().iter().any(|member| member.spec.name == **name);
        let services: Vec<String> = args.targets.iter().filter(|name| !is_container(name)).cloned().collect();
        let (project, all) = (project.to_owned(), args.targets.is_empty());
        let wanted = move |member: &Member| {
            member.project() == Some(&project)
                && !member.is_one_off()
                && (all || services.iter().any(|name| member.service() == Some(name)))
        };
        (newcomers, wanted)
    });
    follow(context, &members, options, look, scope.engine.store().clone(), newcomers)
}

fn follow(
    context: &Context,
    members: &[&Member],
    options: ReadOptions,
    look: Look,
    store: crate::store::Store,
    mut newcomers: Option<(Newcomers, impl Fn(&Member) -> bool)>,
) -> Outcome {
    let printer =
        Printer::new(look, &context.terminal, context.output(), BufWriter::with_capacity(0, std::io::stderr()));
    let mut follower = Follower::new(store.clone(), options, look.prefix, printer);
    for member in members {
        let name = if look.prefix { member.short_name() } else { &member.spec.name };
        follower.add(&member.spec.id, name, member.service().unwrap_or(&member.spec.name), true)?;
    }
    loop {
        if let Some((newcomers, wanted)) = &mut newcomers {
            for member in newcomers.take(&*wanted)? {
                let service = member.service().unwrap_or_default();
                let added = follower.add(&member.spec.id, member.short_name(), service, true);
                if store.containers().exists(&member.spec.id) {
                    added?;
                }
            }
        }
        follower.turn()?;
        let newcomers = newcomers.as_ref().map(|(newcomers, _)| newcomers);
        if follower.is_empty() && newcomers.is_none_or(|newcomers| !newcomers.are_coming()) {
            return Ok(0);
        }
        let fds: Vec<_> = follower.fds().into_iter().chain(newcomers.map(Newcomers::fd)).collect();
        wait(&fds)?;
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
