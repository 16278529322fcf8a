use super::*;
use crate::model::project::{Build, ServiceVolume};

fn service(develop: serde_json::Value) -> Service {
    Service { name: "web".into(), develop: Some(develop), ..Service::default() }
}

fn rules(watch: serde_json::Value) -> Rules {
    Rules::of([&service(serde_json::json!({ "watch": watch }))]).expect("the rules are good")
}

fn file(path: &str) -> Change {
    Change { path: path.into(), is_folder: false }
}

/// `host -> target` of every copy that a change of `path` asks for.
fn copies(rules: &Rules, path: &str) -> Vec<String> {
    let effects = rules.effects(&[file(path)]);
    effects.copies.values().flatten().map(|copy| format!("{}@{}", copy.target.display(), copy.depth)).collect()
}

#[test]
fn paths_are_mapped_below_the_target() {
    let folder = rules(serde_json::json!([{"path": "/nowhere/src", "action": "sync", "target": "/app"}]));
    assert_eq!(copies(&folder, "/nowhere/src/a/b.c"), ["/app/a/b.c@2"]);
    assert_eq!(copies(&folder, "/nowhere/srcs/b.c"), Vec::<String>::new());
    assert_eq!(copies(&folder, "/nowhere"), Vec::<String>::new());
    let root = Change { path: "/nowhere/src".into(), is_folder: true };
    assert_eq!(folder.effects(&[root]), Effects::default(), "the target itself stays");
    for (target, expected) in [("/etc/x", "/etc/x@0"), ("/etc/", "/etc/one.conf@0"), ("etc/x", "/etc/x@0")] {
        let single = rules(serde_json::json!([{"path": "/nowhere/one.conf", "action": "sync", "target": target}]));
        assert_eq!(copies(&single, "/nowhere/one.conf"), [expected]);
    }
}

#[test]
fn what_is_ignored_or_not_included_is_no_change() {
    let rules = rules(serde_json::json!([{
        "path": "/nowhere", "action": "sync", "target": "/app",
        "include": ["src", "**/*.html"], "ignore": ["node_modules", "**/*.log", "!keep.log"],
    }]));
    for (path, wanted) in [
        ("/nowhere/src/main.c", true),
        ("/nowhere/pages/deep/index.html", true),
        ("/nowhere/pages/deep/index.css", false),
        ("/nowhere/src/x.log", false),
        ("/nowhere/node_modules/a/index.html", false),
        ("/nowhere/src/.main.c.swp", false),
        ("/nowhere/src/main.c~", false),
        ("/nowhere/src/4913", false),
        ("/nowhere/src/.#main.c", false),
        ("/nowhere/src/main.c___jb_tmp___", false),
        ("/nowhere/src/.git/HEAD", false),
        ("/nowhere/src/.idea/workspace.xml", false),
        ("/nowhere/src/.gitignore", true),
    ] {
        assert_eq!(!copies(&rules, path).is_empty(), wanted, "{path}");
        assert_eq!(rules.concern(Path::new(path)), wanted, "{path}");
    }
    assert!(!rules.may_concern_below(Path::new("/nowhere/node_modules")));
    assert!(!rules.may_concern_below(Path::new("/nowhere/src/.git")));
    assert!(rules.may_concern_below(Path::new("/nowhere/pages")));
}

#[test]
fn each_action_asks_for_its_own() {
    let mut web = service(serde_json::json!({"watch": [
        {"path": "/nowhere/src", "action": "sync+restart", "target": "/app"},
        {"path": "/nowhere/src/c", "action": "sync+exec", "target": "/c", "exec": {"command": ["make"]}},
        {"path": "/nowhere/package.json", "action": "rebuild", "exec": {"command": null}},
        {"path": "/nowhere/conf", "action": "restart"},
    ]}));
    web.build = Some(Build { context: "/nowhere".into(), ..Build::default() });
    let rules = Rules::of([&web]).expect("the rules are good");
    let effects = rules.effects(&[file("/nowhere/src/a"), file("/nowhere/src/c/x"), file("/nowhere/src/c/y")]);
    let targets: Vec<_> = effects.copies["web"].iter().map(|copy| copy.target.display().to_string()).collect();
    assert_eq!(targets, ["/app/a", "/app/c/x", "/c/x", "/app/c/y", "/c/y"]);
    assert_eq!((effects.restart_after_copy.len(), effects.restart.len()), (1, 0));
    assert_eq!(effects.exec, BTreeSet::from([1]));
    assert!(effects.rebuild.is_empty());
    let effects = rules.effects(&[file("/nowhere/package.json"), file("/nowhere/conf/a")]);
    assert_eq!(effects.rebuild["web"], PathBuf::from("/nowhere/package.json"));
    assert!(effects.copies.is_empty() && effects.restart.contains("web"));
    // A folder is made where it is missing, and is no reason for more.
    let effects = rules.effects(&[Change { path: "/nowhere/src/new".into(), is_folder: true }]);
    assert!(effects.restart.is_empty() && effects.restart_after_copy.is_empty());
    assert_eq!(effects.copies["web"].len(), 1);
}

#[test]
fn mounted_files_are_not_copied() {
    let mut web = service(serde_json::json!({"watch": [
        {"path": "/nowhere/src", "action": "sync", "target": "/app"},
        {"path": "/nowhere/src", "action": "sync+restart", "target": "/app"},
        {"path": "/nowhere/src", "action": "sync+exec", "target": "/app", "exec": {"command": ["reload"]}},
        {"path": "/nowhere", "action": "sync", "target": "/"},
    ]}));
    web.volumes = vec![ServiceVolume {
        kind: "bind".into(),
        source: Some("/nowhere/src".into()),
        target: "/app".into(),
        ..ServiceVolume::default()
    }];
    let rules = Rules::of([&web]).expect("the rules are good");
    assert_eq!(rules.rules.len(), 2);
    assert_eq!(rules.warnings.len(), 3, "{:?}", rules.warnings);
    let effects = rules.effects(&[file("/nowhere/src/a")]);
    assert!(effects.copies.is_empty() && effects.restart.is_empty() && effects.exec.len() == 1, "{effects:?}");
    assert_eq!(copies(&rules, "/nowhere/b"), ["/b@1"]);
}

#[test]
fn rules_that_cannot_work_are_refused() {
    let of = |rule: serde_json::Value| Rules::of([&service(serde_json::json!({"watch": [rule]}))]).map(drop);
    let rebuild = of(serde_json::json!({"path": "/x", "action": "rebuild"}));
    assert!(matches!(rebuild, Err(Error::NoBuild { .. })), "{rebuild:?}");
    let exec = of(serde_json::json!({"path": "/x", "action": "sync+exec", "target": "/", "exec": {"command": null}}));
    assert!(matches!(exec, Err(Error::NoCommand { .. })), "{exec:?}");
    let pattern = of(serde_json::json!({"path": "/x", "action": "restart", "ignore": ["["]}));
    assert!(matches!(pattern, Err(Error::Pattern { .. })), "{pattern:?}");
}
