//! `config --explain`: where values come from, as text or JSON.

use crate::base::error::Location;
use crate::cli::scope::{shown_file, shown_location};
use crate::cli::{Failure, Mistake};
use crate::compose::{Explanation, Origin, Used};

/// The explanations of what is at or below `path`; all of them where it is empty.
///
/// A path may leave out `services.`. Errors: nothing is there.
pub fn text(all: &[Explanation], path: &str, json: bool) -> Result<String, Failure> {
    let below = |path: &str| -> Vec<&Explanation> { all.iter().filter(|one| is_below(&one.path, path)).collect() };
    let mut chosen = below(path);
    if chosen.is_empty() {
        chosen = below(&format!("services.{path}"));
    }
    if chosen.is_empty() {
        let hint = Some("`config --explain` without a path lists them all".to_owned());
        return Err(Mistake::Usage { text: format!("the project has nothing at `{path}`"), hint }.into());
    }
    if json {
        let values: Vec<serde_json::Value> = chosen.into_iter().map(as_json).collect();
        let text = serde_json::to_string_pretty(&values).map_err(std::io::Error::from)?;
        return Ok(text + "\n");
    }
    Ok(chosen.into_iter().map(as_text).collect())
}

/// Whether `path` is `above` or something below it; `ports.0` is another way to write `ports[0]`.
fn is_below(path: &str, above: &str) -> bool {
    let plain = |text: &str| text.replace('[', ".").replace([']', '"'], "");
    let (path, above) = (plain(path), plain(above));
    match path.strip_prefix(above.trim_end_matches('.')) {
        Some(rest) => above.is_empty() || rest.is_empty() || rest.starts_with('.'),
        None => false,
    }
}

fn as_text(one: &Explanation) -> String {
    let value = one.value.as_ref().map_or_else(|| "(removed)".to_owned(), |value| value.replace('\n', "\\n"));
    let mut text = format!("{}: {value}\n", one.path);
    let mut line = |words: String| text.push_str(&format!("  {words}\n"));
    line(match (&one.origin, &one.value, &one.template) {
        (Origin::File(place), None, _) => format!("by !reset in {}", shown_location(place)),
        (Origin::File(place), _, Some(written)) => {
            format!("{}, from {}", shown_location(place), written.replace('\n', "\\n"))
        }
        (Origin::File(place), ..) => shown_location(place),
        (Origin::EnvFile(place, file), ..) => {
            format!("{}:{}, an env file of {}", shown_file(&place.file), place.line, shown_location(file))
        }
        (Origin::Default, ..) => "default".to_owned(),
        (Origin::ProjectName, ..) => "the project's name: -p, COMPOSE_PROJECT_NAME or the folder".to_owned(),
    });
    one.variables.iter().for_each(|variable| line(source_of(variable)));
    for (place, text) in &one.over {
        line(format!("instead of {} in {}", text.replace('\n', "\\n"), shown_location(place)));
    }
    text
}

fn source_of(variable: &Used) -> String {
    let name = &variable.name;
    match (&variable.value, &variable.file) {
        (None, _) => format!("{name} is not set"),
        (Some(value), Some((file, line))) => format!("{name} is `{value}`: {}:{line}", shown_file(file)),
        (Some(value), None) => format!("{name} is `{value}`: the environment"),
    }
}

fn as_json(one: &Explanation) -> serde_json::Value {
    use serde_json::json;
    let place = |at: &Location| json!({"file": at.file, "line": at.line, "column": at.column});
    let (kind, origin) = match &one.origin {
        Origin::File(at) if one.value.is_none() => ("reset", Some(place(at))),
        Origin::File(at) => ("file", Some(place(at))),
        Origin::EnvFile(at, _) => ("env_file", Some(place(at))),
        Origin::Default => ("default", None),
        Origin::ProjectName => ("project_name", None),
    };
    let variables = one.variables.iter().map(|variable| {
        let file = variable.file.as_ref().map(|(file, line)| json!({"file": file, "line": line}));
        json!({"name": variable.name, "value": variable.value, "from": file})
    });
    let over = one.over.iter().map(|(at, text)| json!({"value": text, "place": place(at)}));
    json!({
        "path": one.path,
        "value": one.value,
        "origin": kind,
        "place": origin,
        "written": one.template,
        "variables": variables.collect::<Vec<_>>(),
        "over": over.collect::<Vec<_>>(),
    })
}
