//! `config --resolve-image-digests` and `--lock-image-digests`: images by what they are and not by what they are called.

use std::collections::BTreeMap;

use crate::cli::Failure;
use crate::compose::Node;
use crate::compose::node::{Map, Value};
use crate::engine;
use crate::image;
use crate::model::reference::Reference;

/// Replaces every image of the tree by `registry/name:tag@digest`: those of services, of hooks that name one, and of
/// mounts of images (not those that name a service of the project).
pub fn resolve(tree: &mut Node) -> Result<(), Failure> {
    let mut names: BTreeMap<String, String> = BTreeMap::new();
    each_image(tree, &mut |name| drop(names.insert(name.clone(), String::new())));
    let mut references: Vec<Reference> = Vec::with_capacity(names.len());
    for name in names.keys() {
        let mut reference: Reference = name.parse().map_err(engine::Error::from)?;
        if reference.digest.is_some() {
            reference.tag = None;
        }
        references.push(reference);
    }
    let digests = image::resolve_digests(&references).map_err(engine::Error::from)?;
    let mut failures: Vec<engine::Error> = Vec::new();
    for ((reference, digest), pinned) in references.into_iter().zip(digests).zip(names.values_mut()) {
        match digest {
            Ok(digest) => *pinned = Reference { digest: Some(digest), ..reference }.canonical(),
            Err(error) => failures.push(error.into()),
        }
    }
    if !failures.is_empty() {
        return Err(Failure::Errors(failures.into_iter().map(|error| Box::new(error) as _).collect()));
    }
    each_image(tree, &mut |name| {
        if let Some(pinned) = names.get(name) {
            name.clone_from(pinned);
        }
    });
    Ok(())
}

/// Removes everything but the images of services and the mounts of images: a file to lay over the project.
pub fn keep_images_only(tree: &mut Node) {
    let Some(root) = tree.as_map_mut() else { return };
    root.retain(|key, _| key == "services");
    for service in root.values_mut().filter_map(Node::as_map_mut).flat_map(Map::values_mut) {
        let Some(service) = service.as_map_mut() else { continue };
        service.retain(|key, value| match key.as_str() {
            "image" => true,
            "volumes" => {
                if let Value::Sequence(mounts) = &mut value.value {
                    mounts.retain(is_image_mount);
                }
                value.as_sequence().is_some_and(|mounts| !mounts.is_empty())
            }
            _ => false,
        });
    }
}

fn is_image_mount(mount: &Node) -> bool {
    mount.get("type").and_then(Node::as_str) == Some("image")
}

fn each_image(tree: &mut Node, visit: &mut dyn FnMut(&mut String)) {
    let Some(services) = tree.as_map_mut().and_then(|map| map.get_mut("services")).and_then(Node::as_map_mut) else {
        return;
    };
    let names: Vec<String> = services.keys().cloned().collect();
    let mut visit_text = |node: Option<&mut Node>, may_be_service: bool| {
        if let Some(Node { value: Value::Text(text), .. }) = node
            && !(may_be_service && names.contains(text))
        {
            visit(text);
        }
    };
    for service in services.values_mut().filter_map(Node::as_map_mut) {
        visit_text(service.get_mut("image"), false);
        for (list, key) in [("pre_start", "image"), ("volumes", "source")] {
            let Some(Node { value: Value::Sequence(items), .. }) = service.get_mut(list) else { continue };
            for item in items.iter_mut().filter(|item| list == "pre_start" || is_image_mount(item)) {
                visit_text(item.as_map_mut().and_then(|map| map.get_mut(key)), list == "volumes");
            }
        }
    }
}
