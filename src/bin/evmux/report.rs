//! The report: one HTML file that explains a comparison to who has only that file. No network, no
//! JavaScript; in light and dark, on a phone and on paper.
//!
//! `evmux report` makes it again, of the results of several runs or of the histogram logs of
//! several load generators.

mod chart;
mod page;
pub(crate) mod table;

use std::collections::BTreeMap;
use std::fs;
use std::path::{Path, PathBuf};

use evmux::load::{Histogram, logs};

use crate::arguments::ReportOptions;
use crate::compare::cannot_write;
use crate::failure::Failure;
use crate::output::Output;
use crate::results::{Results, Scenario, Spread};

/// Merges results or logs, and renders them.
pub(crate) fn report(options: &ReportOptions) -> Result<(), Failure> {
    let is_log = |path: &PathBuf| path.extension().is_some_and(|extension| extension == "hlog");
    fs::create_dir_all(&options.out).map_err(|why| cannot_write(&options.out, why))?;
    let text = match options.files.iter().filter(|path| is_log(path)).count() {
        0 => merge_results(&options.files, &options.out)?,
        count if count == options.files.len() => merge_logs(&options.files, &options.out)?,
        _ => {
            return Err(Failure::Run(
                "cannot merge logs and results: they say different things; name files of one kind"
                    .into(),
            ));
        }
    };
    let _ = Output::new()?.write(text.as_bytes())?;
    Ok(())
}

fn cannot_read(path: &Path, why: impl std::fmt::Display) -> Failure {
    Failure::new(format!("cannot read {}", path.display()), why)
}

fn merge_results(files: &[PathBuf], out: &Path) -> Result<String, Failure> {
    let mut merged: Option<Results> = None;
    for path in files {
        let results = Results::read(path).map_err(|why| cannot_read(path, why))?;
        match &mut merged {
            None => merged = Some(results),
            Some(sum) => sum
                .add(results)
                .map_err(|why| Failure::new(format!("cannot merge {}", path.display()), why))?,
        }
    }
    let Some(results) = merged else { return Ok(String::new()) };
    let path = out.join("results.json");
    results.write(&path).map_err(|why| cannot_write(&path, why))?;
    let path = out.join("results.csv");
    results.write_csv(&path).map_err(|why| cannot_write(&path, why))?;
    write(&results, out)?;
    Ok(format!("{}\nreport: {}\n", finding(&results), out.join(REPORT).display()))
}

fn merge_logs(files: &[PathBuf], out: &Path) -> Result<String, Failure> {
    let mut sums: BTreeMap<String, Histogram<u64>> = BTreeMap::new();
    for path in files {
        let text = fs::read(path).map_err(|why| cannot_read(path, why))?;
        let log = logs::sums([text.as_slice()]).map_err(|why| cannot_read(path, why))?;
        for (tag, times) in log {
            match sums.get_mut(&tag) {
                Some(sum) => sum.add(times).map_err(|why| cannot_read(path, why))?,
                None => drop(sums.insert(tag, times)),
            }
        }
    }
    let path = out.join(REPORT);
    let names: Vec<_> = files.iter().map(|path| path.display().to_string()).collect();
    fs::write(&path, page::of_logs(&sums, &names).into_string())
        .map_err(|why| cannot_write(&path, why))?;
    let mut text = String::new();
    for (tag, times) in &sums {
        text.push_str(&format!("{tag:<8} {:>12} replies", table::count(times.len() as f64)));
        for percentile in [50.0, 90.0, 99.0, 99.9, 100.0] {
            let time = table::time(times.value_at_percentile(percentile) as f64);
            text.push_str(&format!("  p{percentile} {time}"));
        }
        text.push('\n');
    }
    Ok(format!("{text}report: {}\n", path.display()))
}

const REPORT: &str = "report.html";

/// Writes the report of a comparison.
pub(crate) fn write(results: &Results, out: &Path) -> Result<(), Failure> {
    let path = out.join(REPORT);
    fs::write(&path, page::of_results(results).into_string())
        .map_err(|why| cannot_write(&path, why))
}

/// What was found, in a sentence: the two that cost least, and by how much they differ.
pub(crate) fn finding(results: &Results) -> String {
    let wrong: Vec<_> = results
        .subjects
        .iter()
        .filter(|subject| subject.conforms.is_err())
        .map(|subject| subject.name.as_str())
        .collect();
    if !wrong.is_empty() {
        return format!(
            "These give other bytes than they must, and were not measured: {}.",
            wrong.join(", ")
        );
    }
    let most = results.of(Scenario::Throughput).filter(|cell| !cell.rounds.is_empty());
    let Some(at) = most.map(|cell| cell.at).max() else {
        return "Nothing was measured by connections; see the tables.".into();
    };
    let mut costs: Vec<_> = results
        .of(Scenario::Throughput)
        .filter(|cell| cell.at == at)
        .filter_map(|cell| {
            let cost = cell.median(|round| round.server.cpu_ns_per_message)?;
            Some((cell.subject.as_str(), cost))
        })
        .collect();
    costs.sort_by(|a, b| a.1.median.total_cmp(&b.1.median));
    let saturated =
        results.cells.iter().flat_map(|cell| &cell.rounds).any(|round| {
            round.warnings.iter().any(|warning| warning.name() == "generator_saturated")
        });
    let rate = if saturated {
        " The generator was at its limit in some rounds: compare the processor time, not the rates."
    } else {
        ""
    };
    let with = |name: &str, cost: Spread| {
        let (at, time) = (table::count(at as f64), table::time(cost.median));
        format!("With {at} connections {name} needs {time} of processor time for a message")
    };
    match costs.as_slice() {
        [] => "No server's processor time is known; see the tables.".into(),
        [(name, cost)] => format!("{}{}.{rate}", with(name, *cost), table::plus_minus(*cost)),
        [(name, cost), (next, second), ..] => {
            let less = (1.0 - cost.median / second.median) * 100.0;
            let verdict = match (cost.relative(), second.relative()) {
                (Some(one), Some(other)) if less <= (one + other) * 100.0 => {
                    format!("as much as {next}, within ±{:.1} %", (one + other) * 100.0)
                }
                (Some(one), Some(other)) => {
                    format!("{less:.1} % less than {next} (±{:.1} %)", (one + other) * 100.0)
                }
                _ => {
                    format!("{less:.1} % less than {next}, in one round, whose spread nobody knows")
                }
            };
            format!("{}: {verdict}.{rate}", with(name, *cost))
        }
    }
}
