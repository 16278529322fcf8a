//! The graph of a project's services: who must be there before whom.
//!
//! An edge runs from a service to each of its dependencies. The loader has already written `links`,
//! `network_mode: service:…`, `volumes_from` and the like as `depends_on`, so that is all that is read here.

use std::collections::{BTreeMap, BTreeSet};

use petgraph::Direction;
use petgraph::graphmap::DiGraphMap;

use super::error::{Error, similar};
use crate::model::project::{Condition, Dependency, Project};

/// The dependencies of a project, free of cycles.
#[derive(Debug)]
pub struct Graph<'p> {
    edges: DiGraphMap<&'p str, &'p Dependency>,
}

impl<'p> Graph<'p> {
    /// Builds the graph of the enabled services.
    ///
    /// Errors: a dependency that is missing and required, or a cycle (with the place of each edge).
    pub fn of(project: &'p Project) -> Result<Self, Error> {
        let mut edges = DiGraphMap::new();
        for name in project.services.keys() {
            edges.add_node(name.as_str());
        }
        for (name, service) in &project.services {
            for (dependency, options) in &service.depends_on {
                if let Some((dependency, _)) = project.services.get_key_value(dependency) {
                    edges.add_edge(name.as_str(), dependency.as_str(), options);
                } else if options.required {
                    return Err(Error::MissingDependency {
                        service: name.clone(),
                        dependency: dependency.clone(),
                        disabled: project.disabled_services.contains_key(dependency),
                        location: project.locations.of(&edge_path(name, dependency)).cloned(),
                    });
                }
            }
        }
        let graph = Self { edges };
        match graph.cycle() {
            Some(path) => {
                let edges = path
                    .windows(2)
                    .filter_map(|pair| project.locations.of(&edge_path(&pair[0], &pair[1])).cloned())
                    .collect();
                Err(Error::Cycle { path, edges })
            }
            None => Ok(graph),
        }
    }

    /// The services that `service` depends on, with the condition of each, in name order.
    pub fn dependencies(&self, service: &str) -> Vec<(&'p str, &'p Dependency)> {
        let mut found: Vec<_> = self
            .edges
            .nodes()
            .filter(|node| *node == service)
            .flat_map(|node| self.edges.edges_directed(node, Direction::Outgoing))
            .map(|(_, dependency, options)| (dependency, *options))
            .collect();
        found.sort_by_key(|(name, _)| *name);
        found
    }

    /// The services that depend on `service`, in name order.
    pub fn dependents(&self, service: &str) -> Vec<(&'p str, &'p Dependency)> {
        let mut found: Vec<_> = self
            .edges
            .nodes()
            .filter(|node| *node == service)
            .flat_map(|node| self.edges.edges_directed(node, Direction::Incoming))
            .map(|(dependent, _, options)| (dependent, *options))
            .collect();
        found.sort_by_key(|(name, _)| *name);
        found
    }

    /// Whether some service waits until `service` has completed: then it is a job, not a server.
    pub fn is_job(&self, service: &str) -> bool {
        self.dependents(service).iter().any(|(_, options)| options.condition == Condition::CompletedSuccessfully)
    }

    /// All services, each after all of its dependencies; among equals in name order.
    pub fn order(&self) -> Vec<&'p str> {
        let mut remaining: BTreeMap<&str, usize> =
            self.edges.nodes().map(|node| (node, self.edges.neighbors(node).count())).collect();
        let mut ready: BTreeSet<&str> =
            remaining.iter().filter(|(_, count)| **count == 0).map(|(name, _)| *name).collect();
        let mut order = Vec::with_capacity(remaining.len());
        while let Some(name) = ready.pop_first() {
            order.push(name);
            for dependent in self.edges.neighbors_directed(name, Direction::Incoming) {
                if let Some(count) = remaining.get_mut(dependent) {
                    *count -= 1;
                    if *count == 0 {
                        ready.insert(dependent);
                    }
                }
            }
        }
        order
    }

    /// `targets` and, unless `alone`, everything they depend on. No targets: all services.
    ///
    /// Errors: a target that is not a service of the project.
    pub fn select(&self, project: &'p Project, targets: &[String], alone: bool) -> Result<BTreeSet<&'p str>, Error> {
        if targets.is_empty() {
            return Ok(self.edges.nodes().collect());
        }
        let mut selected = BTreeSet::new();
        let mut open = Vec::new();
        for target in targets {
            let (name, _) = project.services.get_key_value(target).ok_or_else(|| unknown(project, target))?;
            open.push(name.as_str());
        }
        while let Some(name) = open.pop() {
            if selected.insert(name) && !alone {
                open.extend(self.edges.neighbors(name));
            }
        }
        Ok(selected)
    }

    /// One cycle as a path that ends where it begins.
    fn cycle(&self) -> Option<Vec<String>> {
        let component = petgraph::algo::tarjan_scc(&self.edges)
            .into_iter()
            .filter(|nodes| nodes.len() > 1 || self.edges.contains_edge(nodes[0], nodes[0]))
            .min_by_key(|nodes| nodes.iter().min().copied())?;
        let inside: BTreeSet<&str> = component.into_iter().collect();
        // Every node of a strongly connected component has a successor in it, so walking the smallest
        // ones must come back to a node that was seen.
        let mut path: Vec<&str> = vec![inside.first()?];
        loop {
            let next = self.edges.neighbors(path[path.len() - 1]).filter(|node| inside.contains(node)).min()?;
            if let Some(start) = path.iter().position(|node| *node == next) {
                path.push(next);
                return Some(path[start..].iter().map(|node| (*node).to_owned()).collect());
            }
            path.push(next);
        }
    }
}

/// The error for a service that a command names and the project does not have.
pub fn unknown(project: &Project, name: &str) -> Error {
    let names = project.services.keys().chain(project.disabled_services.keys());
    Error::UnknownService { name: name.to_owned(), similar: similar(name, names) }
}

fn edge_path(service: &str, dependency: &str) -> String {
    format!("services.{service}.depends_on.{dependency}")
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::model::project::Service;

    /// A project from `web: api cache; api: db`.
    fn project(text: &str) -> Project {
        let mut project = Project { name: "p".into(), ..Project::default() };
        for entry in text.split(';') {
            let (name, dependencies) = entry.split_once(':').unwrap_or((entry, ""));
            let depends_on = dependencies
                .split_whitespace()
                .map(|name| (name.to_owned(), Dependency { required: true, ..Dependency::default() }))
                .collect();
            let name = name.trim().to_owned();
            project.services.insert(name.clone(), Service { name, depends_on, ..Service::default() });
        }
        project
    }

    #[test]
    fn dependencies_come_first() {
        let project = project("web: api cache; api: db; db; cache");
        let graph = Graph::of(&project).unwrap_or_else(|error| panic!("{error}"));
        assert_eq!(graph.order(), ["cache", "db", "api", "web"]);
        let selected = graph.select(&project, &["api".into()], false).unwrap_or_else(|error| panic!("{error}"));
        assert_eq!(selected.into_iter().collect::<Vec<_>>(), ["api", "db"]);
    }

    #[test]
    fn a_cycle_is_shown_as_a_path() {
        for (edges, path) in [
            ("web: api; api: web", "api -> web -> api"),
            ("a: a", "a -> a"),
            ("x: a; a: b; b: c x; c: a", "a -> b -> c -> a"),
        ] {
            let project = project(edges);
            let error = Graph::of(&project).err().map(|error| error.to_string());
            assert_eq!(error, Some(format!("services depend on each other in a circle: {path}")));
        }
    }

    #[test]
    fn a_missing_dependency_is_named() {
        let project = project("web: dbb");
        let error = Graph::of(&project).err().map(|error| error.to_string());
        assert_eq!(error.as_deref(), Some("service `web` depends on `dbb`, which is not defined"));
    }

    #[test]
    fn an_unknown_target_gets_a_suggestion() {
        let project = project("redis");
        let graph = Graph::of(&project).unwrap_or_else(|error| panic!("{error}"));
        let error = graph.select(&project, &["rediss".into()], false).unwrap_err();
        assert_eq!(crate::base::error::Explain::hint(&error).as_deref(), Some("did you mean `redis`?"));
    }
}
