//! The pages themselves. Whatever is written into them is escaped by its type.

use std::collections::BTreeMap;

use evmux::load::Histogram;
use maud::{DOCTYPE, Markup, PreEscaped, html};

use super::chart::{Axis, Bar, Bars, Chart, Point, Scale, Series};
use super::{finding, table};
use crate::results::{Cell, Results, Round, Scenario};

/// The report of a comparison.
pub(super) fn of_results(results: &Results) -> Markup {
    let page = html! {
        header {
            h1 { "Ways of waiting, compared" }
            p.finding { (finding(results)) }
            @if !results.complete {
                p.warning { "This comparison was broken off: some of it is missing." }
            }
        }
        (warnings(results))
        main {
            div.charts {
                (throughput(results).draw("throughput"))
                (p99(results).draw("p99"))
                (latency(results).draw("latency"))
                (curves(results).draw("curves"))
                (slow_clients(results).draw("slow"))
                (busy(results).draw("busy"))
                (connect(results).draw("connect"))
                (memory(results).draw("memory"))
                (cost(results).draw("cost"))
                (calls(results).draw("calls"))
            }
            h2 { "All figures" }
            p {
                "Medians of the rounds; ± is half of the distance between the least and the largest. "
                "Percentiles are those of all rounds' times together. In the latency scenario they "
                "count from when a request was due, elsewhere from when it was sent."
            }
            (table::all(results))
            h2 { "How it was measured" }
            (conditions(results))
        }
    };
    whole("evmux compare", page)
}

/// The report of merged logs.
pub(super) fn of_logs(sums: &BTreeMap<String, Histogram<u64>>, files: &[String]) -> Markup {
    let series = sums.iter().enumerate().map(|(style, (tag, times))| curve(tag, style, times));
    let chart = Chart {
        title: "Percentiles",
        description: "The time that so many replies did not exceed.".into(),
        x: percentiles_axis(),
        y: times_axis("time"),
        series: series.collect(),
    };
    let shown = [50.0, 75.0, 90.0, 99.0, 99.9, 99.99, 100.0];
    let page = html! {
        header {
            h1 { "Logs of load generators, merged" }
            p.finding {
                (table::count(sums.values().map(Histogram::len).max().unwrap_or(0) as f64))
                " replies of " (files.len()) " logs. Histograms are added: no count is lost, and no \
                percentile is an average."
            }
        }
        main {
            div.charts { (chart.draw("curves")) }
            div.scroll tabindex="0" role="region" aria-label="percentiles" {
                table {
                    thead {
                        tr {
                            th scope="col" { "times" }
                            th scope="col" { "replies" }
                            @for percentile in shown { th scope="col" { "p" (percentile) } }
                        }
                    }
                    tbody {
                        @for (tag, times) in sums {
                            tr {
                                th scope="row" { (tag) }
                                td { (table::count(times.len() as f64)) }
                                @for percentile in shown {
                                    td { (table::time(times.value_at_percentile(percentile) as f64)) }
                                }
                            }
                        }
                    }
                }
            }
            h2 { "Files" }
            ul { @for file in files { li { (file) } } }
        }
    };
    whole("evmux report", page)
}

fn whole(title: &str, body: Markup) -> Markup {
    html! {
        (DOCTYPE)
        html lang="en" {
            head {
                meta charset="utf-8";
                meta name="viewport" content="width=device-width, initial-scale=1";
                meta http-equiv="Content-Security-Policy"
                    content="default-src 'none'; style-src 'unsafe-inline'; img-src data:";
                // Without it a browser asks for /favicon.ico.
                link rel="icon" href="data:,";
                title { (title) }
                style { (PreEscaped(include_str!("report.css"))) }
            }
            body { (body) }
        }
    }
}

/// The place of a subject among all: its colour and mark.
fn style(results: &Results, name: &str) -> usize {
    results.subjects.iter().position(|subject| subject.name == name).unwrap_or(0)
}

/// A line for each subject, with a point for each cell that has the figure.
fn series(
    results: &Results,
    scenario: Scenario,
    x: impl Fn(&Cell) -> f64,
    y: impl Fn(&Cell) -> Option<(f64, Vec<f64>)>,
    text: impl Fn(&Cell, f64) -> String,
) -> Vec<Series> {
    let points = |name: &str| {
        results
            .of(scenario)
            .filter(|cell| cell.subject == name)
            .filter_map(|cell| {
                let (median, dots) = y(cell)?;
                Some(Point { x: x(cell), y: median, dots, text: text(cell, median) })
            })
            .collect::<Vec<_>>()
    };
    results
        .subjects
        .iter()
        .map(|subject| Series {
            name: subject.name.clone(),
            style: style(results, &subject.name),
            points: points(&subject.name),
        })
        .filter(|series| !series.points.is_empty())
        .collect()
}

/// The median of a figure, and the figure of each round.
fn spread(cell: &Cell, figure: impl Fn(&Round) -> Option<f64>) -> Option<(f64, Vec<f64>)> {
    let median = cell.median(&figure)?.median;
    Some((median, cell.rounds.iter().filter_map(figure).collect()))
}

/// A percentile of all rounds together, and of each.
fn percentile(cell: &Cell, percentile: f64) -> Option<(f64, Vec<f64>)> {
    let of_round = |round: &Round| {
        let times = round.times();
        (!times.is_empty()).then(|| times.value_at_percentile(percentile) as f64)
    };
    let all = cell.percentile(percentile)? as f64;
    Some((all, cell.rounds.iter().filter_map(of_round).collect()))
}

fn connections_axis() -> Axis<'static> {
    Axis { name: "connections", scale: Scale::Logarithmic, show: table::count }
}

fn times_axis(name: &'static str) -> Axis<'static> {
    Axis { name, scale: Scale::Logarithmic, show: short_time }
}

/// For an axis: a power of ten, as people say it.
fn short_time(ns: f64) -> String {
    match ns {
        ns if ns < 999.0 => format!("{ns:.0} ns"),
        ns if ns < 999e3 => format!("{:.0} µs", ns / 1e3),
        ns if ns < 999e6 => format!("{:.0} ms", ns / 1e6),
        ns => format!("{:.0} s", ns / 1e9),
    }
}

fn short_count(count: f64) -> String {
    match count {
        count if count < 1e3 => format!("{count}"),
        count if count < 1e6 => format!("{} k", count / 1e3),
        count => format!("{} M", count / 1e6),
    }
}

fn throughput(results: &Results) -> Chart<'static> {
    Chart {
        title: "Replies a second, by connections",
        description: "Closed loop. Each line is a server, each small dot a repetition.".into(),
        x: connections_axis(),
        y: Axis { name: "replies a second", scale: Scale::Linear, show: short_count },
        series: series(
            results,
            Scenario::Throughput,
            |cell| cell.at as f64,
            |cell| spread(cell, |round| Some(round.rate)),
            |cell, rate| format!("{} replies/s with {} connections", table::count(rate), cell.at),
        ),
    }
}

fn p99(results: &Results) -> Chart<'static> {
    Chart {
        title: "99th percentile of the service time, by connections",
        description: "Closed loop: one reply in a hundred takes longer.".into(),
        x: connections_axis(),
        y: times_axis("p99"),
        series: series(
            results,
            Scenario::Throughput,
            |cell| cell.at as f64,
            |cell| percentile(cell, 99.0),
            |cell, p99| format!("p99 {} with {} connections", table::time(p99), cell.at),
        ),
    }
}

fn latency(results: &Results) -> Chart<'static> {
    Chart {
        title: "99th percentile of the latency, by load",
        description: "Open loop, at a share of the rate that each server reaches; the latency \
                      counts from when a request was due."
            .into(),
        x: Axis { name: "% of the reachable rate", scale: Scale::Linear, show: table::count },
        y: times_axis("p99"),
        series: series(
            results,
            Scenario::Latency,
            |cell| cell.at as f64,
            |cell| percentile(cell, 99.0),
            |cell, p99| format!("p99 {} at {} %", table::time(p99), cell.at),
        ),
    }
}

fn percentiles_axis() -> Axis<'static> {
    // 1 / (1 - share): each power of ten is one nine more.
    Axis {
        name: "percentile",
        scale: Scale::Logarithmic,
        show: |x| match x {
            x if x < 5.0 => "0".into(),
            x => format!("{}", 100.0 - (100.0 / x * 1e6).round() / 1e6),
        },
    }
}

fn curve(name: &str, style: usize, times: &Histogram<u64>) -> Series {
    let mut points = Vec::new();
    for percentile in [0.0, 25.0, 50.0, 75.0, 90.0, 95.0, 99.0, 99.5, 99.9, 99.95, 99.99, 99.999] {
        // Nothing is said of what ten replies did not show.
        if times.len() < evmux::load::samples_needed(percentile) {
            break;
        }
        let time = times.value_at_percentile(percentile) as f64;
        points.push(Point {
            x: 100.0 / (100.0 - percentile),
            y: time,
            dots: Vec::new(),
            text: format!("p{percentile} {}", table::time(time)),
        });
    }
    Series { name: name.to_string(), style, points }
}

/// The curves of the latency at three quarters of the load; else of the closed loop.
fn curves(results: &Results) -> Chart<'static> {
    let of = |scenario: Scenario, at: u64| {
        results
            .of(scenario)
            .filter(|cell| cell.at == at && !cell.rounds.is_empty())
            .map(|cell| curve(&cell.subject, style(results, &cell.subject), &cell.times()))
            .filter(|series| !series.points.is_empty())
            .collect::<Vec<_>>()
    };
    let open = of(Scenario::Latency, 75);
    let most = results.of(Scenario::Throughput).map(|cell| cell.at).max().unwrap_or(0);
    let (title, series) = match open.is_empty() {
        false => ("Percentiles of the latency at 75 % of the reachable rate", open),
        true => ("Percentiles of the service time", of(Scenario::Throughput, most)),
    };
    Chart {
        title,
        description: "All servers on one axis; a curve ends where too few replies lie above it."
            .into(),
        x: percentiles_axis(),
        y: times_axis("time"),
        series,
    }
}

fn slow_clients(results: &Results) -> Chart<'static> {
    Chart {
        title: "What one fast client gets beside slow ones",
        description: "Slow clients say a byte ten times a second and hold their connections."
            .into(),
        x: Axis { name: "slow clients", scale: Scale::Linear, show: table::count },
        y: Axis { name: "replies a second", scale: Scale::Linear, show: short_count },
        series: series(
            results,
            Scenario::SlowClients,
            |cell| cell.at as f64,
            |cell| spread(cell, |round| Some(round.rate)),
            |cell, rate| format!("{} replies/s beside {} slow", table::count(rate), cell.at),
        ),
    }
}

/// Bars of one figure of each subject, where it is known.
fn bars(
    results: &Results,
    scenario: Scenario,
    at: Option<u64>,
    figure: impl Fn(&Cell) -> Option<f64>,
    show: fn(f64) -> String,
) -> Vec<Bar> {
    results
        .of(scenario)
        .filter(|cell| at.is_none_or(|at| at == cell.at))
        .filter_map(|cell| {
            let value = figure(cell)?;
            Some(Bar {
                name: cell.subject.clone(),
                style: style(results, &cell.subject),
                value,
                text: show(value),
            })
        })
        .collect()
}

fn busy(results: &Results) -> Bars<'static> {
    Bars {
        title: "Replies a second when each costs 0.5 ms of computing",
        description: "On all processors: here threads win, since one thread computes on one only."
            .into(),
        bars: bars(results, Scenario::BusyHandler, None, |c| Some(c.rate()?.median), table::count),
    }
}

fn connect(results: &Results) -> Bars<'static> {
    Bars {
        title: "Connections a second, one request each",
        description: "Connect, ask, read the reply, close.".into(),
        bars: bars(results, Scenario::Connect, None, |c| Some(c.rate()?.median), table::count),
    }
}

fn memory(results: &Results) -> Bars<'static> {
    Bars {
        title: "Resident memory for each idle connection",
        description: "Of the server's process, without what the kernel keeps for a socket.".into(),
        bars: bars(results, Scenario::IdleMemory, None, table::idle_bytes, table::bytes),
    }
}

/// The largest number of connections that most servers can have.
fn common(results: &Results) -> Option<u64> {
    let measured = |cell: &&Cell| !cell.rounds.is_empty();
    results.of(Scenario::Throughput).filter(measured).map(|cell| cell.at).max()
}

fn cost(results: &Results) -> Bars<'static> {
    let figure = |c: &Cell| Some(c.median(|round| round.server.cpu_ns_per_message)?.median);
    Bars {
        title: "The server's processor time for a message",
        description: "With the most connections that were measured; the kernel's part included."
            .into(),
        bars: bars(results, Scenario::Throughput, common(results), figure, table::time),
    }
}

fn calls(results: &Results) -> Bars<'static> {
    let figure = |c: &Cell| Some(c.median(|round| round.server.calls_per_message)?.median);
    Bars {
        title: "System calls for a message",
        description: "Those that receive, send or wait, as the server counts them.".into(),
        bars: bars(results, Scenario::Throughput, common(results), figure, |n| format!("{n:.2}")),
    }
}

/// What makes the figures worth less than they look.
fn warnings(results: &Results) -> Markup {
    let mut found: BTreeMap<&'static str, (usize, &'static str, String)> = BTreeMap::new();
    for cell in &results.cells {
        for warning in cell.rounds.iter().flat_map(|round| &round.warnings) {
            let (times, _, _) = found.entry(warning.name()).or_insert_with(|| {
                let where_ = format!("{} {} {}", cell.scenario.name(), cell.at, cell.subject);
                (0, warning.hint(), format!("{warning} ({where_})"))
            });
            *times += 1;
        }
    }
    html! {
        @if !found.is_empty() {
            section.warnings aria-label="warnings" {
                h2 { "Read this first" }
                ul {
                    @for (times, hint, first) in found.values() {
                        li {
                            (first)
                            @if *times > 1 { ", and in " (times - 1) " more rounds" }
                            ": " (hint) "."
                        }
                    }
                }
            }
        }
    }
}

fn conditions(results: &Results) -> Markup {
    let machine = &results.machine;
    html! {
        dl {
            dt { "Command" } dd { code { (results.command) } }
            dt { "When" } dd { (results.began) " (UTC)" }
            dt { "Machine" }
            dd { (machine.cpu) ", " (machine.cpus) " processors, " (machine.kernel) ", clock " (machine.clock) }
            dt { "Processors" }
            dd {
                "servers " (format!("{:?}", results.server_cpus)) ", generator "
                (format!("{:?}", results.generator_cpus))
                @if results.server_cpus == results.generator_cpus {
                    ": they share one, so that rates are those of both together"
                }
                "; in the scenario busy-handler all of them for both"
            }
            dt { "Asked" }
            dd {
                "service " (results.service) ", " (results.size) " bytes, "
                (results.rounds) " rounds of " (results.duration_ms)
                " ms each, after a quarter of that to warm up; every byte of every reply is compared"
            }
            dt { "evmux" }
            dd {
                (results.version)
                @if !machine.optimized { ", built without optimisation: build it with --release" }
            }
            @for subject in &results.subjects {
                dt { (subject.name) }
                dd {
                    code { (subject.command) }
                    @match &subject.conforms {
                        Ok(()) => { ": gives the bytes that it must" },
                        Err(why) => { ": gives other bytes: " (why) },
                    }
                }
            }
        }
    }
}
