//! The sources of this crate, and who names whom in them.

use std::collections::{BTreeMap, BTreeSet};
use std::fmt::Write;
use std::fs;
use std::path::{Path, PathBuf};

use crate::text::{find_words, paths, without_tests, without_text};

pub(crate) struct House {
    pub(crate) library: Vec<Source>,
    pub(crate) binary: Vec<Source>,
    /// Tests, examples and benches.
    others: Vec<Source>,
    modules: BTreeSet<String>,
    /// In which module stands what `lib.rs` shows at the root.
    facade: BTreeMap<String, String>,
}

pub(crate) struct Source {
    pub(crate) path: PathBuf,
    /// `connection::calls`; empty for the root.
    pub(crate) module: String,
    pub(crate) text: String,
    /// `text` without comments, strings and test modules, line by line the same.
    pub(crate) code: String,
}

impl House {
    pub(crate) fn read() -> Self {
        let (mut library, mut binary, mut others) = (Vec::new(), Vec::new(), Vec::new());
        for path in files(&root().join("src"), "rs") {
            let within = path.strip_prefix(root().join("src")).unwrap();
            if within.starts_with("bin") {
                binary.push(Source::read(&path, String::new()));
            } else {
                library.push(Source::read(&path, module_of(within)));
            }
        }
        for folder in ["tests", "examples", "benches"] {
            for path in files(&root().join(folder), "rs") {
                others.push(Source::read(&path, String::new()));
            }
        }
        let modules = library.iter().map(|source| source.module.clone()).collect();
        let facade = library
            .iter()
            .filter(|source| source.module.is_empty())
            .flat_map(|source| paths(&source.code, "pub use "))
            .filter_map(|(_, mut path)| Some((path.pop()?, path.join("::"))))
            .collect();
        Self { library, binary, others, modules, facade }
    }

    pub(crate) fn all(&self) -> impl Iterator<Item = &Source> {
        self.library.iter().chain(&self.binary).chain(&self.others)
    }

    /// The modules of this library that `source` names, each with its line.
    pub(crate) fn imports(&self, source: &Source) -> Vec<(usize, String)> {
        let absolute = paths(&source.code, "crate::");
        let relative = paths(&source.code, "super::").into_iter().map(|(line, path)| {
            let mut from: Vec<_> = source.module.split("::").map(String::from).collect();
            from.pop();
            let ups = path.iter().take_while(|name| *name == "super").count();
            from.truncate(from.len().saturating_sub(ups));
            from.extend(path.into_iter().skip(ups));
            (line, from)
        });
        absolute
            .into_iter()
            .chain(relative)
            .filter_map(|(line, path)| Some((line, self.module_that_has(&path)?)))
            .collect()
    }

    fn module_that_has(&self, path: &[String]) -> Option<String> {
        let longest = (1..=path.len()).rev().map(|length| path[..length].join("::"));
        let module = longest.into_iter().find(|module| self.modules.contains(module));
        module.or_else(|| self.facade.get(path.first()?).cloned())
    }
}

impl Source {
    pub(crate) fn read(path: &Path, module: String) -> Self {
        let text = fs::read_to_string(path).unwrap();
        let code = without_tests(&without_text(&text));
        let path = path.strip_prefix(root()).unwrap().to_owned();
        Self { path, module, text, code }
    }
}

#[derive(Default)]
pub(crate) struct Complaints(String);

impl Complaints {
    pub(crate) fn add(&mut self, source: &Source, line: usize, text: &str) {
        let _ = writeln!(self.0, "{}:{line}: {text}", source.path.display());
    }

    pub(crate) fn add_each(&mut self, source: &Source, word: &str, instead: &str) {
        for line in find_words(&source.code, word) {
            self.add(source, line, &format!("`{word}`: {instead}"));
        }
    }

    #[track_caller]
    pub(crate) fn judge(self) {
        assert!(self.0.is_empty(), "the rules of the house are broken:\n{}", self.0);
    }
}

pub(crate) fn root() -> &'static Path {
    Path::new(env!("CARGO_MANIFEST_DIR"))
}

pub(crate) fn files(folder: &Path, kind: &str) -> Vec<PathBuf> {
    let mut found = Vec::new();
    let Ok(entries) = fs::read_dir(folder) else { return found };
    for path in entries.map(|entry| entry.unwrap().path()) {
        if path.is_dir() {
            found.extend(files(&path, kind));
        } else if path.extension().is_some_and(|extension| extension == kind) {
            found.push(path);
        }
    }
    found.sort();
    found
}

pub(crate) fn pages() -> Vec<PathBuf> {
    let mut pages: Vec<_> = ["README.md", "CHANGELOG.md", "SECURITY.md"].map(Into::into).into();
    for folder in ["docs", "docs/decisions"] {
        let entries = fs::read_dir(root().join(folder)).unwrap();
        pages.extend(entries.map(|entry| entry.unwrap().path()));
    }
    pages.retain(|page: &PathBuf| page.extension().is_some_and(|extension| extension == "md"));
    pages.iter().map(|page| root().join(page)).collect()
}

pub(crate) fn module_of(file: &Path) -> String {
    let names: Vec<_> =
        file.with_extension("").iter().map(|name| name.to_str().unwrap().to_owned()).collect();
    match names.split_last() {
        Some((last, folders)) if ["mod", "lib"].contains(&last.as_str()) => folders.join("::"),
        _ => names.join("::"),
    }
}

pub(crate) fn is_within(module: &str, parent: &str) -> bool {
    module.strip_prefix(parent).is_some_and(|rest| rest.is_empty() || rest.starts_with("::"))
}

/// Names and lines of one section of the manifest.
pub(crate) fn dependencies(manifest: &str, section: &str) -> Vec<(String, String)> {
    manifest
        .lines()
        .skip_while(|line| *line != section)
        .skip(1)
        .take_while(|line| !line.starts_with('['))
        .filter(|line| !line.starts_with('#'))
        .filter_map(|line| Some((line.split_once(" =")?.0.to_owned(), line.to_owned())))
        .collect()
}

#[test]
fn a_name_of_the_facade_and_a_parent_lead_to_their_modules() {
    let house = House {
        library: Vec::new(),
        binary: Vec::new(),
        others: Vec::new(),
        modules: ["connection", "connection::calls", "net::address", "net"]
            .map(String::from)
            .into(),
        facade: BTreeMap::from([("Address".into(), "net::address".into())]),
    };
    let source = Source {
        path: "src/connection/calls.rs".into(),
        module: "connection::calls".into(),
        text: String::new(),
        code: "use crate::Address;\nuse super::Connection;\npub(super) fn x() {}".into(),
    };
    let expected = [(1, "net::address".to_owned()), (2, "connection".to_owned())];
    assert_eq!(house.imports(&source), expected);
}
