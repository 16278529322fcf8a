//! Pictures of a project's graph: text, Graphviz, Mermaid, SVG and JSON, coloured by state where it runs.
//!
//! Edges point from a service to what it depends on, as in the file. The SVG is laid out in ranks, by the
//! longest way to a service without dependencies; no other program is needed.

use std::collections::BTreeMap;

use super::dependency::Graph;
use super::error::Error;
use super::observed::{Observed, ObservedContainer};
use super::plan::condition_words;
use crate::model::container::{HealthStatus, Status};
use crate::model::project::{Condition, Project};

/// How a service of a running project fares.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, serde::Serialize)]
#[serde(rename_all = "lowercase")]
pub enum State {
    /// It has no container.
    Absent,
    /// Its containers do not run.
    Stopped,
    /// It ended with code 0.
    Completed,
    /// It runs, its health check has not passed yet.
    Starting,
    /// It runs (and is healthy, where it has a health check).
    Running,
    /// It ended with another code, or its health check fails.
    Failed,
}

impl State {
    /// The colour for a box of this state, `#rrggbb`.
    fn colour(self) -> &'static str {
        match self {
            Self::Absent => "#ffffff",
            Self::Stopped => "#d9d9d9",
            Self::Completed => "#cfe2ff",
            Self::Starting => "#fff3bf",
            Self::Running => "#d3f9d8",
            Self::Failed => "#ffc9c9",
        }
    }

    /// The state in one word.
    pub fn word(self) -> &'static str {
        match self {
            Self::Absent => "absent",
            Self::Stopped => "stopped",
            Self::Completed => "completed",
            Self::Starting => "starting",
            Self::Running => "running",
            Self::Failed => "failed",
        }
    }
}

/// The state of each service: the worst of its containers'.
pub fn states(project: &Project, observed: &Observed) -> BTreeMap<String, State> {
    let of = |name: &str| observed.of_service(name).map(state).max().unwrap_or(State::Absent);
    project.services.keys().map(|name| (name.clone(), of(name))).collect()
}

fn state(container: &ObservedContainer) -> State {
    match (container.status, container.health) {
        (Status::Running | Status::Paused, Some(HealthStatus::Unhealthy)) | (Status::Dead, _) => State::Failed,
        (Status::Running | Status::Paused, Some(HealthStatus::Starting)) | (Status::Restarting, _) => State::Starting,
        (Status::Running | Status::Paused, _) => State::Running,
        (Status::Created, _) => State::Stopped,
        (Status::Exited, _) if container.stopped_by_user => State::Stopped,
        (Status::Exited, _) if container.exit_code == 0 => State::Completed,
        (Status::Exited, _) => State::Failed,
    }
}

/// A project's graph, ready to be drawn.
#[derive(Debug)]
pub struct Picture<'p> {
    name: &'p str,
    order: Vec<&'p str>,
    edges: Vec<Edge<'p>>,
    states: BTreeMap<String, State>,
}

#[derive(Debug, serde::Serialize)]
struct Edge<'p> {
    from: &'p str,
    to: &'p str,
    condition: Condition,
    required: bool,
    restart: bool,
}

impl<'p> Picture<'p> {
    /// Reads the graph of `project`; `states` is empty for a project that was not looked up.
    pub fn of(project: &'p Project, states: BTreeMap<String, State>) -> Result<Self, Error> {
        let graph = Graph::of(project)?;
        let order = graph.order();
        let mut edges = Vec::new();
        for from in project.services.keys() {
            for (to, options) in graph.dependencies(from) {
                let (condition, required, restart) = (options.condition, options.required, options.restart);
                edges.push(Edge { from, to, condition, required, restart });
            }
        }
        Ok(Self { name: &project.name, order, edges, states })
    }

    fn state(&self, service: &str) -> Option<State> {
        self.states.get(service).copied()
    }

    fn edges_of<'a>(&'a self, service: &'a str) -> impl Iterator<Item = &'a Edge<'p>> {
        self.edges.iter().filter(move |edge| edge.from == service)
    }

    /// An indented list: each service in start order, with what it waits for.
    pub fn text(&self, colour: bool) -> String {
        let mut out = String::new();
        let width = self.order.iter().map(|name| name.chars().count()).max().unwrap_or(0);
        for name in &self.order {
            let waits: Vec<_> = self
                .edges_of(name)
                .map(|edge| match edge.condition {
                    Condition::Started => edge.to.to_owned(),
                    condition => format!("{} ({})", edge.to, condition_words(condition)),
                })
                .collect();
            let state = self.state(name).map(|state| paint(state, colour));
            let line = [
                format!("{name:width$}"),
                state.unwrap_or_default(),
                if waits.is_empty() { String::new() } else { format!("-> {}", waits.join(", ")) },
            ];
            let line: Vec<_> = line.into_iter().filter(|part| !part.is_empty()).collect();
            out.push_str(line.join("  ").trim_end());
            out.push('\n');
        }
        out
    }

    /// Graphviz.
    pub fn dot(&self) -> String {
        let mut out = format!(
            "digraph {} {{\n  rankdir=LR;\n  node [shape=box, style=\"rounded,filled\", fillcolor=white];\n",
            quote(self.name)
        );
        for name in &self.order {
            match self.state(name) {
                Some(state) => line(
                    &mut out,
                    format!("  {} [fillcolor=\"{}\", tooltip=\"{}\"];", quote(name), state.colour(), state.word()),
                ),
                None => line(&mut out, format!("  {};", quote(name))),
            }
        }
        for edge in &self.edges {
            let mut attributes = Vec::new();
            if edge.condition != Condition::Started {
                attributes.push(format!("label=\"{}\"", condition_words(edge.condition)));
            }
            if !edge.required {
                attributes.push("style=dashed".to_owned());
            }
            let attributes =
                if attributes.is_empty() { String::new() } else { format!(" [{}]", attributes.join(", ")) };
            line(&mut out, format!("  {} -> {}{attributes};", quote(edge.from), quote(edge.to)));
        }
        out.push_str("}\n");
        out
    }

    /// Mermaid. Nodes are numbered, since service names may hold characters that it does not take.
    pub fn mermaid(&self) -> String {
        let mut out = String::from("flowchart LR\n");
        let number: BTreeMap<_, _> = self.order.iter().enumerate().map(|(index, name)| (*name, index)).collect();
        for (name, index) in &number {
            line(&mut out, format!("  s{index}[\"{name}\"]"));
        }
        for edge in &self.edges {
            let arrow = if edge.required { "-->" } else { "-.->" };
            let label = match edge.condition {
                Condition::Started => String::new(),
                condition => format!("|{}|", condition_words(condition)),
            };
            line(&mut out, format!("  s{} {arrow}{label} s{}", number[edge.from], number[edge.to]));
        }
        for (name, index) in &number {
            if let Some(state) = self.state(name) {
                line(&mut out, format!("  style s{index} fill:{}", state.colour()));
            }
        }
        out
    }

    /// Services and edges, for programs.
    pub fn json(&self) -> serde_json::Value {
        let services: Vec<_> =
            self.order.iter().map(|name| serde_json::json!({ "name": name, "state": self.state(name) })).collect();
        serde_json::json!({ "name": self.name, "services": services, "dependencies": self.edges })
    }

    /// A drawing: ranks from left (nothing needs to be there first) to right.
    pub fn svg(&self) -> String {
        const BOX_HEIGHT: usize = 36;
        const ROW: usize = 60;
        let widest = self.order.iter().map(|name| name.chars().count()).max().unwrap_or(1);
        let box_width = 30 + 9 * widest;
        let column = box_width + 150;
        let ranks = self.ranks();
        let mut rows: BTreeMap<usize, usize> = BTreeMap::new();
        let mut place: BTreeMap<&str, (usize, usize)> = BTreeMap::new();
        for name in &self.order {
            let row = rows.entry(ranks[name]).or_default();
            place.insert(name, (20 + ranks[name] * column, 20 + *row * ROW));
            *row += 1;
        }
        let width = 40 + box_width + rows.keys().max().unwrap_or(&0) * column;
        let height = 40 + rows.values().max().unwrap_or(&1) * ROW - (ROW - BOX_HEIGHT);
        let mut out = format!(
            "<svg xmlns=\"http://www.w3.org/2000/svg\" width=\"{width}\" height=\"{height}\" viewBox=\"0 0 {width} {height}\" font-family=\"sans-serif\" font-size=\"14\">\n\
             <defs><marker id=\"arrow\" viewBox=\"0 0 10 10\" refX=\"10\" refY=\"5\" markerWidth=\"7\" markerHeight=\"7\" orient=\"auto\"><path d=\"M0 0L10 5L0 10z\"/></marker></defs>\n"
        );
        for edge in &self.edges {
            let ((from_x, from_y), (to_x, to_y)) = (place[edge.from], place[edge.to]);
            let (x1, y1, x2, y2) = (from_x, from_y + BOX_HEIGHT / 2, to_x + box_width, to_y + BOX_HEIGHT / 2);
            let dash = if edge.required { "" } else { " stroke-dasharray=\"5 4\"" };
            let middle = (x1 + x2) / 2;
            line(
                &mut out,
                format!(
                    "<path d=\"M{x1} {y1}C{middle} {y1} {middle} {y2} {x2} {y2}\" fill=\"none\" stroke=\"#555\"{dash} marker-end=\"url(#arrow)\"/>"
                ),
            );
            if edge.condition != Condition::Started {
                let y = (y1 + y2) / 2 - 5;
                line(
                    &mut out,
                    format!(
                        "<text x=\"{middle}\" y=\"{y}\" text-anchor=\"middle\" font-size=\"11\" fill=\"#555\">{}</text>",
                        condition_words(edge.condition)
                    ),
                );
            }
        }
        for (name, (x, y)) in &place {
            let fill = self.state(name).map_or("#ffffff", State::colour);
            let title = self.state(name).map_or(String::new(), |state| format!("<title>{}</title>", state.word()));
            line(
                &mut out,
                format!(
                    "<g><rect x=\"{x}\" y=\"{y}\" width=\"{box_width}\" height=\"{BOX_HEIGHT}\" rx=\"6\" fill=\"{fill}\" stroke=\"#333\"/>\
                 <text x=\"{}\" y=\"{}\" text-anchor=\"middle\">{}</text>{title}</g>",
                    x + box_width / 2,
                    y + BOX_HEIGHT / 2 + 5,
                    escape(name)
                ),
            );
        }
        out.push_str("</svg>\n");
        out
    }

    /// The longest way from each service to one without dependencies.
    fn ranks(&self) -> BTreeMap<&'p str, usize> {
        let mut ranks: BTreeMap<&str, usize> = BTreeMap::new();
        for name in &self.order {
            let rank = self.edges_of(name).map(|edge| ranks.get(edge.to).map_or(0, |rank| rank + 1)).max().unwrap_or(0);
            ranks.insert(name, rank);
        }
        ranks
    }
}

fn line(out: &mut String, text: String) {
    out.push_str(&text);
    out.push('\n');
}

fn paint(state: State, colour: bool) -> String {
    if !colour {
        return state.word().to_owned();
    }
    let code = match state {
        State::Running => 32,
        State::Starting => 33,
        State::Failed => 31,
        State::Completed => 34,
        State::Absent | State::Stopped => 90,
    };
    format!("\x1b[{code}m{}\x1b[0m", state.word())
}

fn quote(text: &str) -> String {
    format!("\"{}\"", text.replace('\\', "\\\\").replace('"', "\\\""))
}

fn escape(text: &str) -> String {
    text.replace('&', "&amp;").replace('<', "&lt;").replace('>', "&gt;")
}
