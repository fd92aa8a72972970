//! `evmux serve`: its options, and what they amount to.

use std::os::unix::ffi::OsStrExt;
use std::path::PathBuf;
use std::time::Duration;

use clap::Args;
use evmux::{Address, Limits, Model};

use super::Usage;
use super::given::Given;
use super::read::{count, duration, size, switch, timeout};

/// All that `evmux serve` was asked for. What is `None` is the library's to choose.
pub(crate) struct ServeOptions {
    pub(crate) service: Served,
    /// The service `hello`: what it says instead.
    pub(crate) greeting: Option<Vec<u8>>,
    /// The services `upper` and `echo`: one answer, and no more.
    pub(crate) once: bool,
    /// The service `busy`: the CPU time of a line.
    pub(crate) busy: Duration,
    pub(crate) model: Model,
    /// Workers of the model `pool`.
    pub(crate) threads: Option<usize>,
    /// Serving threads of the model `epoll`.
    pub(crate) reactors: Option<usize>,
    /// At least one.
    pub(crate) listen: Vec<Address>,
    pub(crate) backlog: u32,
    pub(crate) keep_alive: bool,
    pub(crate) max_connections: Option<usize>,
    pub(crate) limits: Limits,
    /// How long new clients are still accepted after the first signal.
    pub(crate) drain_delay: Duration,
    pub(crate) drain_timeout: Duration,
    /// Where the admin page is served: an address of TCP.
    pub(crate) admin: Option<Address>,
    /// Where the counters go at exit.
    pub(crate) summary: Option<PathBuf>,
    /// Where the timeline goes at exit, and when it is asked for.
    pub(crate) trace: Option<PathBuf>,
}

/// The services, by their names on the command line.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Served {
    Upper,
    Echo,
    Discard,
    Hello,
    Time,
    Sixteen,
    Lines,
    Blocks,
    Json,
    Zlib,
    Xmlrpc,
    Busy,
}

impl Served {
    const ALL: [Self; 12] = [
        Self::Upper,
        Self::Echo,
        Self::Discard,
        Self::Hello,
        Self::Time,
        Self::Sixteen,
        Self::Lines,
        Self::Blocks,
        Self::Json,
        Self::Zlib,
        Self::Xmlrpc,
        Self::Busy,
    ];

    pub(crate) fn name(self) -> &'static str {
        match self {
            Self::Upper => "upper",
            Self::Echo => "echo",
            Self::Discard => "discard",
            Self::Hello => "hello",
            Self::Time => "time",
            Self::Sixteen => "sixteen",
            Self::Lines => "lines",
            Self::Blocks => "blocks",
            Self::Json => "json",
            Self::Zlib => "zlib",
            Self::Xmlrpc => "xmlrpc",
            Self::Busy => "busy",
        }
    }

    fn named(name: &str) -> Result<Self, String> {
        let found = Self::ALL.into_iter().find(|service| service.name() == name);
        found.ok_or_else(|| {
            format!(
                "there is no such service; choose one of {}",
                Self::ALL.map(Self::name).join(", ")
            )
        })
    }

    /// Whether it can answer single datagrams.
    fn answers_datagrams(self) -> bool {
        matches!(self, Self::Upper | Self::Echo | Self::Discard | Self::Hello | Self::Time)
    }

    /// Whether clients say how long their frames are.
    fn has_long_frames(self) -> bool {
        matches!(
            self,
            Self::Lines | Self::Blocks | Self::Json | Self::Zlib | Self::Xmlrpc | Self::Busy
        )
    }

    /// Whether it waits for whole frames.
    fn is_framed(self) -> bool {
        self.has_long_frames() || self == Self::Sixteen
    }
}

/// Serve clients until SIGTERM or SIGINT
#[derive(Args)]
#[command(after_help = AFTER_HELP)]
pub(super) struct Arguments {
    /// What clients are answered:
    ///   upper    their text in upper case, as it comes
    ///   echo     their bytes
    ///   discard  nothing
    ///   hello    Hello and their address, then it closes
    ///   time     the local time, then it closes
    ///   sixteen  a farewell for 16 octets, then it closes
    ///   lines    each line in upper case
    ///   blocks   each block, a 4-byte length and so many bytes, in upper case
    ///   json     each line, a JSON value, with its strings in upper case
    ///   zlib     all that they send until its end, compressed
    ///   xmlrpc   calls of functions: add, upper, system.listMethods and others
    ///   busy     as lines, and each costs CPU time
    #[arg(long, env = "EVMUX_SERVICE", value_name = "NAME", default_value = "upper")]
    #[arg(help_heading = WHAT, verbatim_doc_comment)]
    service: Given,

    /// The way of waiting:
    ///   sequential  one connection at a time
    ///   threads     a thread for each connection
    ///   pool        some threads, each with one connection at a time
    ///   poll        one thread for all, with poll(2)
    ///   epoll       one thread for all, with epoll(7)
    #[arg(long, env = "EVMUX_MODEL", value_name = "NAME", default_value = "epoll")]
    #[arg(help_heading = WHAT, verbatim_doc_comment)]
    model: Given,

    /// pool: its threads
    #[arg(long, env = "EVMUX_THREADS", value_name = "N", default_value = "4")]
    #[arg(help_heading = WHAT)]
    threads: Given,

    /// epoll: its reactors, each on a thread; with more than one, another thread accepts
    #[arg(long, env = "EVMUX_REACTORS", value_name = "N", default_value = "1")]
    #[arg(help_heading = WHAT)]
    reactors: Given,

    /// hello: send TEXT, as it is, instead
    #[arg(long, env = "EVMUX_GREETING", value_name = "TEXT", allow_hyphen_values = true)]
    #[arg(help_heading = WHAT)]
    greeting: Option<Given>,

    /// upper, echo: answer the first bytes that come, then close
    #[arg(long, env = "EVMUX_ONCE", action = clap::ArgAction::SetTrue)]
    #[arg(help_heading = WHAT)]
    once: Given,

    /// busy: the CPU time that each line costs
    #[arg(long, env = "EVMUX_BUSY", value_name = "DURATION", default_value = "1ms")]
    #[arg(help_heading = WHAT)]
    busy: Given,

    /// Where to listen, may be repeated: HOST:PORT or tcp:HOST:PORT, IPv6 in brackets, port 0 for
    /// one that the system chooses; unix:PATH; udp:HOST:PORT for the services upper, echo, discard,
    /// hello and time, which answer each datagram with one
    #[arg(long, env = "EVMUX_LISTEN", value_name = "ADDR", default_value = "127.0.0.1:9000")]
    #[arg(help_heading = WHERE)]
    listen: Vec<Given>,

    /// Connections that may wait to be accepted; the kernel's somaxconn cuts it
    #[arg(long, env = "EVMUX_BACKLOG", value_name = "N", default_value = "4096")]
    #[arg(help_heading = WHERE)]
    backlog: Given,

    /// No TCP keep-alive: a client that vanished stays until --idle-timeout
    #[arg(long, env = "EVMUX_NO_KEEPALIVE", action = clap::ArgAction::SetTrue)]
    #[arg(help_heading = WHERE)]
    no_keepalive: Given,

    /// Open connections; one more is accepted and closed at once [default: the limit of open files
    /// less 32]
    #[arg(long, env = "EVMUX_MAX_CONNECTIONS", value_name = "N")]
    #[arg(help_heading = HOW_MUCH)]
    max_connections: Option<Given>,

    /// Bytes waiting for a slow reader at which it is no longer read from; reading goes on at half
    #[arg(long, env = "EVMUX_SEND_BUFFER_LIMIT", value_name = "SIZE", default_value = "1MiB")]
    #[arg(help_heading = HOW_MUCH)]
    send_buffer_limit: Given,

    /// lines, blocks, json, zlib, xmlrpc, busy: the longest line, block or body, or for zlib all,
    /// that a client may send
    #[arg(long, env = "EVMUX_MAX_FRAME", value_name = "SIZE", default_value = "1MiB")]
    #[arg(help_heading = HOW_MUCH)]
    max_frame: Given,

    /// A connection on which no byte moved for so long is closed [default: never]
    #[arg(long, env = "EVMUX_IDLE_TIMEOUT", value_name = "DURATION")]
    #[arg(help_heading = HOW_LONG)]
    idle_timeout: Option<Given>,

    /// A client that takes none of what waits for it for so long is cut off
    #[arg(long, env = "EVMUX_WRITE_TIMEOUT", value_name = "DURATION", default_value = "60s")]
    #[arg(help_heading = HOW_LONG)]
    write_timeout: Given,

    /// sixteen, lines, blocks, json, zlib, xmlrpc, busy: a client whose octets, line, block,
    /// request or input are begun, but not whole after so long, is closed
    #[arg(long, env = "EVMUX_FRAME_TIMEOUT", value_name = "DURATION", default_value = "60s")]
    #[arg(help_heading = HOW_LONG)]
    frame_timeout: Given,

    /// After SIGTERM or SIGINT: clients are still accepted for so long, with /readyz of --admin at
    /// 503, until the load balancer has noticed
    #[arg(long, env = "EVMUX_DRAIN_DELAY", value_name = "DURATION", default_value = "0s")]
    #[arg(help_heading = HOW_LONG)]
    drain_delay: Given,

    /// Then: what is still open after so long is cut off; a second signal ends
    /// at once
    #[arg(long, env = "EVMUX_DRAIN_TIMEOUT", value_name = "DURATION", default_value = "10s")]
    #[arg(help_heading = HOW_LONG)]
    drain_timeout: Given,

    /// Serve a page about the server on HTTP, HOST:PORT: / to look at, /metrics for Prometheus,
    /// /healthz and /readyz for supervisors and load balancers
    #[arg(long, env = "EVMUX_ADMIN", value_name = "ADDR")]
    #[arg(help_heading = TO_SEE)]
    admin: Option<Given>,

    /// At exit, write the counters to FILE as JSON
    #[arg(long, env = "EVMUX_SUMMARY", value_name = "FILE")]
    #[arg(help_heading = TO_SEE)]
    summary: Option<Given>,

    /// Record what the server does, and write it to FILE at exit and at SIGUSR1, for Perfetto
    /// (ui.perfetto.dev), Chrome (chrome://tracing) or 'evmux trace-text': the last 524288 events,
    /// in 36 MiB of memory, and 54 more while they are written
    #[arg(long, env = "EVMUX_TRACE", value_name = "FILE")]
    #[arg(help_heading = TO_SEE)]
    trace: Option<Given>,
}

const WHAT: &str = "What is served, and how";
const WHERE: &str = "Listening";
const HOW_MUCH: &str = "How much";
const HOW_LONG: &str = "How long";
const TO_SEE: &str = "To see what it does";

const AFTER_HELP: &str = "\
SIZE is written 4096, 64KiB or 1MB; DURATION 500ms, 30s or '1m 30s'. An option beats its variable. \
A variable that is empty, or that does not concern the service or the model, is ignored.

The log goes to stderr; RUST_LOG=debug says more.

Exit status: 0 after SIGTERM or SIGINT, 1 when something failed, 2 for a mistake in the options.";

impl Arguments {
    /// What the arguments amount to, or the first mistake in them.
    pub(super) fn options(self) -> Result<ServeOptions, Usage> {
        let service = self.service.read(Served::named)?;
        let model = self.model.read(model)?;
        let speaks_once = matches!(service, Served::Upper | Served::Echo);
        let long_frames = "the services lines, blocks, json, zlib, xmlrpc and busy";
        let framed = "the services sixteen, lines, blocks, json, zlib, xmlrpc and busy";

        let once = self.once.only_for("the services upper and echo", speaks_once)?;
        let busy = self.busy.only_for("the service busy", service == Served::Busy)?;
        let greeting = self
            .greeting
            .map(|greeting| greeting.only_for("the service hello", service == Served::Hello));
        let threads = self.threads.only_for("the model pool", model == Model::Pool)?;
        let reactors = self.reactors.only_for("the model epoll", model == Model::Epoll)?;
        let max_frame = self.max_frame.only_for(long_frames, service.has_long_frames())?;
        let frame_timeout = self.frame_timeout.only_for(framed, service.is_framed())?;

        let mut limits = Limits::default()
            .send_buffer(self.send_buffer_limit.read(size)?)
            .write_timeout(Some(self.write_timeout.read(timeout)?))
            .idle_timeout(read(self.idle_timeout.and_then(Given::set), timeout)?);
        if let Some(bytes) = read(max_frame, size)? {
            limits = limits.max_frame(bytes);
        }
        if let Some(after) = read(frame_timeout, timeout)? {
            limits = limits.frame_timeout(Some(after));
        }
        Ok(ServeOptions {
            service,
            greeting: greeting
                .transpose()?
                .flatten()
                .map(|greeting| greeting.text().as_bytes().to_vec()),
            once: read(once, switch)?.unwrap_or(false),
            busy: read(busy, duration)?.unwrap_or(Duration::ZERO),
            model,
            threads: read(threads, |text| count(text, MOST_THREADS))?,
            reactors: read(reactors, |text| count(text, MOST_THREADS))?,
            listen: addresses(self.listen, model, service)?,
            backlog: self.backlog.read(|text| count(text, MOST_BACKLOG))? as u32,
            keep_alive: !self.no_keepalive.read(switch)?,
            max_connections: read(self.max_connections.and_then(Given::set), |text| {
                count(text, MOST_CONNECTIONS)
            })?,
            limits,
            drain_delay: self.drain_delay.read(duration)?,
            drain_timeout: self.drain_timeout.read(duration)?,
            admin: read(self.admin.and_then(Given::set), admin)?,
            summary: file(self.summary),
            trace: file(self.trace),
        })
    }
}

/// More than a machine carries; a slip of the finger, not a pool.
const MOST_THREADS: usize = 65_536;
/// listen(2) takes an `int`.
const MOST_BACKLOG: usize = i32::MAX as usize;
/// What one process can have open, whatever its limit says.
const MOST_CONNECTIONS: usize = i32::MAX as usize;

fn read<T>(
    given: Option<Given>,
    read: impl FnOnce(&str) -> Result<T, String>,
) -> Result<Option<T>, Usage> {
    given.map(|given| given.read(read)).transpose()
}

fn file(given: Option<Given>) -> Option<PathBuf> {
    given.and_then(Given::set).map(|file| PathBuf::from(file.text()))
}

fn model(text: &str) -> Result<Model, String> {
    text.parse().map_err(|_| {
        let names = Model::ALL.map(Model::name).join(", ");
        format!("there is no such model; choose one of {names}")
    })
}

fn admin(text: &str) -> Result<Address, String> {
    let address = text.parse::<Address>().map_err(|why| why.problem.to_string())?;
    match address {
        Address::Tcp { .. } => Ok(address),
        _ => Err("the admin page is served on TCP only, say HOST:PORT".into()),
    }
}

/// Where to listen, each address once or more.
fn addresses(given: Vec<Given>, model: Model, service: Served) -> Result<Vec<Address>, Usage> {
    let mut addresses = Vec::new();
    let mut streams = 0;
    for given in Given::each(given) {
        let address =
            given.read(|text| text.parse::<Address>().map_err(|why| why.problem.to_string()))?;
        if matches!(address, Address::Udp { .. }) {
            if !service.answers_datagrams() {
                let name = service.name();
                return Err(given.wrong(&format!(
                    "the service {name} is not for UDP; upper, echo, discard, hello and time are"
                )));
            }
        } else {
            streams += 1;
            if streams > 1 && model == Model::Sequential {
                let why = "the model sequential waits at one address only, beside those of UDP";
                return Err(given.wrong(why));
            }
        }
        addresses.push(address);
    }
    Ok(addresses)
}
