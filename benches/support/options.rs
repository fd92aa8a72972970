//! The options of a bench: `--name value`, or `--name` alone. cargo adds `--bench`, and without it
//! (when tests are run) everything is only tried.

use std::env;

pub(crate) struct Options(Vec<String>);

impl Options {
    pub(crate) fn read() -> Self {
        Self(env::args().skip(1).collect())
    }

    pub(crate) fn has(&self, name: &str) -> bool {
        self.0.iter().any(|word| word == name)
    }

    pub(crate) fn value(&self, name: &str) -> Option<&str> {
        let place = self.0.iter().position(|word| word == name)?;
        Some(self.0.get(place + 1).unwrap_or_else(|| panic!("{name} needs a value")))
    }

    pub(crate) fn number<N: std::str::FromStr>(&self, name: &str, default: N) -> N {
        self.value(name).map_or(default, |value| {
            value.parse().unwrap_or_else(|_| panic!("{name}: {value} is no number"))
        })
    }

    /// What stands behind `--serve`.
    pub(crate) fn serve(&self) -> Option<&[String]> {
        let place = self.0.iter().position(|word| word == "--serve")?;
        Some(&self.0[place + 1..])
    }

    /// Whether to measure, and not only to try.
    pub(crate) fn measures(&self) -> bool {
        self.has("--bench")
    }
}
