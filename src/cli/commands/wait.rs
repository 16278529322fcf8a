use std::io::Write;

use crate::cli::interactive::exit_code;
use crate::cli::members::Member;
use crate::cli::{Context, Mistake, Outcome};
use crate::graph::teardown::{self, Down};

/// Wait until services or containers have ended, and print their exit codes
#[derive(Debug, clap::Args)]
pub struct Args {
    /// Services of the project, or containers
    #[arg(required = true)]
    targets: Vec<String>,
    /// Take the project down when the first one ends
    #[arg(long)]
    down_project: bool,
}

/// Waits. Ends with the code of the one that ended last.
pub fn run(context: &Context, args: &Args) -> Outcome {
    let scope = context.in_scope()?;
    let members: Vec<&Member> = scope.select(context, &args.targets)?;
    if members.is_empty() {
        return Err(Mistake::NotRunning { name: args.targets.join(", ") }.into());
    }
    let waits = members.iter().map(|member| format!("wait for the end of container {}", member.spec.name));
    if context.only_says(waits)? {
        return Ok(0);
    }
    let (report, reports) = std::sync::mpsc::channel();
    let wanted = if args.down_project { 1 } else { members.len() };
    let engine = &scope.engine;
    let mut out = context.output();
    let mut last = 0;
    for member in &members {
        let (id, report) = (member.spec.id.clone(), report.clone());
        let store = engine.store().clone();
        // Not joined: with --down-project those that wait on end with the process.
        std::thread::spawn(move || drop(report.send(crate::supervise::wait(&store, &id))));
    }
    for _ in 0..wanted {
        let Ok(code) = reports.recv() else { break };
        last = code?;
        writeln!(out, "{last}")?;
        out.flush()?;
    }
    if args.down_project
        && let Some(project) = context.project_in_scope(&[])?
    {
        let plan = teardown::down(project.project(), &engine.observe(&project.name, None)?, &Down::default());
        context.carry_out(engine, project.project(), &plan)?;
    }
    Ok(exit_code(last))
}
