//! `--format TEMPLATE`: the part of Go's templates that people use with Docker.
//!
//! `{{.Name}}`, `{{.Config.Image}}`, `{{json .}}`, `{{json .Labels}}`, `{{upper .Name}}`, `{{lower .Name}}`,
//! text between, and the escapes `\t` and `\n`. A leading `table ` asks for aligned columns with a header.
//! Not here: pipelines, conditions and loops; they are an error that says so.
//!
//! Source: <https://docs.docker.com/engine/cli/formatting/>.

use serde_json::{Map, Value};

use crate::cli::failure::Mistake;

/// A parsed template.
#[derive(Debug, PartialEq, Eq)]
pub struct Template {
    /// Aligned columns (separated by tabs) below a header.
    pub is_table: bool,
    parts: Vec<Part>,
}

#[derive(Debug, PartialEq, Eq)]
enum Part {
    Text(String),
    Field { path: Vec<String>, function: Function },
}

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Function {
    Plain,
    Json,
    Upper,
    Lower,
}

impl Template {
    /// Reads a template.
    pub fn parse(text: &str) -> Result<Self, Mistake> {
        let invalid = |reason: String| Mistake::Template { template: text.to_owned(), reason };
        let (is_table, body) = match text.strip_prefix("table ") {
            Some(body) => (true, body),
            None => (false, text),
        };
        let mut parts = Vec::new();
        let mut rest = body;
        while let Some(start) = rest.find("{{") {
            parts.push(Part::Text(unescape(&rest[..start])));
            let end = rest[start..].find("}}").ok_or_else(|| invalid("`{{` is never closed by `}}`".into()))?;
            parts.push(parse_action(rest[start + 2..start + end].trim()).map_err(invalid)?);
            rest = &rest[start + end + 2..];
        }
        parts.push(Part::Text(unescape(rest)));
        parts.retain(|part| !matches!(part, Part::Text(text) if text.is_empty()));
        Ok(Self { is_table, parts })
    }

    /// Fills it with the fields of one row.
    pub fn fill(&self, row: &Map<String, Value>) -> Result<String, Mistake> {
        let mut text = String::new();
        for part in &self.parts {
            match part {
                Part::Text(piece) => text.push_str(piece),
                Part::Field { path, function } => text.push_str(&apply(*function, lookup(row, path)?)),
            }
        }
        Ok(text)
    }

    /// The header of a table: the names of its fields in capitals.
    pub fn header(&self) -> String {
        let mut text = String::new();
        for part in &self.parts {
            match part {
                Part::Text(piece) => text.push_str(piece),
                Part::Field { path, .. } => text.push_str(&header_of(path.last().map_or("", String::as_str))),
            }
        }
        text
    }
}

/// `RunningFor` is headed `CREATED` in Docker's tables, `ID` is `CONTAINER ID` there; the others are their names.
fn header_of(field: &str) -> String {
    match field {
        "RunningFor" | "CreatedSince" => "CREATED".into(),
        "CreatedAt" => "CREATED AT".into(),
        "ConfigFiles" => "CONFIG FILES".into(),
        "ExitCode" => "EXIT CODE".into(),
        other => other.to_uppercase(),
    }
}

fn parse_action(action: &str) -> Result<Part, String> {
    let words: Vec<&str> = action.split_whitespace().collect();
    let (function, operand) = match words.as_slice() {
        [operand] => (Function::Plain, *operand),
        ["json", operand] => (Function::Json, *operand),
        ["upper", operand] => (Function::Upper, *operand),
        ["lower", operand] => (Function::Lower, *operand),
        _ => return Err(format!("`{{{{{action}}}}}` is more than a field with json, upper or lower before it")),
    };
    let path = operand.strip_prefix('.').ok_or_else(|| format!("`{operand}` does not begin with a dot"))?;
    let path: Vec<String> = path.split('.').filter(|name| !name.is_empty()).map(str::to_owned).collect();
    if path.is_empty() && function != Function::Json && operand != "." {
        return Err(format!("`{operand}` names no field"));
    }
    Ok(Part::Field { path, function })
}

fn lookup(row: &Map<String, Value>, path: &[String]) -> Result<Value, Mistake> {
    let Some((first, rest)) = path.split_first() else { return Ok(Value::Object(row.clone())) };
    let missing = |name: &str, fields: &Map<String, Value>| Mistake::Template {
        template: format!("{{{{.{}}}}}", path.join(".")),
        reason: format!("there is no field `{name}`; the fields are {}", names(fields)),
    };
    let mut value = row.get(first).ok_or_else(|| missing(first, row))?;
    for name in rest {
        value = match value {
            Value::Object(fields) => fields.get(name).ok_or_else(|| missing(name, fields))?,
            _ => return Err(missing(name, row)),
        };
    }
    Ok(value.clone())
}

fn names(fields: &Map<String, Value>) -> String {
    fields.keys().map(|name| format!(".{name}")).collect::<Vec<_>>().join(", ")
}

fn apply(function: Function, value: Value) -> String {
    let plain = |value: Value| match value {
        Value::String(text) => text,
        Value::Null => String::new(),
        other => other.to_string(),
    };
    match function {
        Function::Json => value.to_string(),
        Function::Plain => plain(value),
        Function::Upper => plain(value).to_uppercase(),
        Function::Lower => plain(value).to_lowercase(),
    }
}

fn unescape(text: &str) -> String {
    text.replace("\\t", "\t").replace("\\n", "\n")
}

#[cfg(test)]
mod tests {
    use super::*;

    fn fill(template: &str) -> Result<String, String> {
        let row = serde_json::json!({"Name": "web-1", "Labels": {"a": "b"}, "ExitCode": 3, "Empty": null});
        let row = row.as_object().expect("an object").clone();
        Template::parse(template).and_then(|template| template.fill(&row)).map_err(|error| error.to_string())
    }

    #[test]
    fn fields_functions_and_text() {
        for (template, text) in [
            ("", ""),
            ("plain", "plain"),
            ("{{.Name}}", "web-1"),
            ("{{ .Name }}\\t{{.ExitCode}}\\n", "web-1\t3\n"),
            ("{{json .Labels}}", "{\"a\":\"b\"}"),
            ("{{.Labels.a}}{{.Empty}}", "b"),
            ("{{upper .Name}}{{lower .Name}}", "WEB-1web-1"),
            ("{{json .}}", "{\"Name\":\"web-1\",\"Labels\":{\"a\":\"b\"},\"ExitCode\":3,\"Empty\":null}"),
        ] {
            assert_eq!(fill(template).as_deref(), Ok(text), "{template}");
        }
    }

    #[test]
    fn what_is_not_understood_is_named() {
        for (template, reason) in [
            ("{{.Name", "`{{` is never closed"),
            ("{{Name}}", "does not begin with a dot"),
            ("{{.Nome}}", "there is no field `Nome`; the fields are .Name,"),
            ("{{if .Name}}x{{end}}", "more than a field"),
            ("{{}}", "more than a field"),
            ("{{.Name.x}}", "there is no field `x`"),
        ] {
            let error = fill(template).expect_err(template);
            assert!(error.contains(reason), "{template}: {error}");
        }
    }

    #[test]
    fn a_table_has_a_header() {
        let template = Template::parse("table {{.Name}}\\t{{.RunningFor}}").expect("a template");
        assert!(template.is_table);
        assert_eq!(template.header(), "NAME\tCREATED");
    }
}
