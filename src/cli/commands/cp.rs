use std::io::{self, IsTerminal, Write};

use crate::base::units::format_bytes;
use crate::cli::members::Member;
use crate::cli::{Context, Mistake, Outcome};
use crate::engine::files::{CopyOptions, Place};

/// Copy files between a container and the host
#[derive(Debug, clap::Args)]
pub struct Args {
    /// CONTAINER:PATH, a path of the host, or `-` for a tar on standard input
    source: String,
    /// CONTAINER:PATH, a path of the host, or `-` for a tar on standard output
    destination: String,
    /// Keep users and groups
    #[arg(short, long)]
    archive: bool,
    /// Copy what a link at the source means
    #[arg(short = 'L', long)]
    follow_link: bool,
    /// Say nothing
    #[arg(short, long)]
    quiet: bool,
    /// Which replica of the service
    #[arg(long, value_name = "N")]
    index: Option<u32>,
    /// To every replica of the service
    #[arg(long, conflicts_with = "index")]
    all: bool,
}

/// Copies.
pub fn run(context: &Context, args: &Args) -> Outcome {
    let options = CopyOptions { archive: args.archive, follow: args.follow_link };
    let scope = context.in_scope()?;
    if context.global.dry_run {
        let named = in_container(&args.source).or_else(|| in_container(&args.destination));
        let members = match named {
            Some((name, _)) if args.all => scope.select(context, &[name.to_owned()])?,
            Some((name, _)) => vec![scope.one(context, name, args.index)?],
            None => Vec::new(),
        };
        let (from, to) = (&args.source, &args.destination);
        let step = |member: &Member| format!("copy {from} to {to} (container {})", member.spec.name);
        context.only_says(members.into_iter().map(step))?;
        return Ok(0);
    }
    let place = |name: &str, path: &str| {
        let member = scope.one(context, name, args.index)?;
        Ok::<_, crate::cli::Failure>(scope.engine.place_in(&member.spec.id, path)?)
    };
    let (bytes, shown) = match (in_container(&args.source), in_container(&args.destination)) {
        (Some((name, path)), None) => {
            let source = place(name, path)?;
            if args.destination == "-" {
                if io::stdout().is_terminal() {
                    return Err(Mistake::usage("an archive is nothing for a terminal: redirect the output").into());
                }
                let mut out = context.output();
                source.read(options, &mut out)?;
                out.flush()?;
                return Ok(0);
            }
            (Place::on_host(&args.destination)?.copy_from(&source, options)?, args.destination.clone())
        }
        (None, Some((name, path))) => {
            if args.source == "-" {
                place(name, path)?.write_archive(options, io::stdin().lock())?;
                return Ok(0);
            }
            let source = Place::on_host(&args.source)?;
            let mut bytes = 0;
            if args.all {
                for member in scope.select(context, &[name.to_owned()])? {
                    bytes += scope.engine.place_in(&member.spec.id, path)?.copy_from(&source, options)?;
                }
            } else {
                bytes = place(name, path)?.copy_from(&source, options)?;
            }
            (bytes, args.destination.clone())
        }
        (Some(_), Some(_)) => return Err(Mistake::usage("copying between containers is not supported").into()),
        (None, None) => {
            return Err(Mistake::Usage {
                text: "neither the source nor the destination is in a container".into(),
                hint: Some("write CONTAINER:PATH for one of them".into()),
            }
            .into());
        }
    };
    // As Docker has it: a script's stderr stays empty.
    if !args.quiet && context.terminal.stderr_is_terminal {
        context.say(&format!("Successfully copied {} to {shown}", format_bytes(bytes)));
    }
    Ok(0)
}

/// `CONTAINER:PATH`; a path of the host that has a colon is written with `./` or `/` before it.
fn in_container(text: &str) -> Option<(&str, &str)> {
    if text.starts_with(['/', '.']) {
        return None;
    }
    text.split_once(':').filter(|(name, _)| !name.is_empty())
}

#[cfg(test)]
mod tests {
    use super::in_container;

    #[test]
    fn a_colon_tells_containers_from_files() {
        assert_eq!(in_container("web:/etc/x"), Some(("web", "/etc/x")));
        assert_eq!(in_container("web:a:b"), Some(("web", "a:b")));
        for path in ["./a:b", "/a:b", "file", "-", ":x"] {
            assert_eq!(in_container(path), None, "{path}");
        }
    }
}
