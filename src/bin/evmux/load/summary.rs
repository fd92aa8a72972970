//! What was found, for people and for spreadsheets.

use std::fmt::Write;
use std::io;

use evmux::load::{Distribution, Outcome, PERCENTILES, Pacing, Plan, Record, Until};
use humantime::format_duration;

/// All that a person reads.
pub(super) fn text(plan: &Plan, outcome: &Outcome, record: &Record) -> String {
    let mut text = String::new();
    // Nothing can go wrong with writing to memory.
    let _ = write_plan(&mut text, plan, outcome);
    let _ = write_figures(&mut text, plan, outcome, record);
    let _ = write_judgement(&mut text, outcome, record);
    text
}

fn write_plan(text: &mut String, plan: &Plan, outcome: &Outcome) -> std::fmt::Result {
    let (connections, size) = (outcome.connections, plan.size);
    let (framing, verify) = (plan.framing.name(), plan.verify.name());
    write!(text, "{}: {connections} connections", plan.target)?;
    if outcome.others > 0 {
        write!(text, " and {} that idle or read slowly", outcome.others)?;
    }
    writeln!(text, ", {size} bytes, framing {framing}, verify {verify}")?;
    match plan.pacing {
        Pacing::Closed => writeln!(
            text,
            "closed loop: nobody asks while the server stands still, so its stalls hardly show \
             (coordinated omission); --rate shows them"
        )?,
        Pacing::Open { rate } => writeln!(
            text,
            "open loop: {rate} requests a second are due; latency counts from when a request was \
             due, service time from when it was sent"
        )?,
    }
    let measured = format_duration(whole_milliseconds(outcome.measured));
    let until = match plan.until {
        Until::Duration(_) => String::new(),
        Until::Requests(requests) => format!(", for {requests} requests"),
    };
    let warmup = format_duration(plan.warmup);
    let part = if outcome.interrupted { ", and interrupted" } else { "" };
    writeln!(text, "measured for {measured}{until}, after {warmup} of warm-up{part}\n")
}

fn write_figures(
    text: &mut String,
    plan: &Plan,
    outcome: &Outcome,
    record: &Record,
) -> std::fmt::Result {
    let counts = outcome.counts;
    writeln!(text, "  answered  {:>12}  {:.1} a second", counts.answered, outcome.rate())?;
    let share = outcome.error_share() * 100.0;
    writeln!(text, "  errors    {:>12}  {share:.3} %", outcome.errors.total())?;
    for (name, count) in outcome.errors.by_name() {
        if count > 0 {
            writeln!(text, "    {:<12}{count:>8}", name.replace('_', " "))?;
        }
    }
    if counts.abandoned > 0 {
        writeln!(text, "  abandoned {:>12}", counts.abandoned)?;
    }
    writeln!(text)?;
    write!(text, "  {:<14}{:>9}", "", "min")?;
    for percentile in PERCENTILES {
        write!(text, "{:>9}", format!("p{percentile}"))?;
    }
    writeln!(text, "{:>9}{:>9}", "max", "mean")?;
    if let Some(latency) = &record.latency {
        write_times(text, "latency", latency)?;
    }
    write_times(text, "service time", &record.service)?;
    if plan.per_connection.is_some() {
        write_times(text, "connect", &record.connect)?;
    }
    if let Some(lag) = &record.lag {
        write_times(text, "own lag", lag)?;
    }
    let own = outcome.own;
    writeln!(
        text,
        "\n  generator: {:.0} % of a processor, {} for a reply",
        own.share * 100.0,
        time(outcome.own_ns_per_reply() as u64)
    )?;
    let machine = &outcome.machine;
    writeln!(text, "  machine: {}, {} × {}", machine.kernel, machine.cpus, machine.cpu)
}

fn write_times(text: &mut String, name: &str, times: &Distribution) -> std::fmt::Result {
    if times.count == 0 {
        return Ok(());
    }
    write!(text, "  {name:<14}{:>9}", time(times.min_ns))?;
    for percentile in PERCENTILES {
        let nanos = times.percentiles_ns.get(&format!("p{percentile}")).copied();
        write!(text, "{:>9}", time(nanos.unwrap_or_default()))?;
    }
    writeln!(text, "{:>9}{:>9}", time(times.max_ns), time(times.mean_ns as u64))
}

fn write_judgement(text: &mut String, outcome: &Outcome, record: &Record) -> std::fmt::Result {
    for warning in &outcome.warnings {
        writeln!(text, "\n  warning: {warning}")?;
        writeln!(text, "           {}", warning.hint())?;
    }
    if !record.thresholds.is_empty() {
        writeln!(text)?;
    }
    for threshold in &record.thresholds {
        let held = if threshold.held { "held" } else { "crossed" };
        writeln!(text, "  threshold {}: {held}", threshold.text)?;
    }
    Ok(())
}

fn whole_milliseconds(time: std::time::Duration) -> std::time::Duration {
    std::time::Duration::from_millis(time.as_millis() as u64)
}

/// Three digits and a unit.
pub(super) fn time(nanos: u64) -> String {
    let units = [(1e9, "s"), (1e6, "ms"), (1e3, "µs"), (1.0, "ns")];
    let nanos = nanos as f64;
    // A little below a unit would be rounded to a thousand of the next.
    let (size, unit) =
        units.into_iter().find(|(size, _)| nanos >= size * 0.9995).unwrap_or((1.0, "ns"));
    let value = nanos / size;
    let digits = if size == 1.0 || value >= 99.95 {
        0
    } else if value >= 9.995 {
        1
    } else {
        2
    };
    format!("{value:.digits$}{unit}")
}

/// A line of names and one of values; a column for each label.
pub(super) fn write_csv(output: impl io::Write, record: &Record) -> csv::Result<()> {
    let mut columns = vec![
        ("target".to_string(), record.plan.target.clone()),
        ("started_unix_ms".into(), record.started_unix_ms.to_string()),
        ("connections".into(), record.connections.to_string()),
        ("pacing".into(), record.plan.pacing.clone()),
        ("asked_rate".into(), record.plan.rate.map(|rate| rate.to_string()).unwrap_or_default()),
        ("size".into(), record.plan.size.to_string()),
        ("pipeline".into(), record.plan.pipeline.to_string()),
        ("measured_ns".into(), record.measured_ns.to_string()),
        ("answered".into(), record.counts.answered.to_string()),
        ("rate".into(), record.rate.to_string()),
    ];
    for (name, count) in record.errors.by_name() {
        columns.push((format!("errors_{name}"), count.to_string()));
    }
    let times = [("service", Some(&record.service)), ("latency", record.latency.as_ref())];
    for (name, times) in times {
        let value = |nanos: Option<u64>| nanos.map(|nanos| nanos.to_string()).unwrap_or_default();
        for percentile in PERCENTILES {
            let key = format!("p{percentile}");
            let nanos = times.and_then(|times| times.percentiles_ns.get(&key).copied());
            columns.push((format!("{name}_{key}_ns"), value(nanos)));
        }
        columns.push((format!("{name}_max_ns"), value(times.map(|times| times.max_ns))));
    }
    columns.push(("own_ns_per_reply".into(), record.own_ns_per_reply.to_string()));
    let warnings: Vec<_> = record.warnings.iter().map(|all| all.warning.name()).collect();
    columns.push(("warnings".into(), warnings.join(" ")));
    for (name, value) in &record.labels {
        columns.push((format!("label_{name}"), value.clone()));
    }
    let mut writer = csv::Writer::from_writer(output);
    writer.write_record(columns.iter().map(|(name, _)| name))?;
    writer.write_record(columns.iter().map(|(_, value)| value))?;
    writer.flush()?;
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn times_have_three_digits() {
        for (nanos, text) in [
            (0, "0ns"),
            (999, "999ns"),
            (1_000, "1.00µs"),
            (12_340, "12.3µs"),
            (999_400, "999µs"),
            (999_600, "1.00ms"),
            (123_456_789, "123ms"),
            (9_996_000, "10.0ms"),
            (2_500_000_000, "2.50s"),
        ] {
            assert_eq!(time(nanos), text, "{nanos}");
        }
    }
}
