//! `build --check`: what the Dockerfile's rules have to say, as BuildKit prints it.

use std::io::Write;

use crate::build::{self, BuildRequest, Checked};
use crate::cli::{Context, Failure, Outcome};
use crate::engine::Engine;
use crate::engine::images::ImageWish;
use crate::model::project::{Project, Service};

/// Checks the Dockerfile of a request and prints what was found.
///
/// Docker ends with 1 when there is a warning. Ours does when the Dockerfile asks for it (`# check=error=true`), so
/// that a check can stand in a pipeline before a build that would succeed.
pub fn run(context: &Context, request: &BuildRequest) -> Outcome {
    let checked = build::check(request)?;
    let mut out = context.output();
    print(&mut out, &checked)?;
    out.flush()?;
    if let Some(rules) = checked.violation {
        return Err(build::Error::Lint { rules }.into());
    }
    Ok(u8::from(context.docker && !checked.found.is_empty()))
}

/// Checks the Dockerfiles of services, all of them, and prints what was found below their names. As in Compose, ends
/// with 1 when there is a warning.
pub fn run_services(
    context: &Context,
    engine: &Engine,
    project: &Project,
    services: &[&Service],
    wish: &ImageWish,
) -> Outcome {
    let mut out = context.output();
    let (mut warned, mut failures) = (false, Vec::new());
    for (number, service) in services.iter().enumerate() {
        let Some(build) = &service.build else { continue };
        match engine.check_service(project, service, build, wish) {
            Ok(checked) => {
                let gap = if number > 0 { "\n" } else { "" };
                writeln!(out, "{gap}{}\n", service.name)?;
                print(&mut out, &checked)?;
                warned |= !checked.found.is_empty();
            }
            Err(error) => failures.push(error),
        }
    }
    out.flush()?;
    match failures.is_empty() {
        true => Ok(u8::from(warned)),
        false => Err(Failure::Errors(failures.into_iter().map(|error| Box::new(error) as _).collect())),
    }
}

fn print(out: &mut impl Write, checked: &Checked) -> std::io::Result<()> {
    match checked.found.len() {
        0 => writeln!(out, "Check complete, no warnings found.")?,
        1 => writeln!(out, "Check complete, 1 warning has been found!")?,
        count => writeln!(out, "Check complete, {count} warnings have been found!")?,
    }
    for (excerpt, warning) in &checked.found {
        writeln!(out, "\nWARNING: {} - {}", warning.rule.name(), warning.rule.url())?;
        write!(out, "{}\n{excerpt}", warning.detail)?;
    }
    Ok(())
}
