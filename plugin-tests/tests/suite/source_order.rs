//! The order of the modules in src: a module uses the modules below it, and none above. Siblings do
//! not form a cycle. Parents and children may use each other; `cfg(test)` code may use anything.

use std::collections::{BTreeMap, BTreeSet};
use std::fmt::Write as _;
use std::fs;
use std::path::{Path, PathBuf};

use proc_macro2::{TokenStream, TokenTree};
use syn::visit::{self, Visit};

/// The layers from top to bottom. docs/architecture.md describes them.
const LAYERS: [&str; 16] = [
    "fuzz",
    "abi",
    "client",
    "kafka",
    "topics",
    "delivery",
    "event",
    "kafka::librdkafka",
    "positions",
    "components",
    "auth",
    "http_client",
    "record",
    "config",
    "json",
    "support",
];

#[test]
fn modules_use_only_the_layers_below_them() {
    let tree = Tree::read(&src());
    assert_eq!(tree.unknown_layers(), Vec::<String>::new(), "each module of src has its place in `LAYERS`");
    let violations = tree.layer_violations();
    assert!(violations.is_empty(), "src has uses from a lower layer to a higher one:\n{}", violations.join("\n"));
}

#[test]
fn sibling_modules_form_no_cycle() {
    let cycles = Tree::read(&src()).sibling_cycles();
    assert!(cycles.is_empty(), "siblings in src use each other in a cycle:\n{}", cycles.join("\n"));
}

/// Each form of a path from a lower layer to a higher one is a violation; in `cfg(test)` none is.
#[test]
fn upward_uses_are_violations_in_each_form() {
    let upward = [
        "use crate::client::topic::Topic;",
        "use crate::{client::topic, support::other};",
        "fn f() -> crate::client::topic::Topic { todo!() }",
        "fn f() { let _ = format!(\"{}\", crate::client::topic::NAME); }",
        "mod inner { use super::super::client::topic as t; }",
    ];
    let tree =
        |code: &str| Tree::of([("client::topic", ""), ("client", "pub mod topic;"), ("support", code), ("", "")]);
    for code in upward {
        assert_eq!(tree(code).layer_violations(), ["support uses client::topic"], "{code}");
    }
    assert!(tree("#[cfg(test)] mod tests { use crate::client::topic::Topic; }").layer_violations().is_empty());
    assert!(tree("use crate::support::other;").layer_violations().is_empty());
}

/// The test finds a cycle of siblings through a re-export of their parent.
#[test]
fn sibling_cycle_is_found_through_a_reexport() {
    let siblings = |back: &str| {
        Tree::of([
            ("event", "pub mod a; pub mod b; pub use b::Bee;"),
            ("event::a", "use super::b::Bee;"),
            ("event::b", back),
        ])
        .sibling_cycles()
    };
    assert_eq!(siblings("use crate::event::a::A;"), ["event: a -> b -> a"]);
    assert!(siblings("use super::Other;").is_empty());
    let through_parent = Tree::of([
        ("event", "pub mod a; pub mod b; pub use b::Bee;"),
        ("event::a", "use super::Bee;"),
        ("event::b", "use super::a::A;"),
    ]);
    assert_eq!(through_parent.sibling_cycles(), ["event: a -> b -> a"]);
}

fn src() -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).join("../src")
}

/// The modules of a crate and the paths that each uses.
struct Tree {
    files: BTreeMap<Module, syn::File>,
}

type Module = Vec<String>;

impl Tree {
    fn read(root: &Path) -> Tree {
        let mut files = BTreeMap::new();
        let mut directories = vec![root.to_owned()];
        while let Some(directory) = directories.pop() {
            for entry in fs::read_dir(&directory).unwrap() {
                let path = entry.unwrap().path();
                let is_other_crate = path.join("Cargo.toml").exists();
                if path.is_dir() && !is_other_crate {
                    directories.push(path);
                } else if path.extension().is_some_and(|extension| extension == "rs") {
                    let name = path.strip_prefix(root).unwrap().with_extension("");
                    let mut module: Module = name.iter().map(|part| part.to_str().unwrap().to_owned()).collect();
                    module.pop_if(|last| ["mod", "lib"].contains(&last.as_str()));
                    if module.last().is_none_or(|last| last != "tests") {
                        files.insert(module, syn::parse_file(&fs::read_to_string(&path).unwrap()).unwrap());
                    }
                }
            }
        }
        assert!(files.len() > 50, "{} has the sources", root.display());
        Tree { files }
    }

    fn of<const N: usize>(files: [(&str, &str); N]) -> Tree {
        let files = files.map(|(module, code)| (split(module), syn::parse_file(code).unwrap()));
        Tree { files: files.into() }
    }

    /// The modules that a module uses, re-exports resolved.
    fn uses(&self, module: &Module) -> BTreeSet<Module> {
        let mut paths = Paths { module: module.clone(), found: BTreeSet::new() };
        paths.visit_file(&self.files[module]);
        paths.found.iter().filter_map(|path| self.resolve(path)).collect()
    }

    /// The module that defines what `path` names.
    fn resolve(&self, path: &[String]) -> Option<Module> {
        let mut length = path.len();
        while !self.files.contains_key(&path[..length]) {
            length = length.checked_sub(1)?;
        }
        let module = path[..length].to_vec();
        let child = path.get(length).and_then(|name| self.reexporting_child(&module, name));
        Some(child.unwrap_or(module))
    }

    /// The child of `module` whose `name` it re-exports.
    fn reexporting_child(&self, module: &Module, name: &str) -> Option<Module> {
        let uses = self.files[module].items.iter().filter_map(|item| match item {
            syn::Item::Use(item) => Some(item),
            _ => None,
        });
        for item in uses {
            let mut paths = Paths { module: module.clone(), found: BTreeSet::new() };
            paths.add_use(&[], &item.tree);
            let of_child = paths.found.iter().find(|path| path.last().is_some_and(|last| last == name));
            let own = of_child.map(|path| path[..path.len() - 1].to_vec());
            if let Some(child) = own.filter(|child| child != module && self.files.contains_key(child)) {
                return Some(child);
            }
        }
        None
    }

    fn unknown_layers(&self) -> Vec<String> {
        let known = |module: &&Module| module.is_empty() || layer(module).is_some();
        self.files.keys().filter(|module| !known(module)).map(|module| module.join("::")).collect()
    }

    fn layer_violations(&self) -> Vec<String> {
        let mut violations = Vec::new();
        for module in self.files.keys() {
            for used in self.uses(module) {
                let is_parent = used.starts_with(module) || module.starts_with(&used);
                if !is_parent && layer(module) > layer(&used) && layer(&used).is_some() {
                    violations.push(format!("{} uses {}", module.join("::"), used.join("::")));
                }
            }
        }
        violations
    }

    fn sibling_cycles(&self) -> Vec<String> {
        let mut edges: BTreeMap<Module, BTreeMap<String, BTreeSet<String>>> = BTreeMap::new();
        for module in self.files.keys() {
            for used in self.uses(module) {
                let shared = module.iter().zip(&used).take_while(|(a, b)| a == b).count();
                let (Some(from), Some(to)) = (module.get(shared), used.get(shared)) else { continue };
                // A module that is a layer of its own has its place in `LAYERS`.
                let is_layer = LAYERS.contains(&used[..=shared].join("::").as_str());
                if shared > 0 && !is_layer || shared > 1 {
                    let siblings = edges.entry(module[..shared].to_vec()).or_default();
                    siblings.entry(from.clone()).or_default().insert(to.clone());
                }
            }
        }
        edges
            .iter()
            .filter_map(|(parent, siblings)| Some(format!("{}: {}", parent.join("::"), cycle(siblings)?)))
            .collect()
    }
}

fn split(module: &str) -> Module {
    module.split("::").filter(|part| !part.is_empty()).map(str::to_owned).collect()
}

/// The index in `LAYERS` of the innermost layer that has this module.
fn layer(module: &Module) -> Option<usize> {
    let of = |layer: &&&str| module.starts_with(&split(layer));
    LAYERS
        .iter()
        .filter(|layer| of(layer))
        .max_by_key(|layer| layer.len())
        .and_then(|layer| LAYERS.iter().position(|other| other == layer))
}

/// Some cycle, if there is one: `a -> b -> a`.
fn cycle(edges: &BTreeMap<String, BTreeSet<String>>) -> Option<String> {
    fn visit<'a>(
        node: &'a String,
        edges: &'a BTreeMap<String, BTreeSet<String>>,
        path: &mut Vec<&'a String>,
        done: &mut BTreeSet<&'a String>,
    ) -> Option<String> {
        if let Some(start) = path.iter().position(|on_path| *on_path == node) {
            let mut text = String::new();
            for step in &path[start..] {
                let _ = write!(text, "{step} -> ");
            }
            return Some(text + node);
        }
        if !done.insert(node) {
            return None;
        }
        path.push(node);
        let found = edges.get(node).into_iter().flatten().find_map(|next| visit(next, edges, path, done));
        path.pop();
        found
    }
    let mut done = BTreeSet::new();
    edges.keys().find_map(|node| visit(node, edges, &mut Vec::new(), &mut done))
}

/// Collects the paths of a file that begin with `crate`, `self` or `super`, as paths from the root.
struct Paths {
    module: Module,
    found: BTreeSet<Vec<String>>,
}

impl Paths {
    fn add(&mut self, path: &[String]) {
        let mut absolute = match path.first().map(String::as_str) {
            Some("crate") => Vec::new(),
            Some("self" | "super") => self.module.clone(),
            _ => return,
        };
        for part in path {
            match part.as_str() {
                "crate" | "self" => {}
                "super" => drop(absolute.pop()),
                part => absolute.push(part.to_owned()),
            }
        }
        self.found.insert(absolute);
    }

    fn add_use(&mut self, prefix: &[String], tree: &syn::UseTree) {
        let with = |name: &syn::Ident| [prefix, &[name.to_string()]].concat();
        match tree {
            syn::UseTree::Path(path) => self.add_use(&with(&path.ident), &path.tree),
            syn::UseTree::Name(name) => self.add_use_path(&with(&name.ident)),
            syn::UseTree::Rename(rename) => self.add_use_path(&with(&rename.ident)),
            syn::UseTree::Glob(_) => self.add_use_path(prefix),
            syn::UseTree::Group(group) => group.items.iter().for_each(|tree| self.add_use(prefix, tree)),
        }
    }

    /// A path of a `use`; without a keyword it begins in this module, or names another crate.
    fn add_use_path(&mut self, path: &[String]) {
        match path.first().map(String::as_str) {
            Some("crate" | "self" | "super") => self.add(path),
            _ => drop(self.found.insert([&self.module[..], path].concat())),
        }
    }

    /// The tokens of a macro are no syntax that `syn` knows: its paths are found one by one.
    fn add_tokens(&mut self, tokens: TokenStream) {
        let mut path: Vec<String> = Vec::new();
        let mut colons = 0;
        for token in tokens {
            match token {
                TokenTree::Ident(name) if colons == 2 => path.push(name.to_string()),
                TokenTree::Ident(name) => {
                    self.add(&path);
                    path = vec![name.to_string()];
                }
                TokenTree::Punct(punct) if punct.as_char() == ':' => {
                    colons += 1;
                    continue;
                }
                TokenTree::Group(group) => self.add_tokens(group.stream()),
                _ => {}
            }
            colons = 0;
        }
        self.add(&path);
    }
}

fn is_for_tests(attributes: &[syn::Attribute]) -> bool {
    attributes.iter().any(|attribute| match &attribute.meta {
        syn::Meta::List(list) if list.path.is_ident("cfg") => {
            let condition = list.tokens.to_string();
            condition == "test" || condition.starts_with("all (test") || condition.contains("test , fuzzing")
        }
        _ => false,
    })
}

impl<'a> Visit<'a> for Paths {
    fn visit_item(&mut self, item: &'a syn::Item) {
        let attributes = match item {
            syn::Item::Mod(item) => &item.attrs,
            syn::Item::Use(item) => &item.attrs,
            syn::Item::Fn(item) => &item.attrs,
            syn::Item::Impl(item) => &item.attrs,
            _ => return visit::visit_item(self, item),
        };
        if !is_for_tests(attributes) {
            visit::visit_item(self, item);
        }
    }

    fn visit_item_mod(&mut self, item: &'a syn::ItemMod) {
        if let Some((_, items)) = &item.content {
            self.module.push(item.ident.to_string());
            items.iter().for_each(|item| self.visit_item(item));
            self.module.pop();
        }
    }

    fn visit_item_use(&mut self, item: &'a syn::ItemUse) {
        self.add_use(&[], &item.tree);
    }

    fn visit_path(&mut self, path: &'a syn::Path) {
        let parts: Vec<_> = path.segments.iter().map(|segment| segment.ident.to_string()).collect();
        self.add(&parts);
        visit::visit_path(self, path);
    }

    fn visit_macro(&mut self, item: &'a syn::Macro) {
        self.add_tokens(item.tokens.clone());
    }
}
