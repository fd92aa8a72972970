//! The five models side by side over loopback: the same service, the same load.
//!
//! `cargo bench --no-default-features --bench front_ends`. Each model is a process on the second
//! CPU, in turns; the load is on the first. `sequential` serves one connection at a time, so it
//! stands in the first column only.
//!
//! Options: `--rounds N` (5), `--seconds S` (0.3). Without `--bench` (so when tests are run)
//! everything is only tried.

use std::time::{Duration, Instant};

use evmux::Model;

use support::child::{self, Server as Child};
use support::figures::{machine, spread};
use support::load::Load;
use support::options::Options;

#[path = "support/mod.rs"]
#[allow(dead_code)]
mod support;

const CONNECTIONS: [usize; 3] = [1, 10, 100];

fn main() {
    let options = Options::read();
    if let Some(words) = options.serve() {
        child::end_with_parent();
        return child::serve_echo(words[0].parse().unwrap());
    }
    child::pin(child::Side::Load);
    let (rounds, seconds) = if options.measures() { (5, 0.3) } else { (1, 0.02) };
    let rounds = options.number("--rounds", rounds);
    let seconds = options.number("--seconds", seconds);
    println!("{}", machine());
    println!("echo of 64 B: messages a second, and ns of server CPU for one (quartiles)");
    for connections in CONNECTIONS {
        let mut cells: Vec<Vec<(f64, f64)>> = Model::ALL.iter().map(|_| Vec::new()).collect();
        for _ in 0..rounds {
            for (model, cells) in Model::ALL.iter().zip(&mut cells) {
                if *model != Model::Sequential || connections == 1 {
                    cells.push(measure(*model, connections, seconds));
                }
            }
        }
        println!("\n{connections} connections");
        for (model, cells) in Model::ALL.iter().zip(&cells) {
            if cells.is_empty() {
                println!("  {model:12} one at a time: the others would wait in the backlog");
                continue;
            }
            let rate = spread(cells.iter().map(|cell| cell.0)).median;
            let cost = spread(cells.iter().map(|cell| cell.1));
            println!("  {:12} {rate:>9.0} {cost:>24.0}", model.to_string());
        }
    }
}

/// Messages a second, and nanoseconds of CPU for each.
fn measure(model: Model, connections: usize, seconds: f64) -> (f64, f64) {
    let server = Child::start(&[&model.to_string()]);
    let mut load = Load::connect(server.address(), connections, vec![b'x'; 64], vec![b'x'; 64]);
    load.run_until(Instant::now() + Duration::from_secs_f64(seconds / 4.0));
    server.settle();
    let before = server.cpu_nanoseconds();
    let start = Instant::now();
    let count = load.run_until(start + Duration::from_secs_f64(seconds)) as f64;
    let rate = count / start.elapsed().as_secs_f64();
    server.settle();
    (rate, (server.cpu_nanoseconds() - before) as f64 / count)
}
