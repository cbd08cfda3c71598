//! No unused dependencies: each costs every build, and says that something is used which is not.

use camino::{Utf8Path, Utf8PathBuf};

use super::{
    File, Finding, layout,
    source::{code_only, has_word},
};

/// Package and dependency that no source names, and why it is there.
const UNNAMED: &[(&str, &str, &str)] =
    &[("fuzz", "libfuzzer-sys", "for the programs of targets/, which only cargo-fuzz builds")];

pub(super) fn check(files: &[File]) -> Vec<Finding> {
    check_but_for(UNNAMED, files)
}

fn check_but_for(unnamed: &[(&str, &str, &str)], files: &[File]) -> Vec<Finding> {
    let manifests = files.iter().filter(|file| file.path.file_name() == Some("Cargo.toml"));
    manifests.flat_map(|manifest| unused(manifest, unnamed, files)).collect()
}

fn unused(manifest: &File, unnamed: &[(&str, &str, &str)], files: &[File]) -> Vec<Finding> {
    let Some(directory) = manifest.path.parent() else { return Vec::new() };
    let code = |folders: &[&str]| -> Vec<String> {
        let folders: Vec<Utf8PathBuf> = folders.iter().map(|folder| directory.join(folder)).collect();
        let is_inside = |path: &Utf8Path| folders.iter().any(|folder| path.starts_with(folder));
        let sources = files.iter().filter(|file| file.is_rust() && is_inside(&file.path));
        sources.map(|file| code_only(file.text())).collect()
    };
    let tables = [
        ("dependencies", code(&["src"]), "src/"),
        (
            "dev-dependencies",
            code(&["tests", "benches", "examples", "src"]),
            "tests/, benches/, examples/, src/",
        ),
        ("build-dependencies", code(&["build.rs"]), "build.rs"),
    ];
    let mut findings = Vec::new();
    for (table, sources, places) in &tables {
        for dependency in layout::table(manifest.text(), table).filter_map(name) {
            let word = dependency.replace('-', "_");
            let is_named = sources.iter().any(|code| has_word(code, &word));
            let is_excused = unnamed
                .iter()
                .any(|(package, excused, _)| directory.ends_with(package) && *excused == dependency);
            match (is_named, is_excused) {
                (false, false) => findings.push(Finding::of(
                    manifest,
                    format!("`{dependency}` of [{table}] is named nowhere in {places}: remove it"),
                )),
                (true, true) => findings.push(Finding::of(
                    manifest,
                    format!("`{dependency}` is named: remove it from UNNAMED of tidy/dependencies.rs"),
                )),
                _ => {}
            }
        }
    }
    findings
}

/// `serde` of `serde.workspace = true` and of `serde = { … }`.
fn name(line: &str) -> Option<&str> {
    let name = line.split(['=', '.']).next()?.trim().trim_matches('"');
    (line.contains('=') && !name.is_empty() && !name.starts_with(['{', '[', '#'])).then_some(name)
}

#[cfg(test)]
mod tests {
    use super::*;

    const MANIFEST: &str = "[package]\nname = \"x\"\n\n[dependencies]\n# Why.\nfs-err.workspace = true\n\
                            serde = { version = \"1\" }\n\n[dev-dependencies]\ninsta = \"1\"\n";

    fn found(unnamed: &[(&str, &str, &str)], sources: &[(&str, &str)]) -> Vec<String> {
        let mut files = vec![File::new("crates/x/Cargo.toml", MANIFEST)];
        files.extend(sources.iter().map(|(path, text)| File::new(path, text)));
        check_but_for(unnamed, &files).iter().map(|finding| finding.what.clone()).collect()
    }

    const LIB: (&str, &str) =
        ("crates/x/src/lib.rs", "use fs_err as fs;\n#[derive(serde::Serialize)]\nstruct A;");
    const TEST: (&str, &str) = ("crates/x/tests/a.rs", "insta::assert_snapshot!(a);");

    #[test]
    fn what_is_named_is_used() {
        assert!(found(&[], &[LIB, TEST]).is_empty());
    }

    #[test]
    fn a_dependency_that_no_source_names_is_found() {
        let lib = ("crates/x/src/lib.rs", "use fs_err as fs; // serde\nlet a = \"serde\";");
        assert_eq!(
            found(&[], &[lib, TEST]),
            ["`serde` of [dependencies] is named nowhere in src/: remove it"]
        );
        assert_eq!(found(&[], &[LIB]).len(), 1);
        assert_eq!(found(&[], &[("crates/y/src/lib.rs", LIB.1), TEST]).len(), 2);
    }

    #[test]
    fn a_dependency_of_the_library_that_only_tests_name_is_found() {
        let test = ("crates/x/tests/a.rs", "use serde::Serialize; insta::f(fs_err::g())");
        assert_eq!(found(&[], &[("crates/x/src/lib.rs", ""), test]).len(), 2);
    }

    #[test]
    fn an_exception_holds_while_nothing_names_it() {
        let unnamed = [("x", "insta", "switches a feature on")];
        assert!(found(&unnamed, &[LIB]).is_empty());
        assert_eq!(found(&unnamed, &[LIB, TEST]).len(), 1);
    }
}
