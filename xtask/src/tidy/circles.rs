//! Files of a crate that name each other in a circle: nobody can read one of them first.
//!
//! A module and those inside it may name each other: they are one thing.

use std::collections::{BTreeMap, BTreeSet};

use camino::Utf8Path;

use super::items::Items;
use super::{File, Finding};

/// The modules of one crate: by their paths in it.
type Modules<'a> = BTreeMap<Vec<String>, (&'a File, Items)>;

/// Which modules a module names, and by which names.
type Arrows = BTreeMap<Vec<String>, BTreeMap<Vec<String>, BTreeSet<String>>>;

/// A re-export that leads to another that leads back is no code that compiles.
const DEPTH_MAX: usize = 16;

/// A finding for each circle.
pub(super) fn check(files: &[File]) -> Vec<Finding> {
    let mut crates: BTreeMap<&Utf8Path, Modules<'_>> = BTreeMap::new();
    for file in files.iter().filter(|file| file.is_rust()) {
        let Some((root, module)) = module_of(&file.path) else { continue };
        let Some(items) = Items::of(file.text()) else { continue };
        crates.entry(root).or_default().insert(module, (file, items));
    }
    crates.values().flat_map(circles).collect()
}

/// The `src` directory that a file is below, and its module's path in that crate.
fn module_of(path: &Utf8Path) -> Option<(&Utf8Path, Vec<String>)> {
    let root = path.ancestors().find(|above| above.file_name() == Some("src"))?;
    // Tests in files of their own.
    if path.file_stem()?.ends_with("_tests") || path.strip_prefix(root).ok()?.starts_with("bin") {
        return None;
    }
    let mut module: Vec<String> =
        path.strip_prefix(root).ok()?.with_extension("").components().map(|part| part.to_string()).collect();
    if matches!(module.last().map(String::as_str), Some("mod" | "lib" | "main")) {
        module.pop();
    }
    Some((root, module))
}

fn circles(modules: &Modules<'_>) -> Vec<Finding> {
    let arrows = arrows(modules);
    let mut findings = Vec::new();
    let mut left: BTreeSet<&Vec<String>> = arrows.keys().collect();
    while let Some(first) = left.pop_first() {
        let there = reached(first, |module| {
            arrows.get(module).into_iter().flat_map(BTreeMap::keys).cloned().collect()
        });
        let circle: BTreeSet<Vec<String>> = there
            .into_iter()
            .filter(|module| {
                let back = reached(module, |module| {
                    arrows.get(module).into_iter().flat_map(BTreeMap::keys).cloned().collect()
                });
                back.contains(first)
            })
            .collect();
        if circle.len() < 2 {
            continue;
        }
        left.retain(|module| !circle.contains(*module));
        let ties = circle.iter().flat_map(|module| {
            arrows.get(module).into_iter().flatten().filter(|(other, _)| circle.contains(*other)).map(
                move |(other, names)| {
                    let names: Vec<&str> = names.iter().map(String::as_str).collect();
                    format!("{} -> {} ({})", shown(module), shown(other), names.join(", "))
                },
            )
        });
        let ties: Vec<String> = ties.collect();
        let what = format!("files name each other in a circle: {}", ties.join("; "));
        findings.push(Finding::of(modules[first].0, what));
    }
    findings
}

fn shown(module: &[String]) -> String {
    if module.is_empty() { "crate".to_owned() } else { module.join("::") }
}

/// All that can be reached, the start only if it can be come back to.
fn reached(start: &Vec<String>, next: impl Fn(&Vec<String>) -> Vec<Vec<String>>) -> BTreeSet<Vec<String>> {
    let mut reached = BTreeSet::new();
    let mut left = next(start);
    while let Some(module) = left.pop() {
        if reached.insert(module.clone()) {
            left.extend(next(&module));
        }
    }
    reached
}

fn arrows(modules: &Modules<'_>) -> Arrows {
    let mut arrows = Arrows::new();
    for (module, (_, items)) in modules {
        let imported = items.imported.iter().map(|(_, path)| path);
        for path in imported.chain(&items.named) {
            let Some(target) = resolve(modules, module, path, 0) else { continue };
            let is_one_thing = target.starts_with(module) || module.starts_with(&target);
            if !is_one_thing {
                let name = path.last().cloned().unwrap_or_default();
                arrows.entry(module.clone()).or_default().entry(target).or_default().insert(name);
            }
        }
    }
    arrows
}

/// The module that defines what this path, written in that module, leads to; none if it leads out of the crate.
fn resolve(modules: &Modules<'_>, from: &[String], path: &[String], depth: usize) -> Option<Vec<String>> {
    let (first, mut rest) = path.split_first()?;
    let mut at = from.to_vec();
    match first.as_str() {
        "crate" => at.clear(),
        "self" => {}
        "super" => {
            at.pop()?;
        }
        name if modules.contains_key(&[from, &[name.to_owned()]].concat()) => rest = path,
        _ => return None,
    }
    while let Some((_, after)) = rest.split_first().filter(|(next, _)| *next == "super") {
        at.pop()?;
        rest = after;
    }
    for (number, name) in rest.iter().enumerate() {
        let child = [at.as_slice(), std::slice::from_ref(name)].concat();
        if modules.contains_key(&child) {
            at = child;
            continue;
        }
        let (_, items) = modules.get(&at)?;
        let import = items.imported.iter().find(|(imported, _)| imported == name);
        return match import {
            Some((_, import)) if !items.defined.contains(name) && depth < DEPTH_MAX => {
                let whole = [import.as_slice(), &rest[number + 1..]].concat();
                resolve(modules, &at, &whole, depth + 1)
            }
            _ => Some(at),
        };
    }
    Some(at)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn found(files: &[(&str, &str)]) -> Vec<String> {
        let files: Vec<File> =
            files.iter().map(|(path, text)| File::new(&format!("crates/x/src/{path}"), text)).collect();
        check(&files).into_iter().map(|finding| finding.what).collect()
    }

    #[test]
    fn two_files_that_name_each_other_are_a_circle() {
        let found = found(&[
            ("lib.rs", "mod a; mod b; pub use a::A;"),
            ("a.rs", "use crate::b::B; pub struct A(B);"),
            ("b.rs", "pub struct B; fn f(_: &crate::a::A) {}"),
        ]);
        assert_eq!(found, ["files name each other in a circle: a -> b (B); b -> a (A)"]);
    }

    #[test]
    fn a_name_is_followed_through_re_exports_to_the_file_that_defines_it() {
        let found = found(&[
            ("lib.rs", "mod a; mod b; pub use a::A;"),
            ("a.rs", "use crate::b::inner; pub struct A; fn f() { inner() }"),
            ("b/mod.rs", "mod c; pub use c::inner;"),
            ("b/c.rs", "use crate::A; pub fn inner() {}"),
        ]);
        assert_eq!(found.len(), 1, "{found:?}");
        assert!(found[0].contains("a -> b::c (inner); b::c -> a (A)"), "{found:?}");
    }

    #[test]
    fn a_module_and_those_inside_it_are_one_thing_and_tests_do_not_count() {
        let found = found(&[
            ("lib.rs", "mod a; mod b;"),
            ("a/mod.rs", "mod inside; use inside::I; pub struct A(I);"),
            ("a/inside.rs", "use super::A; pub struct I; fn f(_: &A) {}"),
            ("b.rs", "use crate::a::A; #[cfg(test)] mod tests { }"),
            ("a/b_tests.rs", "use crate::b::f;"),
        ]);
        assert_eq!(found, Vec::<String>::new());
    }
}
