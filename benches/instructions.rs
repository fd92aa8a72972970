//! How many instructions a message costs in user space, counted by callgrind: a figure that does
//! not depend on the machine, nor on what else it does, and so can be kept by a check.
//!
//! `make check-instructions` compares with `benches/instructions.txt`, and fails when a figure is
//! more than 3 % above. The figures there are those of one compiler; with another one the bench
//! reports only. `make instructions-baseline` writes the file. `make cost` compares with a build in
//! which nothing is counted or traced (`--cfg evmux_bare`).
//!
//! Each server runs twice, for 1,000 messages and for 11,000: the difference is what 10,000
//! messages cost, without start and end. So that each wait of a server finds all the messages of a
//! round, however the threads of the machine are scheduled, the server is stopped while they are
//! sent.

use std::env;
use std::fs;
use std::io::{Read, Write};
use std::net::TcpStream;
use std::path::{Path, PathBuf};
use std::process::Command;
use std::time::Duration;

use evmux::{Limits, Server, services};
use rustix::process::{Pid, Signal, kill_process};

use support::child::{self, Server as Child};
use support::options::Options;

#[path = "support/mod.rs"]
#[allow(dead_code)]
mod support;

/// A figure may be so much above that of the file.
const TOLERANCE: f64 = 1.03;
/// What the counters and a trace that is switched off may cost for each message.
const COST: f64 = 24.0;
const FEW: usize = 1_000;
const MANY: usize = 11_000;

/// What is served, and to how many connections.
const CASES: [(&str, Program, usize); 3] = [
    ("embedded, 100 connections", Program::Embedded, 100),
    ("embedded, 1 connection", Program::Embedded, 1),
    ("evmux serve, 100 connections", Program::Binary, 100),
];

#[derive(Clone, Copy, PartialEq, Eq)]
enum Program {
    /// A server in this program, on its one thread.
    Embedded,
    /// `evmux serve`, which has a thread for its log.
    Binary,
}

fn main() {
    let options = Options::read();
    if options.serve().is_some() {
        child::end_with_parent();
        return serve();
    }
    let binary = env::var_os("EVMUX").map(PathBuf::from);
    let compiler = compiler();
    let figures: Vec<_> = CASES
        .into_iter()
        .filter(|(_, program, _)| *program == Program::Embedded || binary.is_some())
        // Without `--bench`, as when tests are run, nothing is tried: valgrind may not be there.
        .filter(|_| options.measures())
        .map(|(name, program, connections)| {
            let run = |messages| instructions(program, binary.as_deref(), connections, messages);
            (name, (run(MANY) - run(FEW)) as f64 / (MANY - FEW) as f64)
        })
        .collect();
    let default = Path::new(env!("CARGO_MANIFEST_DIR")).join("benches/instructions.txt");
    let file = options.value("--file").map_or(default, PathBuf::from);
    if options.has("--write") {
        let lines = figures.iter().map(|(name, figure)| format!("{figure:.1} {name}\n"));
        let text = format!("{compiler}\n{}", lines.collect::<String>());
        return fs::write(file, text).unwrap();
    }
    let text = fs::read_to_string(&file).unwrap();
    let costs = options.has("--cost");
    // With one connection a message pays for a whole turn, and for what is noted of a turn.
    let is_right = |name: &str, figure: f64, kept: f64| match costs {
        true => figure <= kept + COST || !name.contains("100 connections"),
        false => figure <= kept * TOLERANCE,
    };
    if !report(&figures, &text, &compiler, is_right) && (options.has("--check") || costs) {
        eprintln!("a message costs more instructions than it may, beside those of {file:?}:");
        eprintln!("find out where (callgrind_annotate), or write the file again and say why");
        std::process::exit(1);
    }
}

/// Prints the figures beside those of the file; false when one of them is too large.
fn report(
    figures: &[(&str, f64)],
    file: &str,
    compiler: &str,
    is_right: impl Fn(&str, f64, f64) -> bool,
) -> bool {
    let mut lines = file.lines();
    let theirs = lines.next().unwrap_or_default();
    let kept: Vec<(f64, &str)> = lines
        .filter_map(|line| line.split_once(' '))
        .map(|(figure, name)| (figure.parse().unwrap(), name))
        .collect();
    let comparable = theirs == compiler;
    // One that was not kept yet is shown, and not judged.
    if !comparable {
        println!("{compiler}: not that of the figures kept ({theirs}), so nothing is judged");
    }
    println!("{:32} {:>9} {:>9}   instructions a message", "", "now", "kept");
    let mut holds = true;
    for (name, figure) in figures {
        let kept = kept.iter().find(|(_, kept)| kept == name).map(|(figure, _)| *figure);
        let too_many = comparable && kept.is_some_and(|kept| !is_right(name, *figure, kept));
        holds &= !too_many;
        let kept = kept.map_or("none".into(), |kept| format!("{kept:.1}"));
        println!("{name:32} {figure:>9.1} {kept:>9}{}", if too_many { "   too many" } else { "" });
    }
    holds
}

/// The embedded server, with what costs something for each message switched on.
fn serve() {
    let server = Server::builder(services::echo)
        .limits(Limits::default().idle_timeout(Some(Duration::from_secs(60))))
        .listen("127.0.0.1:0")
        .build()
        .unwrap();
    child::say_port(server.local_addresses()[0].socket_addr().unwrap());
    server.run().unwrap();
}

fn compiler() -> String {
    let output = Command::new(env::var_os("RUSTC").unwrap_or("rustc".into())).arg("-V").output();
    String::from_utf8(output.unwrap().stdout).unwrap().trim().to_owned()
}

/// All that the server executes, from its start to its end.
fn instructions(
    program: Program,
    binary: Option<&Path>,
    connections: usize,
    messages: usize,
) -> u64 {
    let profile = env::temp_dir().join(format!("evmux-callgrind.{}", std::process::id()));
    let mut command = Command::new("valgrind");
    command.args(["-q", "--tool=callgrind"]);
    command.arg(format!("--callgrind-out-file={}", profile.display()));
    if program == Program::Embedded {
        command.arg(env::current_exe().unwrap()).arg("--serve");
    } else {
        let options = ["serve", "--service", "echo", "--idle-timeout", "60s"];
        command.arg(binary.unwrap()).args(options).args(["--listen", "127.0.0.1:0"]);
        command.env("RUST_LOG", "error");
    }
    let server = Child::start_command(command);
    exchange(&server, connections, messages / connections);
    let text = end(server, &profile);
    let totals = text.lines().find_map(|line| line.strip_prefix("totals: "));
    totals.expect("callgrind counted nothing").trim().parse().unwrap()
}

/// Each connection sends a message and awaits the answer, `rounds` times.
fn exchange(server: &Child, connections: usize, rounds: usize) {
    let mut clients: Vec<_> =
        (0..connections).map(|_| TcpStream::connect(server.address()).unwrap()).collect();
    let mut answer = [0; 64];
    let id = Pid::from_raw(server.id() as i32).unwrap();
    for _ in 0..rounds {
        server.wait_until_asleep();
        kill_process(id, Signal::STOP).unwrap();
        for client in &mut clients {
            client.write_all(&[b'x'; 64]).unwrap();
        }
        kill_process(id, Signal::CONT).unwrap();
        for client in &mut clients {
            client.read_exact(&mut answer).unwrap();
        }
    }
    server.wait_until_asleep();
}

/// Ends the server, and reads what was written of it.
fn end(server: Child, profile: &Path) -> String {
    let id = Pid::from_raw(server.id() as i32).unwrap();
    kill_process(id, Signal::TERM).unwrap();
    server.wait();
    let text = fs::read_to_string(profile).unwrap();
    fs::remove_file(profile).unwrap();
    text
}
