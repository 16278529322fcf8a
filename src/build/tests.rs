//! Data tests: each folder of `tests/data/dockerfile` has a Dockerfile and what it means.
//!
//! `UPDATE_EXPECT=1` writes the expectations anew; read the difference before you commit it.

use std::fmt::Write as _;
use std::path::{Path, PathBuf};

use super::interpret::{Action, State, interpret};
use super::plan::{Base, Plan};
use super::{BuildRequest, DockerfileSource, Error, dockerfile};
use crate::base::error::Explain;

#[test]
fn dockerfiles_mean_what_is_expected() {
    let root = Path::new(env!("CARGO_MANIFEST_DIR")).join("tests/data/dockerfile");
    let mut cases: Vec<PathBuf> = std::fs::read_dir(&root)
        .map(|entries| entries.flatten().map(|entry| entry.path()).collect())
        .unwrap_or_default();
    cases.sort();
    assert!(cases.len() > 15, "the cases are in {}", root.display());
    let mut wrong = Vec::new();
    for case in cases {
        let text = std::fs::read_to_string(case.join("Dockerfile")).unwrap_or_else(|error| panic!("{error}"));
        let meaning = meaning_of(&text).unwrap_or_else(|error| failure(&error));
        let path = case.join("expected");
        if std::env::var_os("UPDATE_EXPECT").is_some() {
            std::fs::write(&path, &meaning).unwrap_or_else(|error| panic!("{error}"));
        }
        if std::fs::read_to_string(&path).ok().as_deref() != Some(&meaning) {
            wrong.push(format!("{}:\n{meaning}", case.display()));
        }
    }
    assert!(wrong.is_empty(), "{}", wrong.join("\n"));
}

fn failure(error: &Error) -> String {
    let mut text = format!("error: {error}\n");
    for excerpt in error.excerpts() {
        let caret = " ".repeat(excerpt.location.column - 1) + &"^".repeat(excerpt.length.max(1));
        let _ = writeln!(text, "  | {}\n  | {caret}", excerpt.source);
    }
    if let Some(hint) = error.hint() {
        let _ = writeln!(text, "hint: {hint}");
    }
    text
}

fn meaning_of(text: &str) -> Result<String, Error> {
    let mut request = BuildRequest::new("/context");
    request.dockerfile = DockerfileSource::Inline(text.to_owned());
    request.platform = Some("linux/amd64".into());
    let plan = Plan::new(dockerfile::parse_dockerfile(Path::new("Dockerfile"), text)?, &request)?;
    let mut states = std::collections::BTreeMap::<usize, State>::new();
    let mut output = String::new();
    for index in plan.reachable() {
        let stage = &plan.stages[index];
        let state = match &stage.base {
            Base::Stage(base) => State::of_stage(&states[base]),
            Base::Image(_) => State::of_image(&crate::model::image::ImageConfig::default(), plan.platform_of(index)),
            _ => State::of_nothing(plan.platform_of(index)),
        };
        let _ = writeln!(output, "stage {} on {:?}", stage.label, stage.base);
        let interpreted = interpret(&plan, index, state)?;
        for step in &interpreted.steps {
            let _ = writeln!(output, "  {} {}", step.line.lines.0, shown(&step.action));
        }
        states.insert(index, interpreted.state);
    }
    let image = &states[&plan.target].image;
    for entry in &image.history {
        let mark = if entry.empty_layer { ' ' } else { '*' };
        let _ = writeln!(output, "{mark} {}", entry.created_by.as_deref().unwrap_or_default());
    }
    let config = serde_json::to_string_pretty(&image.config).unwrap_or_default();
    let _ = writeln!(output, "{config}");
    Ok(output)
}

fn shown(action: &Action) -> String {
    match action {
        Action::Run(run) => format!("run {:?} script {:?} in {} with {:?}", run.args, run.script, run.cwd, run.env),
        Action::Copy(copy) => format!(
            "copy {:?} {:?} to {} from {:?} owner {:?} mode {:?}",
            copy.sources, copy.inline, copy.destination, copy.origin, copy.chown, copy.chmod
        ),
        Action::Workdir { path, user } => format!("workdir {path} of `{user}`"),
    }
}

/// What is far beyond any real Dockerfile ends with an error, soon, and in memory that is in proportion to the text.
#[test]
fn hostile_dockerfiles_are_refused() {
    let doubled = format!("FROM a\nENV x=aaaaaaaaaaaaaaaa\n{}", "ENV x=$x$x\n".repeat(60));
    let circle: String =
        (0..1000).map(|n| format!("FROM scratch AS s{n}\nCOPY --from={} / /\n", (n + 1) % 1000)).collect();
    let variables: String = (0..5000).map(|n| format!("ENV a{n}=b\n")).collect();
    for (text, wanted) in [
        (format!("FROM a\n{}", "RUN b\n".repeat(30_000)), "more than 20000 instructions"),
        (format!("FROM a\n{variables}"), "more than 4096 variables"),
        (format!("FROM a\nRUN {}", "x".repeat(70_000)), "longer than 65535 bytes"),
        (format!("FROM a\nENV x={}", "${a:-".repeat(10_000)), ""),
        (doubled, ""),
        (circle, "circular dependency"),
        (format!("FROM a\nRUN {}", "<<A ".repeat(2000)), ""),
    ] {
        let mut request = BuildRequest::new("/nowhere");
        request.dockerfile = DockerfileSource::Inline(text);
        let error = super::check(&request).expect_err(wanted).to_string();
        assert!(error.contains(wanted), "{error}");
    }
}
