//! The one-way order of the modules: reads `src/lib.rs` and fails on an upward or sideways `use`.

use std::collections::BTreeMap;
use std::fs;
use std::path::{Path, PathBuf};

/// Modules with the number of their layer, as the comments of `src/lib.rs` give it.
fn layers(source: &str) -> BTreeMap<String, u32> {
    let mut layer = None;
    let mut layers = BTreeMap::new();
    for line in source.lines() {
        if let Some(rest) = line.strip_prefix("// layer ") {
            layer = rest.split(':').next().and_then(|number| number.parse().ok());
        }
        if let Some(name) = line.strip_prefix("pub mod ").and_then(|rest| rest.strip_suffix(';')) {
            layers.insert(name.to_owned(), layer.expect("a module stands below the comment that names its layer"));
        }
    }
    layers
}

fn rust_files(folder: &Path, found: &mut Vec<PathBuf>) {
    for entry in fs::read_dir(folder).expect("the source folder is readable") {
        let path = entry.expect("the source folder is readable").path();
        if path.is_dir() {
            rust_files(&path, found);
        } else if path.extension().is_some_and(|extension| extension == "rs") {
            found.push(path);
        }
    }
}

/// The top-level modules that a line of code names by `crate::…`.
fn named_modules(line: &str) -> Vec<String> {
    let code = line.split("//").next().unwrap_or_default();
    code.match_indices("crate::")
        .flat_map(|(index, _)| {
            let rest = &code[index + "crate::".len()..];
            let group = rest.strip_prefix('{').and_then(|rest| rest.split('}').next());
            let paths: Vec<&str> = group.map_or_else(|| vec![rest], |group| group.split(',').collect());
            paths
                .into_iter()
                .map(|path| path.trim().chars().take_while(|c| c.is_alphanumeric() || *c == '_').collect::<String>())
                .collect::<Vec<_>>()
        })
        .filter(|name| !name.is_empty())
        .collect()
}

#[test]
fn a_module_names_only_what_stands_below_it() {
    let root = Path::new(env!("CARGO_MANIFEST_DIR")).join("src");
    let layers = layers(&fs::read_to_string(root.join("lib.rs")).expect("src/lib.rs is readable"));
    assert!(layers.len() > 10, "the list in src/lib.rs was not understood: {layers:?}");
    let mut files = Vec::new();
    rust_files(&root, &mut files);
    let mut faults = Vec::new();
    for file in files {
        let inside = file.strip_prefix(&root).expect("the file lies below src");
        let module = inside.iter().next().and_then(|part| part.to_str()).map(|part| part.trim_end_matches(".rs"));
        let Some((module, own)) = module.and_then(|module| layers.get_key_value(module)) else { continue };
        let source = fs::read_to_string(&file).expect("a source file is readable");
        for (number, line) in source.lines().enumerate() {
            for name in named_modules(line) {
                match layers.get(&name) {
                    Some(other) if name != *module && other >= own => faults.push(format!(
                        "src/{}:{}: `{module}` (layer {own}) names `{name}` (layer {other})",
                        inside.display(),
                        number + 1
                    )),
                    _ => {}
                }
            }
        }
    }
    assert!(faults.is_empty(), "\n{}", faults.join("\n"));
}
