//! The list of deliberate bugs fits the code: `make mutants` finds each text, and only once.
//!
//! Whether the tests see the bugs takes a build for each and is not asked here; docs/mutants.md says
//! what came of it last.

use std::fs;
use std::path::Path;

#[test]
fn each_text_that_a_mutant_replaces_stands_in_its_file_once() {
    let root = Path::new(env!("CARGO_MANIFEST_DIR"));
    let list = fs::read_to_string(root.join("tests/mutants/list.txt")).unwrap();
    let mut mutants = 0;
    let mut wrong = Vec::new();
    for part in list.split("\n= ").skip(1) {
        let name = part.lines().next().unwrap_or_default();
        let said = |key| part.lines().find_map(|line| line.strip_prefix(key));
        let lines = |mark| -> Vec<&str> {
            part.lines().skip(1).filter_map(|line| line.strip_prefix(mark)).collect()
        };
        let (file, old, new) = (said("file "), lines('-').join("\n"), lines('+').join("\n"));
        let text = fs::read_to_string(root.join(file.unwrap_or_default())).unwrap_or_default();
        let count = if old.is_empty() { 0 } else { text.matches(&old).count() };
        if count != 1 || old == new || said("seen by ").is_none() {
            wrong.push(format!("{name}: its text stands in {file:?} {count} times"));
        }
        mutants += 1;
    }
    assert!(wrong.is_empty(), "bring tests/mutants/list.txt up to date:\n{}", wrong.join("\n"));
    assert!(mutants >= 25, "only {mutants} mutants");
}
