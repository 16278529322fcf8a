//! One list in the form that `--format` asks for: a table, JSON, or a template's lines.

use std::io::Write;

use serde_json::{Map, Value};

use super::table::Table;
use super::template::Template;
use crate::cli::failure::{Failure, Mistake};

/// `--format`.
#[derive(Debug, Default)]
pub enum Format {
    /// Aligned columns.
    #[default]
    Table,
    /// JSON.
    Json,
    /// A template, filled for each row.
    Template(Template),
}

impl Format {
    /// Reads the flag's value.
    pub fn parse(text: &str) -> Result<Self, Mistake> {
        match text {
            "" | "table" => Ok(Self::Table),
            "json" => Ok(Self::Json),
            other if other.contains("{{") => Template::parse(other).map(Self::Template),
            other => Err(Mistake::value("--format", other, "it takes table, json or a template such as '{{.Name}}'")),
        }
    }
}

/// How JSON lists are written.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum JsonList {
    /// One object a line: `ps`.
    Lines,
    /// One array: `ls`, `images`.
    Array,
}

/// Writes `rows`; `table` makes the table where one is asked for.
pub fn write(
    out: &mut impl Write,
    format: &Format,
    json: JsonList,
    rows: Vec<Map<String, Value>>,
    table: impl FnOnce() -> Table,
) -> Result<(), Failure> {
    match format {
        Format::Table => table().write(out)?,
        Format::Json if json == JsonList::Array => {
            writeln!(out, "{}", Value::Array(rows.into_iter().map(Value::Object).collect()))?;
        }
        Format::Json => {
            for row in rows {
                writeln!(out, "{}", Value::Object(row))?;
            }
        }
        Format::Template(template) if template.is_table => {
            let cells = |line: String| line.split('\t').map(str::to_owned).collect::<Vec<_>>();
            let header = template.header(table().id_title());
            let mut table = Table::with_header(cells(header), 10);
            for row in rows {
                table.row(cells(template.fill(&row)?));
            }
            table.write(out)?;
        }
        Format::Template(template) => {
            for row in rows {
                writeln!(out, "{}", template.fill(&row)?)?;
            }
        }
    }
    Ok(())
}
