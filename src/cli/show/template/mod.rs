//! `--format TEMPLATE`: Go's templates, as far as people type them.
//!
//! Fields (`{{.Config.Image}}`), pipelines, `if`, `else`, `range`, `with`, variables, `{{-` and `-}}`, and the
//! functions of `functions.rs`. A leading `table ` asks for aligned columns with a header.
//! Not here: templates in templates, methods but `.Label "key"`, `break` and `continue`.
//!
//! Source: <https://docs.docker.com/engine/cli/formatting/>, <https://pkg.go.dev/text/template>.

mod functions;
mod parse;

use serde_json::{Map, Value};

use crate::cli::failure::Mistake;
use functions::{call, is_true, plain};

/// Longest output of one row: a `range` in a `range` must not fill the memory.
const OUTPUT_BYTES_MAX: usize = 16 << 20;

/// A parsed template.
#[derive(Debug, PartialEq)]
pub struct Template {
    /// Aligned columns (separated by tabs) below a header.
    pub is_table: bool,
    text: String,
    nodes: Vec<Node>,
}

#[derive(Debug, PartialEq)]
enum Node {
    Text(String),
    Print(Pipeline),
    Set(String, Pipeline),
    If { variables: Vec<String>, pipeline: Pipeline, body: Vec<Node>, otherwise: Vec<Node> },
    With { variables: Vec<String>, pipeline: Pipeline, body: Vec<Node>, otherwise: Vec<Node> },
    Range { variables: Vec<String>, pipeline: Pipeline, body: Vec<Node>, otherwise: Vec<Node> },
}

/// Commands; each gets the value of the one before as its last argument.
type Pipeline = Vec<Vec<Operand>>;

#[derive(Debug, PartialEq)]
enum Operand {
    /// `.A.B`; the value itself when empty.
    Field(Vec<String>),
    Variable(String, Vec<String>),
    Literal(Value),
    Function(String),
    /// In parentheses, with fields behind.
    Group(Pipeline, Vec<String>),
}

impl Template {
    /// Reads a template.
    pub fn parse(text: &str) -> Result<Self, Mistake> {
        let (is_table, body) = match text.strip_prefix("table ") {
            Some(body) => (true, body),
            None => (false, text),
        };
        let nodes = parse::parse(body).map_err(|reason| Mistake::Template { template: text.to_owned(), reason })?;
        Ok(Self { is_table, text: text.to_owned(), nodes })
    }

    /// Fills it with the fields of one row.
    pub fn fill(&self, row: &Map<String, Value>) -> Result<String, Mistake> {
        self.fill_value(&Value::Object(row.clone()))
    }

    /// Fills it with a value.
    pub fn fill_value(&self, value: &Value) -> Result<String, Mistake> {
        let mut run = Run { root: value, variables: vec![(String::new(), value.clone())], output: String::new() };
        match run.nodes(&self.nodes, value) {
            Ok(()) => Ok(run.output),
            Err(reason) => Err(Mistake::Template { template: self.text.clone(), reason }),
        }
    }

    /// The header of a table: the template filled with the fields' titles; `id` is that of `ID`.
    pub fn header(&self, id: &str) -> String {
        let mut titles = Map::new();
        collect_fields(&self.nodes, &mut |name| {
            titles.insert(name.to_owned(), if name == "ID" { id.into() } else { title_of(name).into() });
        });
        self.fill(&titles).unwrap_or_default()
    }
}

/// `RunningFor` is headed `CREATED` in Docker's tables; most are their names in capitals.
fn title_of(field: &str) -> String {
    match field {
        "RunningFor" | "CreatedSince" => "CREATED".into(),
        "CreatedAt" => "CREATED AT".into(),
        "CreatedBy" => "CREATED BY".into(),
        "ConfigFiles" => "CONFIG FILES".into(),
        "ExitCode" => "EXIT CODE".into(),
        "LocalVolumes" => "LOCAL VOLUMES".into(),
        "CPUPerc" => "CPU %".into(),
        "MemPerc" => "MEM %".into(),
        "MemUsage" => "MEM USAGE / LIMIT".into(),
        "NetIO" => "NET I/O".into(),
        "BlockIO" => "BLOCK I/O".into(),
        "TotalCount" => "TOTAL".into(),
        "UniqueSize" => "UNIQUE SIZE".into(),
        "SharedSize" => "SHARED SIZE".into(),
        other => other.to_uppercase(),
    }
}

/// Names of the row's fields, wherever they stand.
fn collect_fields(nodes: &[Node], found: &mut impl FnMut(&str)) {
    fn in_pipeline(pipeline: &Pipeline, found: &mut impl FnMut(&str)) {
        for operand in pipeline.iter().flatten() {
            match operand {
                Operand::Field(names) if names.as_slice() == ["Label"] => found("Labels"),
                Operand::Field(names) => names.first().into_iter().for_each(|name| found(name)),
                Operand::Group(inner, _) => in_pipeline(inner, found),
                _ => {}
            }
        }
    }
    for node in nodes {
        match node {
            Node::Text(_) => {}
            Node::Print(pipeline) | Node::Set(_, pipeline) => in_pipeline(pipeline, found),
            Node::If { pipeline, body, otherwise, .. }
            | Node::With { pipeline, body, otherwise, .. }
            | Node::Range { pipeline, body, otherwise, .. } => {
                in_pipeline(pipeline, found);
                collect_fields(body, found);
                collect_fields(otherwise, found);
            }
        }
    }
}

/// One filling of a template.
struct Run<'a> {
    root: &'a Value,
    /// `$` is the one without a name. Later ones hide earlier ones.
    variables: Vec<(String, Value)>,
    output: String,
}

impl Run<'_> {
    fn nodes(&mut self, nodes: &[Node], dot: &Value) -> Result<(), String> {
        for node in nodes {
            if self.output.len() > OUTPUT_BYTES_MAX {
                return Err("it makes too much text".into());
            }
            let depth = self.variables.len();
            match node {
                Node::Text(text) => self.output.push_str(text),
                Node::Print(pipeline) => {
                    let text = match self.pipeline(pipeline, dot)? {
                        None => "<no value>".to_owned(),
                        Some(value) => plain(&value),
                    };
                    self.output.push_str(&text);
                }
                Node::Set(name, pipeline) => {
                    let value = self.pipeline(pipeline, dot)?.unwrap_or_default();
                    self.variables.push((name.clone(), value));
                    continue;
                }
                Node::If { variables, pipeline, body, otherwise } => {
                    let value = self.pipeline(pipeline, dot)?.unwrap_or_default();
                    let chosen = if is_true(&value) { body } else { otherwise };
                    self.declare(variables, [value]);
                    self.nodes(chosen, dot)?;
                }
                Node::With { variables, pipeline, body, otherwise } => {
                    let value = self.pipeline(pipeline, dot)?.unwrap_or_default();
                    self.declare(variables, [value.clone()]);
                    match is_true(&value) {
                        true => self.nodes(body, &value)?,
                        false => self.nodes(otherwise, dot)?,
                    }
                }
                Node::Range { variables, pipeline, body, otherwise } => {
                    let items = items(self.pipeline(pipeline, dot)?.unwrap_or_default())?;
                    if items.is_empty() {
                        self.nodes(otherwise, dot)?;
                    }
                    for (key, item) in items {
                        match variables.len() {
                            2 => self.declare(variables, [key, item.clone()]),
                            _ => self.declare(variables, [item.clone()]),
                        }
                        self.nodes(body, &item)?;
                        self.variables.truncate(depth);
                    }
                }
            }
            self.variables.truncate(depth);
        }
        Ok(())
    }

    fn declare<const N: usize>(&mut self, names: &[String], values: [Value; N]) {
        self.variables.extend(names.iter().cloned().zip(values));
    }

    /// `None` is a field that is not there.
    fn pipeline(&self, pipeline: &Pipeline, dot: &Value) -> Result<Option<Value>, String> {
        let mut last: Option<Option<Value>> = None;
        for command in pipeline {
            last = Some(match command.as_slice() {
                [Operand::Function(name), rest @ ..] => {
                    let mut arguments = Vec::with_capacity(rest.len() + 1);
                    for operand in rest {
                        arguments.push(self.operand(operand, dot)?.unwrap_or_default());
                    }
                    arguments.extend(last.take().map(Option::unwrap_or_default));
                    Some(call(name, &arguments)?)
                }
                [operand] if last.is_none() => self.operand(operand, dot)?,
                // The one method that rows have: `.Label "key"`.
                [Operand::Field(path), Operand::Literal(Value::String(key))]
                    if last.is_none() && path.as_slice() == ["Label"] =>
                {
                    Some(label(dot, key))
                }
                _ => return Err("what stands behind `|`, or before a value, must be a function".into()),
            });
        }
        Ok(last.flatten())
    }

    fn operand(&self, operand: &Operand, dot: &Value) -> Result<Option<Value>, String> {
        match operand {
            Operand::Literal(value) => Ok(Some(value.clone())),
            Operand::Function(name) => call(name, &[]).map(Some),
            Operand::Field(names) => self.fields(dot, names),
            Operand::Variable(name, fields) => {
                let found = self.variables.iter().rev().find(|(other, _)| other == name);
                let (_, value) = found.ok_or_else(|| format!("undefined variable `${name}`"))?;
                self.fields(value, fields)
            }
            Operand::Group(pipeline, fields) => {
                let value = self.pipeline(pipeline, dot)?.unwrap_or_default();
                self.fields(&value, fields)
            }
        }
    }

    /// A field that the row itself does not have is a mistake; deeper, things come and go.
    fn fields(&self, value: &Value, names: &[String]) -> Result<Option<Value>, String> {
        let mut current = value;
        for name in names {
            current = match current {
                Value::Object(fields) => match fields.get(name) {
                    Some(next) => next,
                    None if std::ptr::eq(current, self.root) || current == self.root => {
                        // Docker's templates say `.TimeNano` of what its JSON calls `timeNano`.
                        if let Some((_, next)) = fields.iter().find(|(key, _)| key.eq_ignore_ascii_case(name)) {
                            current = next;
                            continue;
                        }
                        return Err(format!("there is no field `{name}`; the fields are {}", list(fields)));
                    }
                    None => return Ok(None),
                },
                Value::Null => return Ok(None),
                other => return Err(format!("there is no field `{name}` in {}", plain(other))),
            };
        }
        Ok(Some(current.clone()))
    }
}

/// The value of a label in `Labels`, which a row has as text: `key=value,other=value`.
fn label(row: &Value, key: &str) -> Value {
    let text = match row.get("Labels") {
        Some(Value::Object(labels)) => return labels.get(key).cloned().unwrap_or_else(|| "".into()),
        Some(Value::String(text)) => text,
        _ => return "".into(),
    };
    let mut parts = text.split(',');
    let Some(first) = parts.find_map(|part| part.strip_prefix(key)?.strip_prefix('=')) else { return "".into() };
    // A comma that no further key follows is the value's own.
    let more = parts.take_while(|part| !part.contains('='));
    std::iter::once(first).chain(more).collect::<Vec<_>>().join(",").into()
}

/// Keys and values: of a list its places, of a map its names in order.
fn items(value: Value) -> Result<Vec<(Value, Value)>, String> {
    match value {
        Value::Null => Ok(Vec::new()),
        Value::Array(values) => {
            Ok(values.into_iter().enumerate().map(|(place, value)| (place.into(), value)).collect())
        }
        Value::Object(fields) => {
            let mut items: Vec<(String, Value)> = fields.into_iter().collect();
            items.sort_by(|a, b| a.0.cmp(&b.0));
            Ok(items.into_iter().map(|(key, value)| (key.into(), value)).collect())
        }
        other => Err(format!("range can't iterate over {}", plain(&other))),
    }
}

fn list(fields: &Map<String, Value>) -> String {
    fields.keys().map(|name| format!(".{name}")).collect::<Vec<_>>().join(", ")
}

#[cfg(test)]
mod tests {
    use super::*;

    fn fill(template: &str) -> Result<String, String> {
        let row = serde_json::json!({"Name": "web-1", "Labels": {"a": "b", "c.d": "e"}, "ExitCode": 3, "Empty": null,
            "Mounts": [{"Source": "/a"}, {"Source": "/b"}], "Args": ["x", "y"], "On": true, "None": []});
        Template::parse(template).and_then(|template| template.fill_value(&row)).map_err(|error| error.to_string())
    }

    #[test]
    fn templates_as_people_type_them() {
        for (template, text) in [
            ("", ""),
            ("plain", "plain"),
            ("{{.Name}}", "web-1"),
            ("{{ .Name }}\\t{{.ExitCode}}\\n", "web-1\t3\n"),
            ("{{json .Labels}}", "{\"a\":\"b\",\"c.d\":\"e\"}"),
            ("{{.Labels.a}}{{.Empty}}{{.Labels.x}}", "b<nil><no value>"),
            ("{{upper .Name}}{{lower .Name}}{{title \"ab cd\"}}", "WEB-1web-1Ab Cd"),
            ("{{.Args}} {{.Labels}}", "[x y] map[a:b c.d:e]"),
            ("{{range .Mounts}}{{.Source}} {{end}}", "/a /b "),
            ("{{range $i, $m := .Mounts}}{{if $i}}, {{end}}{{$i}}={{$m.Source}}{{end}}", "0=/a, 1=/b"),
            ("{{range $k, $v := .Labels}}{{$k}}:{{$v}};{{end}}", "a:b;c.d:e;"),
            ("{{range .None}}x{{else}}none{{end}}", "none"),
            ("{{if .On}}on{{else}}off{{end}} {{if .None}}a{{else if eq .ExitCode 3}}three{{end}}", "on three"),
            ("{{with .Labels}}{{.a}}{{$.Name}}{{end}}", "bweb-1"),
            ("{{index .Labels \"c.d\"}}{{index .Args 1}}{{index .Labels \"no\"}}", "ey"),
            ("{{(index .Mounts 0).Source}}", "/a"),
            ("{{join .Args \",\"}} {{len .Args}} {{.Name | upper | json}}", "x,y 2 \"WEB-1\""),
            ("{{range (split .Name \"-\")}}<{{.}}>{{end}}", "<web><1>"),
            ("{{printf \"%-6s|%3d|%q\" .Name .ExitCode \"a\"}}", "web-1 |  3|\"a\""),
            ("{{println .Name}}", "web-1\n"),
            ("a  {{- .Name -}}  b", "aweb-1b"),
            ("{{/* said */}}x", "x"),
            ("{{$x := .Name}}{{$x}}", "web-1"),
            ("{{if and .On (not .None)}}y{{end}}{{if or .None .Empty}}z{{end}}{{ne .Name `}}`}}", "ytrue"),
            (
                "{{slice .Name 1 3}}{{slice .Args 1}}{{html \"<a>\"}}{{urlquery \"a b/c\"}}{{js \"it's\"}}",
                "eb[y]&lt;a&gt;a+b%2Fcit\\'s",
            ),
            ("{{print 1 2 \"a\" \"b\"}}|{{println 1 \"a\"}}", "1 2ab|1 a\n"),
            ("{{json .ExitCode}}{{if gt .ExitCode 2}}>{{end}}", "3>"),
        ] {
            assert_eq!(fill(template).as_deref(), Ok(text), "{template}");
        }
    }

    #[test]
    fn a_label_is_found_in_a_rows_text() {
        let row = serde_json::json!({"Labels": "a=1,com.x=b:c,d:e,z=2"});
        let filled = |template: &str| Template::parse(template).and_then(|template| template.fill_value(&row)).ok();
        let text = filled("{{.Label \"com.x\"}}|{{.Label \"z\"}}|{{.Label \"no\"}}|{{.Label \"a\" | upper}}");
        assert_eq!(text.as_deref(), Some("b:c,d:e|2||1"));
    }

    #[test]
    fn what_is_not_understood_is_named() {
        for (template, reason) in [
            ("{{.Name", "`{{` is never closed"),
            ("{{Name}}", "function `Name` is not defined"),
            ("{{.Nome}}", "there is no field `Nome`; the fields are "),
            ("{{if .Name}}x", "has no `{{end}}`"),
            ("x{{end}}", "without an `{{if}}`"),
            ("{{}}", "says nothing"),
            ("{{.Name.x}}", "there is no field `x` in web-1"),
            ("{{.Name | }}", "a value is missing"),
            ("{{(.Name}}", "never closed"),
            ("{{$y}}", "undefined variable"),
            ("{{index .Args 7}}", "out of range"),
            ("{{range .Name}}{{end}}", "can't iterate"),
        ] {
            let error = fill(template).expect_err(template);
            assert!(error.contains(reason), "{template}: {error}");
        }
        assert!(fill(&"{{if .On}}".repeat(5000)).expect_err("deep").contains("nested deeper"));
        assert!(fill(&format!("{{{{{}.On}}}}", "(".repeat(5000))).expect_err("deep").contains("nested deeper"));
    }

    #[test]
    fn a_table_has_a_header() {
        let template = Template::parse("table {{.ID}}\\t{{.RunningFor}}\\t{{upper .Name}}").expect("a template");
        assert!(template.is_table);
        assert_eq!(template.header("CONTAINER ID"), "CONTAINER ID\tCREATED\tNAME");
    }
}
