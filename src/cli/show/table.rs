//! Aligned columns with Docker's spacing: three spaces between columns, a smallest width, nothing after the last.
//!
//! Source: Go's `text/tabwriter` as docker/cli (`formatter`, width 10) and compose (`formatter`, width 20) call it.

use std::io::{self, Write};

use unicode_width::UnicodeWidthStr;

/// Spaces between two columns.
const PADDING: usize = 3;

/// Rows below a header.
pub struct Table {
    width_min: usize,
    rows: Vec<Vec<String>>,
}

impl Table {
    /// A table with Docker's columns, at least 10 wide: `ps`.
    pub fn new<const N: usize>(header: [&str; N]) -> Self {
        Self { width_min: 10, rows: vec![header.map(str::to_owned).to_vec()] }
    }

    /// A table with Compose's columns, at least 20 wide: `ls`, `images`.
    pub fn wide<const N: usize>(header: [&str; N]) -> Self {
        Self { width_min: 20, ..Self::new(header) }
    }

    /// A table with its own header, columns at least `width_min` wide.
    pub fn with_header(header: Vec<String>, width_min: usize) -> Self {
        Self { width_min, rows: vec![header] }
    }

    /// What the column of ids is called: `CONTAINER ID`.
    pub fn id_title(&self) -> &str {
        let titles = self.rows.first().map_or(&[][..], Vec::as_slice);
        titles.iter().find(|title| title.ends_with(" ID")).map_or("ID", String::as_str)
    }

    /// Adds a row.
    pub fn row(&mut self, cells: Vec<String>) {
        self.rows.push(cells);
    }

    /// Writes it.
    pub fn write(&self, out: &mut impl Write) -> io::Result<()> {
        let columns = self.rows.iter().map(Vec::len).max().unwrap_or(0);
        let width_of = |column: usize| {
            let widest =
                self.rows.iter().filter_map(|row| row.get(column)).map(|cell: &String| cell.width()).max().unwrap_or(0);
            (widest + PADDING).max(self.width_min)
        };
        let widths: Vec<usize> = (0..columns).map(width_of).collect();
        let mut line = String::new();
        for row in &self.rows {
            line.clear();
            for (cell, width) in row.iter().zip(&widths) {
                line.push_str(cell);
                line.extend(std::iter::repeat_n(' ', width - cell.width()));
            }
            line.truncate(line.trim_end().len());
            line.push('\n');
            out.write_all(line.as_bytes())?;
        }
        Ok(())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn text(table: &Table) -> String {
        let mut out = Vec::new();
        table.write(&mut out).expect("memory takes everything");
        String::from_utf8(out).expect("cells are text")
    }

    #[test]
    fn an_empty_table_has_dockers_header() {
        let table = Table::new(["NAME", "IMAGE", "COMMAND", "SERVICE", "CREATED", "STATUS", "PORTS"]);
        assert_eq!(text(&table), "NAME      IMAGE     COMMAND   SERVICE   CREATED   STATUS    PORTS\n");
    }

    #[test]
    fn columns_are_as_wide_as_their_widest_cell() {
        let mut table = Table::wide(["NAME", "STATUS", "CONFIG FILES"]);
        table.row(["a-project-with-a-long-name", "running(1)", "/compose.yaml"].map(str::to_owned).to_vec());
        table.row(["p", "exited(1)", ""].map(str::to_owned).to_vec());
        assert_eq!(
            text(&table),
            "NAME                         STATUS              CONFIG FILES\n\
             a-project-with-a-long-name   running(1)          /compose.yaml\n\
             p                            exited(1)\n"
        );
    }
}
