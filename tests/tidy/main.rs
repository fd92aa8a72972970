//! The rules of the house, as a test.
//!
//! The code is built in floors, and a floor knows nothing of those above it; `docs/architecture.md`
//! has the picture and the reasons. A compiler does not see such rules and reviewers tire of them,
//! so they are read from the text here. Each complaint says what to write instead.
//!
//! It is a reader of text, not a compiler: it sees paths that begin with `crate::` or `super::`,
//! words, and macro names, after comments, strings and test modules are blanked out.

mod house;
mod text;

use std::fmt::Write;
use std::fs;

use house::{Complaints, House, dependencies, files, is_within, pages, root};
use text::paths;

/// On which floor a module stands; a module inside of it stands there, too.
const FLOORS: &[(&str, u32)] = &[
    // Bytes.
    ("moment", 0),
    ("buffer", 0),
    ("codec", 0),
    // One connection; time is a value.
    ("handler", 1),
    ("limits", 1),
    ("lent", 1),
    ("connection", 1),
    ("datagram", 1),
    // Moving bytes, and what a way of waiting must offer.
    ("sys", 2),
    ("net", 2),
    ("kernel", 2),
    ("transfer", 2),
    ("timers", 2),
    ("counters", 2),
    ("stop", 2),
    ("mailbox", 2),
    ("local", 2),
    ("trace", 2),
    ("witness", 2),
    ("client", 2),
    // Ways of waiting.
    ("front", 3),
    // The door, and the world for tests.
    ("error", 4),
    ("server", 4),
    ("reactor", 4),
    ("watch", 4),
    ("sim", 4),
    // What is served.
    ("services", 5),
    // And what measures it.
    ("load", 5),
];

/// The ways of waiting themselves: what two of them share stands in `front` beside them.
const MODELS: &[&str] = &["sequential", "threads", "pool", "poll", "epoll"];

/// What the library needs without features; more is a decision, and has a line in the docs.
const LEAN: &[&str] = &["libc", "log", "memchr", "mio", "slab", "socket2"];

/// Longer files have two reasons to exist.
const LONGEST_FILE: usize = 700;

#[test]
fn a_floor_imports_nothing_above_it() {
    let house = House::read();
    let mut complaints = Complaints::default();
    for source in &house.library {
        let own = floor(&source.module);
        for (line, path) in house.imports(source) {
            let (Some(own), Some(other)) = (own, floor(&path)) else { continue };
            if other > own {
                complaints.add(
                    source,
                    line,
                    &format!(
                        "floor {own} names crate::{path} of floor {other}: hand it in as an \
                         argument, or move what both need to a floor below"
                    ),
                );
            }
        }
    }
    complaints.judge();
}

#[test]
fn every_module_has_its_floor() {
    let house = House::read();
    let mut complaints = Complaints::default();
    for source in house.library.iter().filter(|source| !source.module.is_empty()) {
        if floor(&source.module).is_none() {
            complaints.add(source, 1, "give it a floor in the table of tests/tidy/main.rs");
        }
    }
    complaints.judge();
}

#[test]
fn a_way_of_waiting_names_no_other() {
    let house = House::read();
    let mut complaints = Complaints::default();
    for source in &house.library {
        let Some(own) = model(&source.module) else { continue };
        for (line, path) in house.imports(source) {
            if model(&path).is_some_and(|other| other != own) {
                complaints.add(
                    source,
                    line,
                    &format!("names crate::{path}: what two models share belongs to front/"),
                );
            }
        }
    }
    complaints.judge();
}

#[test]
fn a_service_names_handlers_and_codecs_only() {
    let house = House::read();
    let mut complaints = Complaints::default();
    for source in house.library.iter().filter(|source| is_within(&source.module, "services")) {
        for (line, path) in house.imports(source) {
            if floor(&path).is_some_and(|floor| floor > 1) && !is_within(&path, "services") {
                complaints.add(
                    source,
                    line,
                    &format!(
                        "names crate::{path}: a service knows handler, exchange and codecs; what \
                         else it needs, it is given as a function"
                    ),
                );
            }
        }
    }
    complaints.judge();
}

#[test]
fn the_ruler_shares_no_code_with_what_it_measures() {
    let house = House::read();
    let mut complaints = Complaints::default();
    let may = ["load", "net::address", "codec", "moment", "buffer", "sys"];
    for source in house.library.iter().filter(|source| is_within(&source.module, "load")) {
        for (line, path) in house.imports(source) {
            if !may.iter().any(|may| is_within(&path, may)) {
                let text = format!(
                    "names crate::{path}: a mistake that both ends share cancels out; write what \
                     a client needs of it in src/load/"
                );
                complaints.add(source, line, &text);
            }
        }
    }
    complaints.judge();
}

#[test]
fn bytes_and_connections_know_no_socket_clock_or_log() {
    let house = House::read();
    let mut complaints = Complaints::default();
    for source in &house.library {
        // The load generator is the client: it has to.
        let is_load = is_within(&source.module, "load");
        if !matches!(floor(&source.module), Some(0 | 1 | 5)) || is_load {
            continue;
        }
        for (word, instead) in [
            ("mio::", "hand the bytes in: front ends own sockets"),
            ("socket2::", "hand the bytes in: front ends own sockets"),
            ("libc::", "put the call into src/sys.rs and what it found into an argument"),
            ("slab::", "the front end owns the slots"),
            ("log::", "return a value that says it, as CloseReason does; the front end logs"),
            ("Instant", "take a Moment as an argument"),
            ("SystemTime", "take the time as an argument, or a function that tells it"),
            ("std::thread", "the front end owns the threads"),
            ("std::fs", "take the bytes as an argument"),
            ("std::env", "take the value as an argument"),
        ] {
            complaints.add_each(source, word, instead);
        }
        for (line, path) in paths(&source.code, "std::net::") {
            let is_a_value = ["SocketAddr", "IpAddr", "Ipv4Addr", "Ipv6Addr"]
                .iter()
                .any(|value| path.first().is_some_and(|name| name.starts_with(value)));
            if !is_a_value {
                let text = format!("names std::net::{}: hand the bytes in", path.join("::"));
                complaints.add(source, line, &text);
            }
        }
    }
    complaints.judge();
}

#[test]
fn unsafe_code_stands_in_sys_alone() {
    let house = House::read();
    let mut complaints = Complaints::default();
    for source in house.library.iter().chain(&house.binary) {
        if !is_within(&source.module, "sys") {
            let instead = "put the call into src/sys.rs or beneath it, with its SAFETY comment";
            complaints.add_each(source, "unsafe", instead);
            complaints.add_each(source, "allow(unsafe_code)", instead);
        }
    }
    complaints.judge();
}

#[test]
fn nothing_that_a_peer_does_can_panic_or_print() {
    let house = House::read();
    let mut complaints = Complaints::default();
    for source in &house.library {
        // In the simulated world a panic is how a test fails.
        if is_within(&source.module, "sim") {
            continue;
        }
        for (word, instead) in [
            (".unwrap()", "match it; what cannot happen is an assert with its sentence"),
            (".expect(", "match it; what cannot happen is an assert with its sentence"),
            (".unwrap_err(", "match it"),
            ("panic!", "return a CloseReason, an Error, or assert what a caller may get wrong"),
            ("unreachable!", "make the state impossible, or assert it"),
            ("todo!", "finish it, or leave it out"),
            ("unimplemented!", "finish it, or leave it out"),
            ("dbg!", "leave it out"),
            ("print!", "log it, or return it"),
            ("println!", "log it, or return it"),
            ("eprint!", "log it, or return it"),
            ("eprintln!", "log it, or return it"),
            ("process::exit", "return an Error; the program decides"),
            ("process::abort", "return an Error; the program decides"),
            ("panic::set_hook", "hooks belong to the program"),
            ("thread_local!", "own it where it is used; the library has no globals"),
            ("static", "own it where it is used; the library has no globals"),
        ] {
            complaints.add_each(source, word, instead);
        }
    }
    complaints.judge();
}

#[test]
fn threads_are_made_by_the_models_that_promise_them() {
    let house = House::read();
    let mut complaints = Complaints::default();
    for source in &house.library {
        let may =
            ["front::threads", "front::pool", "front::reactors", "front::datagrams", "server"];
        if may.contains(&source.module.as_str()) {
            continue;
        }
        for word in ["thread::spawn", "thread::scope", "thread::Builder"] {
            complaints.add_each(source, word, "a hidden thread: let front/ or the caller make it");
        }
    }
    complaints.judge();
}

#[test]
fn the_binary_sees_the_library_as_a_stranger_does() {
    let house = House::read();
    let mut complaints = Complaints::default();
    for source in &house.binary {
        for word in ["#[path", "include!"] {
            let instead = "make it public in the library, where every embedder can use it";
            complaints.add_each(source, word, instead);
        }
    }
    for source in &house.library {
        let instead = "public is for everybody, or it is not public";
        complaints.add_each(source, "doc(hidden)", instead);
    }
    complaints.judge();
}

#[test]
fn no_file_has_two_reasons_to_exist() {
    let house = House::read();
    let mut complaints = Complaints::default();
    for source in house.all() {
        let lines = source.text.lines().count();
        if lines > LONGEST_FILE {
            let text = format!("{lines} lines: divide it by what one looks for");
            complaints.add(source, lines, &text);
        }
    }
    complaints.judge();
}

#[test]
fn every_file_begins_with_why_it_exists() {
    let house = House::read();
    let mut complaints = Complaints::default();
    for source in house.all().filter(|source| !source.text.starts_with("//!")) {
        complaints.add(source, 1, "begin with a //! that says why it exists");
    }
    complaints.judge();
}

#[test]
fn nothing_is_left_for_later_in_a_comment() {
    let house = House::read();
    let mut complaints = Complaints::default();
    for source in house.all() {
        // In two pieces, since this file is read, too.
        for marker in [concat!("TO", "DO"), concat!("FIX", "ME"), concat!("XX", "X:")] {
            for (index, line) in source.text.lines().enumerate() {
                if line.contains(marker) {
                    complaints.add(source, index + 1, "do it, or open an issue");
                }
            }
        }
    }
    complaints.judge();
}

#[test]
fn without_features_the_library_stays_lean() {
    let manifest = fs::read_to_string(root().join("Cargo.toml")).unwrap();
    let needed: Vec<_> = dependencies(&manifest, "[dependencies]")
        .into_iter()
        .filter(|(_, line)| !line.contains("optional = true"))
        .map(|(name, _)| name)
        .collect();
    assert_eq!(needed, LEAN, "make it optional, or say why not in docs/dependencies.md and here");
}

#[test]
fn each_dependency_has_its_line_in_the_docs() {
    let manifest = fs::read_to_string(root().join("Cargo.toml")).unwrap();
    let reasons = fs::read_to_string(root().join("docs/dependencies.md")).unwrap();
    let mut names = dependencies(&manifest, "[dependencies]");
    names.extend(dependencies(&manifest, "[dev-dependencies]"));
    names.extend(dependencies(&manifest, "[target.'cfg(loom)'.dependencies]"));
    names.extend(dependencies(&manifest, "[target.'cfg(not(loom))'.dev-dependencies]"));
    let missing: Vec<_> = names
        .into_iter()
        .map(|(name, _)| name)
        .filter(|name| !reasons.contains(&format!("| `{name}` |")))
        .collect();
    assert!(missing.is_empty(), "say in docs/dependencies.md why these are here: {missing:?}");
}

#[test]
fn a_link_in_the_docs_leads_somewhere() {
    let mut dead = String::new();
    for page in pages() {
        let text = fs::read_to_string(&page).unwrap();
        for link in text.split("](").skip(1).filter_map(|rest| rest.split(')').next()) {
            let target = link.split('#').next().unwrap_or("");
            if target.is_empty() || target.contains("://") {
                continue;
            }
            if !page.parent().unwrap().join(target).exists() {
                let _ = writeln!(dead, "{}: {link}", page.display());
            }
        }
    }
    assert!(dead.is_empty(), "these lead nowhere:\n{dead}");
}

#[test]
fn a_test_that_the_docs_name_exists() {
    let house = House::read();
    let python: Vec<_> = files(&root().join("tests"), "py")
        .into_iter()
        .map(|path| fs::read_to_string(path).unwrap())
        .collect();
    let mut missing = String::new();
    for page in pages() {
        let text = fs::read_to_string(&page).unwrap();
        // What stands in backquotes and has many words is a claim, and so a test.
        for name in text.split('`').skip(1).step_by(2) {
            let is_claim = name.matches('_').count() > 3
                && name.chars().all(|c| c.is_ascii_lowercase() || c.is_ascii_digit() || c == '_');
            let in_rust = format!("fn {name}(");
            let in_python = format!("def {name}(");
            let exists = house.all().any(|source| source.text.contains(&in_rust))
                || python.iter().any(|text| text.contains(&in_python));
            if is_claim && !exists {
                let _ = writeln!(missing, "{}: {name}", page.display());
            }
        }
    }
    assert!(missing.is_empty(), "these tests are not there:\n{missing}");
}

#[test]
fn each_system_of_the_slides_has_its_row_with_a_test() {
    let page = fs::read_to_string(root().join("docs/slides.md")).unwrap();
    for number in 1..=38 {
        let start = format!("| {number} | ");
        let row = page.lines().find(|line| line.starts_with(&start));
        let cells: Vec<_> = row.unwrap_or_else(|| panic!("row {number}")).split(" | ").collect();
        let is_filled = |cell: &&str| cell.trim_matches(['|', ' ']).len() > 2;
        assert_eq!(cells.iter().skip(1).filter(|cell| is_filled(cell)).count(), 4, "{cells:?}");
        assert!(cells[4].contains('_'), "{cells:?}");
    }
}

#[test]
fn what_a_story_of_the_slides_quotes_stands_in_the_sources() {
    let without_margins =
        |text: &str| text.lines().map(|line| line.trim().to_owned() + "\n").collect::<String>();
    let sources: String =
        House::read().library.iter().map(|source| without_margins(&source.text)).collect();
    let page = fs::read_to_string(root().join("docs/slides.md")).unwrap();
    let quoted = page.split("```rust\n").skip(1).filter_map(|rest| rest.split("```").next());
    let mut stale = quoted.filter(|lines| !sources.contains(&without_margins(lines)));
    assert_eq!(stale.next(), None, "quote it as it stands now");
}

fn floor(module: &str) -> Option<u32> {
    FLOORS.iter().find(|(name, _)| is_within(module, name)).map(|&(_, floor)| floor)
}

fn model(module: &str) -> Option<&str> {
    let name = module.strip_prefix("front::")?.split("::").next()?;
    MODELS.contains(&name).then_some(name)
}
