use std::io::Write;

use crate::cli::{Context, Outcome};
use crate::engine::{self, commit::Commit};

/// Make an image of a container
#[derive(Debug, clap::Args)]
pub struct Args {
    /// A service of the project, or a container
    container: String,
    /// Name of the image
    reference: Option<String>,
    /// Who made it
    #[arg(short, long, value_name = "TEXT")]
    author: Option<String>,
    /// Dockerfile instruction for its config, such as 'CMD ["sh"]'
    #[arg(short, long, value_name = "INSTRUCTION")]
    change: Vec<String>,
    /// Remark in its history
    #[arg(short, long, value_name = "TEXT")]
    message: Option<String>,
    /// Freeze the container meanwhile
    #[arg(short, long, value_name = "BOOL", default_value_t = true, hide_default_value = true, num_args = 0..=1,
        require_equals = true, default_missing_value = "true", action = clap::ArgAction::Set)]
    pause: bool,
    /// Which replica of the service
    #[arg(long, value_name = "N")]
    index: Option<u32>,
}

/// Commits; prints the image's id.
pub fn run(context: &Context, args: &Args) -> Outcome {
    let commit = Commit {
        reference: args.reference.as_deref().map(str::parse).transpose().map_err(engine::Error::from)?,
        author: args.author.clone(),
        message: args.message.clone(),
        changes: args.change.clone(),
        pause: args.pause,
    };
    let scope = context.in_scope()?;
    let member = scope.one(context, &args.container, args.index)?;
    let name = args.reference.as_deref().unwrap_or("without a name");
    if context.only_says([format!("make image {name} of container {}", member.spec.name)])? {
        return Ok(0);
    }
    let image = scope.engine.commit(&member.spec.id, &commit)?;
    let mut out = context.output();
    writeln!(out, "{}", image.id)?;
    out.flush()?;
    Ok(0)
}
