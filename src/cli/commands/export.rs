use std::fs::File;
use std::io::{self, IsTerminal, Write};
use std::path::PathBuf;

use crate::base::fs::{Context as _, is_replaceable};
use crate::cli::{Context, Mistake, Outcome};

/// Write a container's files as a tar
#[derive(Debug, clap::Args)]
pub struct Args {
    /// A service of the project, or a container
    container: String,
    /// File instead of standard output
    #[arg(short, long, value_name = "FILE")]
    output: Option<PathBuf>,
    /// Which replica of the service
    #[arg(long, value_name = "N")]
    index: Option<u32>,
}

/// Exports. A file is complete or not there.
pub fn run(context: &Context, args: &Args) -> Outcome {
    let scope = context.in_scope()?;
    let member = scope.one(context, &args.container, args.index)?;
    let to = args.output.as_ref().map_or_else(|| "standard output".to_owned(), |path| path.display().to_string());
    if context.only_says([format!("write the files of container {} to {to}", member.spec.name)])? {
        return Ok(0);
    }
    let Some(path) = &args.output else {
        if io::stdout().is_terminal() {
            let text = "an archive is nothing for a terminal: use -o FILE, or redirect the output";
            return Err(Mistake::usage(text).into());
        }
        let mut out = context.output();
        scope.engine.export(&member.spec.id, &mut out)?;
        out.flush()?;
        return Ok(0);
    };
    if !is_replaceable(path) {
        let mut file = io::BufWriter::new(File::create(path).context("create", path)?);
        scope.engine.export(&member.spec.id, &mut file)?;
        file.flush().context("write", path)?;
        return Ok(0);
    }
    let mut name = path.clone().into_os_string();
    name.push(".part");
    let temporary = PathBuf::from(name);
    let mut file = io::BufWriter::new(File::create(&temporary).context("create", &temporary)?);
    let written = scope
        .engine
        .export(&member.spec.id, &mut file)
        .and_then(|()| Ok(file.flush().context("write", &temporary)?))
        .and_then(|()| Ok(std::fs::rename(&temporary, path).context("create", path)?));
    if written.is_err() {
        drop(std::fs::remove_file(&temporary));
    }
    written?;
    Ok(0)
}
