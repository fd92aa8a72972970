//! Figures in words: how they are shown, and the table of all of them.

use maud::{Markup, html};

use crate::results::{Cell, Results, Scenario, Spread};

/// A scenario's name for people.
pub(crate) fn title(scenario: Scenario) -> &'static str {
    match scenario {
        Scenario::Throughput => "throughput, by connections (closed loop)",
        Scenario::Latency => "latency, at a share of the reachable rate in % (open loop)",
        Scenario::SlowClients => "one fast client, by slow clients beside it",
        Scenario::IdleMemory => "memory, with so many idle connections",
        Scenario::Connect => "a connection for each request",
        Scenario::BusyHandler => "a handler that computes for 0.5 ms, on all processors",
    }
}

/// A cell in a line of text.
pub(crate) fn line(cell: &Cell) -> String {
    let head = format!("{:>6} {:<12}", cell.at, cell.subject);
    if let Some(why) = &cell.cannot {
        return format!("{head} -- {why}");
    }
    let errors = match cell.errors() {
        0 => String::new(),
        errors => format!("  {errors} errors"),
    };
    if cell.scenario == Scenario::IdleMemory {
        let each = idle_bytes(cell).map_or("unknown".into(), bytes);
        return format!("{head} {each:>12} each{errors}");
    }
    let rate = cell.rate().map_or("unknown".into(), |rate| {
        format!("{:>10}/s{}", count(rate.median), plus_minus(rate))
    });
    let time = |percentile| cell.percentile(percentile).map_or("--".into(), |ns| time(ns as f64));
    let cpu = cell
        .median(|round| round.server.cpu_ns_per_message)
        .map_or(String::new(), |cpu| format!("  cpu {}", time_of(cpu.median)));
    format!("{head} {rate:<18} p50 {:>8}  p99 {:>8}{cpu}{errors}", time(50.0), time(99.0))
}

/// How far the rounds lie apart, if there were several.
pub(crate) fn plus_minus(spread: Spread) -> String {
    spread.relative().map_or(String::new(), |share| format!(" ±{:.1} %", share * 100.0))
}

/// All figures, for who wants to know exactly.
pub(crate) fn all(results: &Results) -> Markup {
    html! {
        @for scenario in Scenario::ALL {
            @let cells: Vec<_> = results.of(scenario).collect();
            @if !cells.is_empty() {
                h3 { (title(scenario)) }
                div.scroll tabindex="0" role="region" aria-label=(title(scenario)) {
                    table {
                        thead {
                            tr {
                                th scope="col" { "at" }
                                th scope="col" { "server" }
                                th scope="col" { "replies/s" }
                                th scope="col" { "±" }
                                th scope="col" { "p50" }
                                th scope="col" { "p99" }
                                th scope="col" { "p99.9" }
                                th scope="col" { "max" }
                                th scope="col" { "errors" }
                                th scope="col" { "CPU a message" }
                                th scope="col" { "calls" }
                                th scope="col" { "switches" }
                                th scope="col" { "threads" }
                                th scope="col" { "memory" }
                            }
                        }
                        tbody {
                            @for cell in cells { (row(cell)) }
                        }
                    }
                }
            }
        }
    }
}

fn row(cell: &Cell) -> Markup {
    let unknown = || "unknown".to_string();
    let figure = |value: Option<f64>, show: fn(f64) -> String| value.map_or_else(unknown, show);
    let server = |figure: fn(&crate::results::ServerFigures) -> Option<f64>| {
        cell.median(|round| figure(&round.server)).map(|spread| spread.median)
    };
    let times = cell.times();
    let percentile = |percentile: f64| {
        if times.is_empty() {
            "–".into()
        } else {
            time(times.value_at_percentile(percentile) as f64)
        }
    };
    html! {
        tr {
            td { (cell.at) }
            th scope="row" { (cell.subject) }
            @if let Some(why) = &cell.cannot {
                td.cannot colspan="12" { (why) }
            } @else {
                @let rate = cell.rate();
                td { (figure(rate.map(|rate| rate.median), count)) }
                td { (rate.and_then(|rate| rate.relative())
                    .map_or("–".into(), |share| format!("{:.1} %", share * 100.0))) }
                td { (percentile(50.0)) }
                td { (percentile(99.0)) }
                td { (percentile(99.9)) }
                td { (percentile(100.0)) }
                td { (cell.errors()) }
                td { (figure(server(|s| s.cpu_ns_per_message), time_of)) }
                td { (figure(server(|s| s.calls_per_message), two_digits)) }
                td { (figure(server(|s| s.switches_per_message), two_digits)) }
                td { (figure(server(|s| s.threads.map(|n| n as f64)), count)) }
                td { (figure(server(|s| s.resident_bytes.map(|n| n as f64)), bytes)) }
            }
        }
    }
}

/// Resident memory that each idle connection has added.
pub(crate) fn idle_bytes(cell: &Cell) -> Option<f64> {
    let each = cell.median(|round| {
        let (now, before) = (round.server.resident_bytes?, round.server.resident_before_bytes?);
        Some((now as f64 - before as f64).max(0.0) / cell.at as f64)
    });
    each.map(|each| each.median)
}

fn time_of(ns: f64) -> String {
    time(ns)
}

fn two_digits(number: f64) -> String {
    format!("{number:.2}")
}

/// Nanoseconds, in the unit that people would say, with three digits.
pub(crate) fn time(ns: f64) -> String {
    match ns {
        ns if ns < 1e3 => format!("{ns:.0} ns"),
        ns if ns < 1e6 => format!("{} µs", three_digits(ns / 1e3)),
        ns if ns < 1e9 => format!("{} ms", three_digits(ns / 1e6)),
        ns => format!("{} s", three_digits(ns / 1e9)),
    }
}

pub(crate) fn bytes(bytes: f64) -> String {
    match bytes {
        bytes if bytes < 1024.0 => format!("{bytes:.0} B"),
        bytes if bytes < 1024.0 * 1024.0 => format!("{} KiB", three_digits(bytes / 1024.0)),
        bytes => format!("{} MiB", three_digits(bytes / 1024.0 / 1024.0)),
    }
}

/// A whole number, its thousands apart.
pub(crate) fn count(number: f64) -> String {
    let digits = format!("{number:.0}");
    let mut text = String::new();
    for (index, digit) in digits.chars().enumerate() {
        if index > 0 && (digits.len() - index) % 3 == 0 {
            text.push(',');
        }
        text.push(digit);
    }
    text
}

fn three_digits(number: f64) -> String {
    match number {
        number if number < 10.0 => format!("{number:.2}"),
        number if number < 100.0 => format!("{number:.1}"),
        number => format!("{number:.0}"),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn figures_are_shown_in_the_unit_that_people_would_say() {
        assert_eq!(time(950.0), "950 ns");
        assert_eq!(time(5_070.0), "5.07 µs");
        assert_eq!(time(12_345_678.0), "12.3 ms");
        assert_eq!(bytes(4096.0), "4.00 KiB");
        assert_eq!(count(1_234_567.4), "1,234,567");
        assert_eq!(count(12.0), "12");
    }
}
