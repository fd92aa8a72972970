//! Reading Rust as text: what is code in it, which words, which paths.

/// The lines on which `word` stands as a whole word. A lifetime is none.
pub(crate) fn find_words<'a>(code: &'a str, word: &'a str) -> impl Iterator<Item = usize> + 'a {
    let first = word.starts_with(is_name);
    let last = word.ends_with(is_name);
    code.match_indices(word).filter_map(move |(index, _)| {
        let before = code[..index].chars().next_back();
        let after = code[index + word.len()..].chars().next();
        let begins = !first || !before.is_some_and(|c| is_name(c) || c == '\'');
        let ends = !last || !after.is_some_and(is_name);
        (begins && ends).then(|| line_of(code, index))
    })
}

pub(crate) fn is_name(character: char) -> bool {
    character.is_alphanumeric() || character == '_'
}

pub(crate) fn line_of(code: &str, index: usize) -> usize {
    1 + code[..index].matches('\n').count()
}

/// The paths that begin with `prefix`, which is left off, with their lines.
pub(crate) fn paths(code: &str, prefix: &str) -> Vec<(usize, Vec<String>)> {
    let mut found = Vec::new();
    for (index, _) in code.match_indices(prefix) {
        let before = code[..index].chars().next_back();
        if before.is_some_and(|c| is_name(c) || c == ':') {
            continue;
        }
        let mut rest = &code[index + prefix.len()..];
        let mut tails = Vec::new();
        read_path(&mut rest, &mut Vec::new(), &mut tails);
        found.extend(tails.into_iter().map(|path| (line_of(code, index), path)));
    }
    found
}

/// Reads one path, or a tree of them in braces.
pub(crate) fn read_path(rest: &mut &str, path: &mut Vec<String>, found: &mut Vec<Vec<String>>) {
    *rest = rest.trim_start();
    if let Some(inside) = rest.strip_prefix('{') {
        *rest = inside;
        while !rest.trim_start().starts_with('}') && !rest.is_empty() {
            let before = rest.len();
            read_path(rest, &mut path.clone(), found);
            // What is not a path ("as X", a comma) is skipped up to the next one.
            let skipped = rest.find([',', '}']).unwrap_or(rest.len());
            *rest = &rest[skipped..];
            *rest = rest.strip_prefix(',').unwrap_or(rest);
            if rest.len() == before {
                return;
            }
        }
        *rest = rest.trim_start().strip_prefix('}').unwrap_or(rest);
        return;
    }
    let length = rest.find(|c: char| !is_name(c)).unwrap_or(rest.len());
    path.push(rest[..length].to_owned());
    *rest = &rest[length..];
    match rest.strip_prefix("::") {
        Some(more) if more.starts_with(|c: char| is_name(c) || c == '{') => {
            *rest = more;
            read_path(rest, path, found);
        }
        _ => found.push(path.clone()),
    }
}

/// `text` with its comments and the insides of its strings blanked out.
pub(crate) fn without_text(text: &str) -> String {
    let mut code = String::with_capacity(text.len());
    let mut rest = text;
    while let Some(first) = rest.chars().next() {
        let length = match first {
            '/' if rest.starts_with("//") => rest.find('\n').unwrap_or(rest.len()),
            '/' if rest.starts_with("/*") => block_comment(rest),
            'r' if is_raw_string(&code, rest) => raw_string(rest),
            '"' => quoted(rest, '"'),
            '\'' if is_character(rest) => quoted(rest, '\''),
            _ => {
                code.push(first);
                rest = &rest[first.len_utf8()..];
                continue;
            }
        };
        code.extend(rest[..length].chars().map(|c| if c == '\n' { c } else { ' ' }));
        rest = &rest[length..];
    }
    code
}

pub(crate) fn block_comment(rest: &str) -> usize {
    let mut depth = 0;
    let mut index = 0;
    while index < rest.len() {
        if rest[index..].starts_with("/*") {
            (depth, index) = (depth + 1, index + 2);
        } else if rest[index..].starts_with("*/") {
            (depth, index) = (depth - 1, index + 2);
            if depth == 0 {
                return index;
            }
        } else {
            index += rest[index..].chars().next().map_or(1, char::len_utf8);
        }
    }
    rest.len()
}

pub(crate) fn is_raw_string(code: &str, rest: &str) -> bool {
    let hashes = rest[1..].trim_start_matches('#');
    // The b of br"" is no name before it.
    let before = code.strip_suffix('b').unwrap_or(code).chars().next_back();
    hashes.starts_with('"') && !before.is_some_and(is_name)
}

pub(crate) fn raw_string(rest: &str) -> usize {
    let hashes = rest[1..].find('"').unwrap_or(0);
    let end = format!("\"{}", "#".repeat(hashes));
    let inside = 1 + hashes + 1;
    rest[inside..].find(&end).map_or(rest.len(), |at| inside + at + end.len())
}

pub(crate) fn quoted(rest: &str, quote: char) -> usize {
    let mut escaped = false;
    for (index, character) in rest.char_indices().skip(1) {
        match character {
            _ if escaped => escaped = false,
            '\\' => escaped = true,
            _ if character == quote => return index + 1,
            _ => {}
        }
    }
    rest.len()
}

/// A character, and not a lifetime.
pub(crate) fn is_character(rest: &str) -> bool {
    let mut characters = rest.chars().skip(1);
    match characters.next() {
        Some('\\') => true,
        Some(_) => characters.next() == Some('\''),
        None => false,
    }
}

/// `code` with the items behind `#[cfg(test)]`, and those of model checkers, blanked out.
pub(crate) fn without_tests(code: &str) -> String {
    let mut code = code.to_owned();
    let marks = ["#[cfg(test)]", "#[cfg(all(test, loom))]"];
    while let Some(start) = marks.iter().filter_map(|mark| code.find(mark)).min() {
        let mut depth = 0;
        let mut end = code.len();
        for (index, character) in code[start..].char_indices() {
            match character {
                '{' => depth += 1,
                '}' => depth -= 1,
                _ => {}
            }
            if depth == 0 && (character == '}' || character == ';') {
                end = start + index + character.len_utf8();
                break;
            }
        }
        let blank: String =
            code[start..end].chars().map(|c| if c == '\n' { c } else { ' ' }).collect();
        code.replace_range(start..end, &blank);
    }
    code
}

#[test]
fn comments_strings_and_tests_are_not_code() {
    let text = r##"
        // a panic!
        /* one /* in another */ panic! */
        let a = "panic! \" panic!"; let b = r#"panic! " panic!"#; let c = b"panic!";
        let d = '"'; fn e<'a>(f: &'a str) {} let g = '\''; let h = "panic!";
        #[cfg(test)]
        mod tests { fn i() { panic!() } }
        fn j() { stays() }
    "##;
    let code = without_tests(&without_text(text));
    assert!(!code.contains("panic"), "{code}");
    assert!(code.contains("fn e<'a>(f: &'a str)") && code.contains("stays()"), "{code}");
    assert_eq!(code.lines().count(), text.lines().count());
}

#[test]
fn every_path_of_a_use_line_is_found() {
    let code = "use crate::a::{self, b::{C, D as E}, f};\nlet x = crate::g::h::<I>();";
    let found: Vec<_> =
        paths(code, "crate::").into_iter().map(|(line, path)| (line, path.join("::"))).collect();
    let expected =
        [(1, "a::self"), (1, "a::b::C"), (1, "a::b::D"), (1, "a::f"), (2, "g::h")].map(own);
    assert_eq!(found, expected);

    fn own((line, path): (usize, &str)) -> (usize, String) {
        (line, path.to_owned())
    }
}

#[test]
fn a_word_is_found_as_a_word_only() {
    let lines = |code, word| find_words(code, word).collect::<Vec<_>>();
    assert_eq!(lines("a\nInstant::now()", "Instant"), [2]);
    assert_eq!(lines("Instantly, NoInstant, unsafe_code", "Instant"), []);
    assert_eq!(lines("unsafe_code", "unsafe"), []);
    assert_eq!(lines("x: &'static str", "static"), []);
    assert_eq!(lines("static X: u8 = 0;", "static"), [1]);
    assert_eq!(lines("eprintln!()", "println!"), []);
    assert_eq!(lines("a.unwrap()", ".unwrap()"), [1]);
}
