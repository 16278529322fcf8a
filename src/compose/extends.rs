//! `extends`: lays a service over another one, of the same file or of another.
//!
//! Specification: <https://github.com/compose-spec/compose-spec/blob/main/05-services.md#extends>.

use std::path::{Path, PathBuf};

use super::limits::CHAIN_MAX;
use super::model::Model;
use super::node::{Map, Node, Value};
use super::paths::Folders;
use super::progress::Load;
use super::remote::{bring, is_address};
use super::reset::Resets;
use super::{Error, canonical, interpolate, merge, path, paths, unicity, yaml};

/// A file that services extend: its services, and what its tags take away.
pub(crate) struct Base {
    services: Map,
    resets: Resets,
}

/// The services that extend each other, from the one that began.
type Chain = Vec<(PathBuf, String)>;

impl Model<'_> {
    /// Lays every service of the document over what it extends.
    pub(crate) fn extend_services(
        &mut self,
        load: &mut Load,
        file: &Path,
        document: &mut Node,
        resets: &Resets,
    ) -> Result<(), Error> {
        let Some(services) = document.as_map_mut().and_then(|map| map.get_mut("services")) else { return Ok(()) };
        // Another type is validation's to refuse.
        let Value::Map(services) = &mut services.value else { return Ok(()) };
        let names: Vec<String> = services.keys().cloned().collect();
        for name in names {
            self.extend(load, file, services, &name, resets, &mut Vec::new())?;
        }
        Ok(())
    }

    /// Lays `services[name]` over what it extends, recursively.
    fn extend(
        &mut self,
        load: &mut Load,
        file: &Path,
        services: &mut Map,
        name: &str,
        resets: &Resets,
        chain: &mut Chain,
    ) -> Result<(), Error> {
        let Some(extends) = services.get(name).and_then(|service| service.get("extends")) else { return Ok(()) };
        let place = extends.place();
        let (base_name, base_file) = match &extends.value {
            Value::Text(name) => (name.clone(), None),
            Value::Map(map) => {
                let Some(base) = map.get("service").and_then(Node::as_str) else {
                    return Err(load.fail(place, format!("services.{name}.extends needs `service`")));
                };
                (base.to_owned(), map.get("file").filter(|file| !file.is_null()).cloned())
            }
            // Another type is validation's to refuse.
            _ => return Ok(()),
        };
        chain.push((file.to_owned(), name.to_owned()));
        let (base, place) = match base_file {
            None => (self.base_of_same_file(load, file, services, &base_name, resets, chain, place)?, place),
            Some(node) => (self.base_of_other_file(load, &node, &base_name, chain)?, node.place()),
        };
        chain.pop();
        let Some(mut base) = base else { return Ok(()) };
        let Value::Map(_) = base.value else {
            return Err(load.fail(place, format!("service `{base_name}` must be a mapping, not {}", base.kind())));
        };
        resets.apply_below(load, &mut base, "services", name);
        let Some(service) = services.get_mut(name) else { return Ok(()) };
        let upper = std::mem::replace(service, Node::null());
        let (span, key) = (upper.span, upper.key);
        let mut merged = merge::merge(load, base, upper, path::Path::default().join("services").join(name))?;
        merged.as_map_mut().and_then(|map| map.shift_remove("extends"));
        *service = merged.at(span, key);
        Ok(())
    }

    #[allow(clippy::too_many_arguments, reason = "one call, and all of it says where the base is")]
    fn base_of_same_file(
        &mut self,
        load: &mut Load,
        file: &Path,
        services: &mut Map,
        base: &str,
        resets: &Resets,
        chain: &mut Chain,
        place: super::node::Span,
    ) -> Result<Option<Node>, Error> {
        if !services.contains_key(base) {
            return Err(no_base(load, place, base, file, services));
        }
        check_chain(load, place, chain, file, base)?;
        self.extend(load, file, services, base, resets, chain)?;
        copy_of(load, services, base)
    }

    fn base_of_other_file(
        &mut self,
        load: &mut Load,
        file: &Node,
        base: &str,
        chain: &mut Chain,
    ) -> Result<Option<Node>, Error> {
        let place = file.place();
        let Some(name) = file.as_str() else {
            return Err(load.fail(place, format!("extends.file must be a string, not {}", file.kind())));
        };
        let path = match is_address(name) {
            true => bring(load, name, place)?,
            false => self.absolute(name),
        };
        check_chain(load, place, chain, &path, base)?;
        let mut found = match self.bases.remove(&path) {
            Some(found) => found,
            None => self.read_base(load, &path, place)?,
        };
        if !found.services.contains_key(base) {
            return Err(no_base(load, place, base, &path, &found.services));
        }
        let resets = found.resets.clone();
        self.extend(load, &path, &mut found.services, base, &resets, chain)?;
        let copy = copy_of(load, &found.services, base);
        self.bases.insert(path, found);
        copy
    }

    /// Reads a file for its services: merged and canonical, but not validated, since it need not be whole.
    fn read_base(&mut self, load: &mut Load, file: &Path, place: super::node::Span) -> Result<Base, Error> {
        let index = load.read_named(file, place)?;
        let mut tree: Node = Value::Map(Map::new()).into();
        let mut resets = Resets::default();
        for mut document in yaml::parse(load, index)? {
            load.charge_document(&document)?;
            resets = Resets::take(&mut document);
            if self.settings.interpolate {
                interpolate::interpolate(load, &mut document, &self.environment)?;
            }
            load.leave_out_wrong(&mut document);
            resets.apply(load, &mut tree);
            tree = merge::merge(load, tree, document, path::Path::default())?;
            unicity::enforce(load, &mut tree, false);
            canonical::canonical(load, &mut tree, !self.settings.interpolate)?;
            unicity::enforce(load, &mut tree, false);
        }
        let folder = file.parent().unwrap_or(Path::new("/"));
        let folders = Folders { base: folder, home: self.settings.home.as_deref() };
        paths::resolve(load, &mut tree, &folders);
        let services = tree.as_map_mut().and_then(|map| map.shift_remove("services"));
        match services.map(|services| services.value) {
            Some(Value::Map(services)) => Ok(Base { services, resets }),
            _ => Err(load.fail(place, format!("{} has no services to extend", file.display()))),
        }
    }
}

fn copy_of(load: &mut Load, services: &Map, name: &str) -> Result<Option<Node>, Error> {
    match services.get(name) {
        Some(node) if !node.is_null() => load.copy(node).map(Some),
        _ => Ok(None),
    }
}

fn no_base(load: &mut Load, place: super::node::Span, base: &str, file: &Path, services: &Map) -> Error {
    let hint = super::validate::nearest(base, services.keys().map(String::as_str));
    load.fail_with_hint(
        place,
        format!("cannot extend service `{base}`: {} has no such service", file.display()),
        hint.map(|name| format!("did you mean `{name}`?")),
    )
}

fn check_chain(load: &mut Load, place: super::node::Span, chain: &Chain, file: &Path, base: &str) -> Result<(), Error> {
    let begin = chain.iter().position(|(path, name)| path == file && name == base);
    match begin {
        Some(begin) => {
            let names: Vec<&str> =
                chain[begin..].iter().map(|(_, name)| name.as_str()).chain(std::iter::once(base)).collect();
            Err(load.fail(place, format!("services extend each other: {}", names.join(" -> "))))
        }
        None if chain.len() >= CHAIN_MAX => {
            Err(load.fail(place, format!("services extend each other over more than {CHAIN_MAX} links")))
        }
        None => Ok(()),
    }
}
