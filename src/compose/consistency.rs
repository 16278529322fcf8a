//! Whether the parts of a project fit together: references lead somewhere, attributes that say the same agree,
//! dependencies have no cycle.

use std::collections::{BTreeMap, BTreeSet};

use super::node::{Map, Node, Span, Value};
use super::progress::Load;
use super::validate::nearest;

/// Checks a bound tree of which `disabled` services were taken out.
pub(crate) fn check(load: &mut Load, root: &Node, disabled: &Map) {
    let empty = Map::new();
    let services = section(root, "services", &empty);
    for (name, service) in services {
        let check = Check { root, services, disabled, name, service };
        // Where something was left out, it may have been that.
        if !load.may_be_left_out("services", name) {
            check.has_source(load);
        }
        check.sources(load);
        check.references(load);
        check.dependencies(load);
        check.amounts(load);
        check.mounts(load);
    }
    for (name, secret) in section(root, "secrets", &empty) {
        let external = secret.get("external").is_some();
        if !external && secret.get("file").is_none() && secret.get("environment").is_none() {
            load.mistake(secret.key, format!("secret `{name}` needs `file` or `environment`"));
        }
    }
    cycles(load, services);
}

fn section<'a>(root: &'a Node, name: &str, empty: &'a Map) -> &'a Map {
    root.get(name).and_then(Node::as_map).unwrap_or(empty)
}

struct Check<'a> {
    root: &'a Node,
    services: &'a Map,
    disabled: &'a Map,
    name: &'a str,
    service: &'a Node,
}

impl Check<'_> {
    fn text(&self, key: &str) -> Option<&str> {
        self.service.get(key).and_then(Node::as_str)
    }

    fn place(&self, key: &str) -> Span {
        self.service.get(key).map_or(self.service.key, Node::place)
    }

    fn has_source(&self, load: &mut Load) {
        let name = self.name;
        if self.service.get("build").is_none() && self.text("image").is_none() && self.service.get("provider").is_none()
        {
            load.mistake_with_hint(
                self.service.key,
                format!("service `{name}` has neither an image nor a build context"),
                Some("add `image:` or `build:`".into()),
            );
        }
    }

    fn sources(&self, load: &mut Load) {
        let name = self.name;
        let Some(build) = self.service.get("build") else { return };
        if let (Some(inline), Some(_)) = (build.get("dockerfile_inline"), build.get("dockerfile")) {
            let message = format!("service `{name}` has both `dockerfile` and `dockerfile_inline`, use one");
            let other = build.get("dockerfile").map_or(inline.key, |other| other.key);
            load.mistake_of_several(inline.key, message, None, &[(other, "the other one")]);
        }
        for (context, value) in build.get("additional_contexts").and_then(Node::as_map).into_iter().flatten() {
            let Some(target) = value.as_str().and_then(|text| text.strip_prefix("service:")) else { continue };
            let message = match self.services.get(target) {
                None => format!("service `{name}` names unknown service `{target}` as additional context `{context}`"),
                Some(service) if service.get("build").is_none() => {
                    format!("service `{name}` uses `{target}` as additional context `{context}`, which has no build")
                }
                _ => continue,
            };
            load.mistake(value.place(), message);
        }
        if let (Some(platforms), Some(platform)) =
            (build.get("platforms").and_then(Node::as_sequence), self.text("platform"))
            && !platforms.iter().any(|item| item.as_str() == Some(platform))
        {
            let message = format!("service `{name}`: build.platforms must contain the platform `{platform}`");
            load.mistake(self.place("platform"), message);
        }
    }

    fn references(&self, load: &mut Load) {
        let name = self.name;
        if let (Some(_), Some(networks)) = (self.text("network_mode"), self.service.get("networks")) {
            let message = format!("service `{name}` has both `network_mode` and `networks`, use one");
            load.mistake_of_several(networks.place(), message, None, &[(self.place("network_mode"), "the other one")]);
        }
        let entries = |key: &str| self.service.get(key).and_then(Node::as_map).into_iter().flatten();
        for (key, value) in entries("networks") {
            self.defined(load, "network", key, value.key);
        }
        for (key, value) in entries("models") {
            self.defined(load, "model", key, value.key);
        }
        let items = |node: Option<&'_ Node>| node.and_then(Node::as_sequence).unwrap_or_default().to_vec();
        for mount in items(self.service.get("volumes")) {
            if mount.get("type").and_then(Node::as_str) == Some("volume")
                && let Some(source) = mount.get("source")
            {
                self.defined(load, "volume", source.as_str().unwrap_or_default(), mount.place());
            }
        }
        let files = [
            ("config", self.service.get("configs")),
            ("secret", self.service.get("secrets")),
            ("secret", self.service.get_path(&["build", "secrets"])),
        ];
        for (kind, list) in files {
            for file in items(list) {
                let source = file.get("source").and_then(Node::as_str).unwrap_or_default();
                self.defined(load, kind, source, file.place());
            }
        }
        if let Some(test) = self.service.get_path(&["healthcheck", "test"]) {
            let first = test.as_sequence().and_then(|items| items.first()).and_then(Node::as_str);
            if !matches!(first, None | Some("CMD" | "CMD-SHELL" | "NONE")) {
                load.mistake(test.place(), "healthcheck.test must begin with CMD, CMD-SHELL or NONE".into());
            }
        }
        for rule in items(self.service.get_path(&["develop", "watch"])) {
            let action = rule.get("action").and_then(Node::as_str).unwrap_or_default();
            if rule.get("target").is_none() && !matches!(action, "rebuild" | "restart") {
                load.mistake(
                    rule.place(),
                    format!("service `{name}`: a watch rule with action {action} needs `target`"),
                );
            }
        }
    }

    /// Notes a reference to a resource that the top level does not define.
    fn defined(&self, load: &mut Load, kind: &str, key: &str, place: Span) {
        let empty = Map::new();
        let resources = section(self.root, &format!("{kind}s"), &empty);
        if resources.contains_key(key) || load.is_full() || load.may_be_left_out(&format!("{kind}s"), key) {
            return;
        }
        let hint = match nearest(key, resources.keys().map(String::as_str)) {
            Some(name) => format!("did you mean `{name}`?"),
            None => format!("declare it below `{kind}s:` at the top level"),
        };
        let message = format!("service `{}` refers to undefined {kind} `{key}`", self.name);
        load.mistake_with_hint(place, message, Some(hint));
    }

    fn dependencies(&self, load: &mut Load) {
        for (key, dependency) in self.service.get("depends_on").and_then(Node::as_map).into_iter().flatten() {
            if self.services.contains_key(key) || load.is_full() || load.may_be_left_out("services", key) {
                continue;
            }
            let optional = dependency.get("required").map(|node| &node.value) == Some(&Value::Bool(false));
            let place = if dependency.key.is_known() { dependency.key } else { dependency.place() };
            if let Some(other) = self.disabled.get(key) {
                if optional {
                    continue;
                }
                let profiles: Vec<&str> = other
                    .get("profiles")
                    .and_then(Node::as_sequence)
                    .unwrap_or_default()
                    .iter()
                    .filter_map(Node::as_str)
                    .collect();
                load.mistake_with_hint(
                    place,
                    format!("service `{}` depends on `{key}`, which no active profile enables", self.name),
                    profiles.first().map(|profile| format!("add --profile {profile}, or `required: false`")),
                );
                continue;
            }
            let others = self.services.keys().map(String::as_str).filter(|other| *other != self.name);
            let hint = nearest(key, others);
            load.mistake_with_hint(
                place,
                format!("service `{}` depends on undefined service `{key}`", self.name),
                hint.map(|name| format!("did you mean `{name}`?")),
            );
        }
    }

    /// Attributes that exist twice must agree.
    fn amounts(&self, load: &mut Load) {
        let name = self.name;
        let replicas = self.service.get_path(&["deploy", "replicas"]);
        let scale = self.service.get("scale");
        if let (Some(scale), Some(replicas)) = (scale, replicas)
            && scale != replicas
        {
            let message = format!("service `{name}`: `scale` and `deploy.replicas` differ");
            load.mistake_of_several(replicas.place(), message, None, &[(scale.place(), "the other one")]);
        }
        for node in [scale, replicas].into_iter().flatten() {
            if matches!(node.value, Value::Integer(number) if number < 0) {
                load.mistake(node.place(), format!("service `{name}` cannot have a negative number of containers"));
            }
        }
        let count =
            scale.or(replicas).map_or(1, |node| if let Value::Integer(number) = node.value { number } else { 1 });
        if count > 1 && self.text("container_name").is_some() {
            let message = format!("service `{name}` has a `container_name`, so it cannot have {count} containers");
            let number = scale.or(replicas).map_or(self.service.key, Node::place);
            load.mistake_of_several(self.place("container_name"), message, None, &[(number, "the number")]);
        }
        for (key, group, below) in [
            ("cpus", "limits", "cpus"),
            ("mem_limit", "limits", "memory"),
            ("pids_limit", "limits", "pids"),
            ("mem_reservation", "reservations", "memory"),
        ] {
            let Some(own) = self.service.get(key) else { continue };
            let Some(resources) = self.service.get_path(&["deploy", "resources", group]) else { continue };
            let other = resources.get(below);
            if other.is_none_or(|other| other.scalar_text() != own.scalar_text()) {
                let message = format!("service `{name}`: `{key}` and `deploy.resources.{group}.{below}` differ");
                let other = other.unwrap_or(resources).place();
                load.mistake_of_several(own.place(), message, None, &[(other, "the other one")]);
            }
        }
    }

    fn mounts(&self, load: &mut Load) {
        let mut targets: BTreeMap<&str, Span> = BTreeMap::new();
        let list = |key: &str| self.service.get(key).and_then(Node::as_sequence).unwrap_or_default();
        let tmpfs = list("tmpfs").iter().filter_map(|item| Some((item.as_str()?.split(':').next()?, item)));
        let volumes =
            list("volumes").iter().map(|mount| (mount.get("target").and_then(Node::as_str).unwrap_or_default(), mount));
        for (target, node) in tmpfs.chain(volumes) {
            if let Some(first) = targets.insert(target, node.place()) {
                let message = format!("service `{}` mounts two things at {target}", self.name);
                load.mistake_of_several(node.place(), message, None, &[(first, "the first")]);
            }
        }
    }
}

/// `a -> b (compose.yaml:3) -> a (compose.yaml:7)`: each arrow with the place that makes it.
fn draw_loop(load: &Load, edges: &BTreeMap<&str, Vec<(&str, Span)>>, on_loop: &[&str]) -> String {
    let mut drawn = on_loop.first().copied().unwrap_or_default().to_owned();
    for (index, from) in on_loop.iter().enumerate() {
        let to = on_loop[(index + 1) % on_loop.len()];
        let place = edges.get(from).and_then(|targets| targets.iter().find(|(name, _)| *name == to));
        drawn.push_str(&format!(" -> {to}"));
        if let Some(at) = place.and_then(|(_, span)| load.location(*span)) {
            let file = at.file.file_name().unwrap_or_default().to_string_lossy();
            drawn.push_str(&format!(" ({file}:{})", at.line));
        }
    }
    drawn
}

/// Notes one mistake for each loop of dependencies.
fn cycles(load: &mut Load, services: &Map) {
    let edges: BTreeMap<&str, Vec<(&str, Span)>> = services
        .iter()
        .map(|(name, service)| {
            let dependencies = service.get("depends_on").and_then(Node::as_map).into_iter().flatten();
            let targets = dependencies
                .map(|(key, node)| (key.as_str(), if node.key.is_known() { node.key } else { node.place() }));
            (name.as_str(), targets.filter(|(key, _)| services.contains_key(*key)).collect())
        })
        .collect();
    let mut done: BTreeSet<&str> = BTreeSet::new();
    for start in edges.keys() {
        if load.is_full() {
            return;
        }
        // An explicit stack: a chain of services may be longer than the call stack is deep.
        let mut path: Vec<(&str, usize)> = vec![(start, 0)];
        let mut on_path: BTreeSet<&str> = BTreeSet::from([*start]);
        while let Some((name, next)) = path.last_mut() {
            if done.contains(*name) {
                on_path.remove(*name);
                path.pop();
                continue;
            }
            let name = *name;
            match edges.get(name).and_then(|targets| targets.get(*next)) {
                None => {
                    done.insert(name);
                }
                Some((target, place)) => {
                    *next += 1;
                    if on_path.contains(target) {
                        let begin = path.iter().position(|(on, _)| on == target).unwrap_or_default();
                        let on_loop: Vec<&str> = path[begin..].iter().map(|(on, _)| *on).collect();
                        let drawn = draw_loop(load, &edges, &on_loop);
                        load.mistake(*place, format!("services depend on each other: {drawn}"));
                    } else {
                        on_path.insert(target);
                        path.push((target, 0));
                    }
                }
            }
        }
    }
}
