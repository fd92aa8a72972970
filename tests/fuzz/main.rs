//! The fuzz targets on stable Rust: each input of their corpora, and some thousands that are made of
//! them. What a fuzzer finds is put into `fuzz/corpus` and stays tried.

mod bodies;

use std::fs;
use std::panic::{self, AssertUnwindSafe};
use std::path::{Path, PathBuf};

use bodies::TARGETS;

fn corpus(target: &str) -> Vec<(PathBuf, Vec<u8>)> {
    let folder = Path::new(env!("CARGO_MANIFEST_DIR")).join("fuzz/corpus").join(target);
    let entries = fs::read_dir(&folder).unwrap_or_else(|error| panic!("{folder:?}: {error}"));
    let mut files: Vec<_> = entries.map(|entry| entry.unwrap().path()).collect();
    files.sort();
    files.into_iter().map(|file| (file.clone(), fs::read(file).unwrap())).collect()
}

#[test]
fn every_input_of_the_corpora_holds() {
    for (target, body) in TARGETS {
        let inputs = corpus(target);
        assert!(inputs.len() >= 3, "{target} has {} inputs", inputs.len());
        for (file, input) in inputs {
            let tried = panic::catch_unwind(AssertUnwindSafe(|| body(&input)));
            assert!(tried.is_ok(), "{target} fails on {}", file.display());
        }
    }
}

/// As a fuzzer does, without its feedback: bytes changed, doubled, left out and joined.
#[test]
fn what_is_made_of_the_corpora_holds() {
    let mut state = 0_u64;
    let mut number = move |below: usize| {
        state = state.wrapping_add(0x9E37_79B9_7F4A_7C15);
        let mixed = (state ^ (state >> 30)).wrapping_mul(0xBF58_476D_1CE4_E5B9);
        (mixed ^ (mixed >> 27)) as usize % below.max(1)
    };
    for (target, body) in TARGETS {
        let inputs = corpus(target);
        for _ in 0..20_000 {
            let mut input = inputs[number(inputs.len())].1.clone();
            for _ in 0..=number(4) {
                let (at, to) = (number(input.len()), number(input.len()));
                let (from, until) = (at.min(to), at.max(to));
                match number(5) {
                    0 if !input.is_empty() => input[at] = number(256) as u8,
                    1 => input.insert(at, number(256) as u8),
                    2 => drop(input.drain(from..until)),
                    3 => {
                        let doubled = input[from..until].to_vec();
                        input.splice(at..at, doubled);
                    }
                    _ => input.extend_from_slice(&inputs[number(inputs.len())].1),
                }
            }
            let tried = panic::catch_unwind(AssertUnwindSafe(|| body(&input)));
            assert!(tried.is_ok(), "{target} fails on \"{}\"", input.escape_ascii());
        }
    }
}
