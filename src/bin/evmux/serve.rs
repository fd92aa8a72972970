//! `evmux serve`: the library's server, with a service by name.
//!
//! A service is a type, and so has its own copy of the serving loops of all models. Those whose
//! speed is measured have one, in which nothing is called through a pointer; the others share the
//! copy for boxed handlers, since fifteen of them made the program three times as slow to build.

use std::io;
use std::path::Path;
use std::time::Duration;

use evmux::services::{
    Registry, blocks, busy, datagrams, discard, echo, greeting, hello, json, lines, once, sixteen,
    time, upper, xmlrpc, zlib,
};
use evmux::{
    Address, CloseReason, DatagramHandler, Handler, ListenOptions, LocalAddress, Peer, Server,
    Service, Snapshot, raise_descriptor_limit,
};
use log::{info, warn};

use crate::admin::Admin;
use crate::arguments::{ServeOptions, Served};
use crate::clocks;
use crate::failure::Failure;
use crate::line_queue::LineQueue;
use crate::signals;
use crate::summary::Summary;
use crate::trace::{self, TraceFile};

/// Serves until a signal ends it.
pub(crate) fn serve(options: ServeOptions, stderr: &LineQueue) -> Result<(), Failure> {
    let cost = options.busy;
    match options.service {
        Served::Upper if options.once => run(boxed(once(upper)), options, stderr),
        Served::Upper => run(upper, options, stderr),
        Served::Echo if options.once => run(boxed(once(echo)), options, stderr),
        Served::Echo => run(echo, options, stderr),
        Served::Lines => run(lines, options, stderr),
        Served::Blocks => run(blocks, options, stderr),
        Served::Discard => run(boxed(discard), options, stderr),
        Served::Hello => match options.greeting.clone() {
            Some(text) => run(boxed(greeting(text)), options, stderr),
            None => run(boxed(hello), options, stderr),
        },
        Served::Time => run(boxed(time(clocks::local_time)), options, stderr),
        Served::Sixteen => run(boxed(sixteen), options, stderr),
        Served::Json => run(boxed(json), options, stderr),
        Served::Zlib => run(boxed(zlib), options, stderr),
        Served::Xmlrpc => run(boxed(xmlrpc(Registry::standard())), options, stderr),
        Served::Busy => run(boxed(busy(move || clocks::use_processor(cost))), options, stderr),
    }
}

pub(crate) type Boxed = Box<dyn Fn(&Peer) -> Box<dyn Handler> + Send + Sync>;

/// The same service, as one type for all.
pub(crate) fn boxed<S>(service: S) -> Boxed
where
    S: Service + Send + Sync + 'static,
    S::Handler: 'static,
{
    Box::new(move |peer| Box::new(service.handler(peer)))
}

fn run<S>(service: S, options: ServeOptions, stderr: &LineQueue) -> Result<(), Failure>
where
    S: Service + Send + Sync + 'static,
{
    if let Err(why) = raise_descriptor_limit() {
        warn!("the limit of open files stays as it is: {why}");
    }
    let summary = options.summary.as_deref().map(Summary::open).transpose()?;
    let trace = options.trace.as_deref().map(|path| open_trace(path, &options)).transpose()?;
    // Before the listeners, so that somebody can say that they are not all bound yet.
    let admin = options.admin.as_ref();
    let admin = admin
        .map(|address| Admin::start(address, options.service.name(), options.model.name()))
        .transpose()?;
    let mut server = bind(service, &options, trace.as_ref())?;
    let watch = admin.as_ref().map(|_| server.watch()).transpose()?;
    let ending = signals::drain_on_signal(server.stop(), options.drain_delay)
        .and_then(|ending| trace::write_on_signal(trace.clone()).map(|()| ending))
        .map_err(|why| Failure::new("cannot wait for signals", why))?;
    if let (Some(admin), Some(watch)) = (&admin, watch) {
        admin.show(watch, ending);
    }
    let stdout = announce(server.local_addresses(), admin.as_ref(), &options);

    let served = server.run();
    // What went before an error is what one wants to see.
    let traced = trace.map_or(Ok(()), |trace| trace.write());
    let counted = served?;

    if let Some(admin) = admin {
        admin.end();
    }
    stderr.settle();
    report(&counted, options.drain_timeout);
    if let Some(stdout) = stdout {
        stdout.settle();
    }
    summary.map_or(Ok(()), |summary| summary.write(&counted)).and(traced)
}

fn open_trace(path: &Path, options: &ServeOptions) -> Result<TraceFile, Failure> {
    TraceFile::open(path, format!("service {}, model {}", options.service.name(), options.model))
}

fn bind<S>(
    service: S,
    options: &ServeOptions,
    trace: Option<&TraceFile>,
) -> Result<Server<S>, evmux::Error>
where
    S: Service + Send + Sync + 'static,
{
    let listen_options =
        ListenOptions::default().backlog(options.backlog).keep_alive(options.keep_alive);
    let mut builder = Server::builder(service)
        .model(options.model)
        .limits(options.limits.clone())
        .listen_options(listen_options)
        .drain_timeout(options.drain_timeout);
    if let Some(threads) = options.threads {
        builder = builder.threads(threads);
    }
    if let Some(reactors) = options.reactors {
        builder = builder.reactors(reactors);
    }
    if let Some(most) = options.max_connections {
        builder = builder.max_connections(most);
    }
    if let Some(trace) = trace {
        builder = builder.trace(trace.recorder());
    }
    for address in &options.listen {
        let address = address.clone();
        builder = match (&address, datagram_handler(options)) {
            (Address::Udp { .. }, Some(handler)) => builder.datagrams(address, handler),
            _ => builder.listen(address),
        };
    }
    builder.build()
}

/// The service for one UDP socket, if it is for datagrams.
fn datagram_handler(options: &ServeOptions) -> Option<Box<dyn DatagramHandler + Send>> {
    Some(match options.service {
        Served::Upper => Box::new(datagrams::upper),
        Served::Echo => Box::new(datagrams::echo),
        Served::Discard => Box::new(datagrams::discard),
        Served::Hello => match options.greeting.clone() {
            Some(text) => Box::new(datagrams::greeting(text)),
            None => Box::new(datagrams::hello),
        },
        Served::Time => Box::new(datagrams::time(clocks::local_time)),
        Served::Sixteen
        | Served::Lines
        | Served::Blocks
        | Served::Json
        | Served::Zlib
        | Served::Xmlrpc
        | Served::Busy => return None,
    })
}

/// Says on stdout where the server listens, without waiting for whoever reads that.
fn announce(
    addresses: &[LocalAddress],
    admin: Option<&Admin>,
    options: &ServeOptions,
) -> Option<LineQueue> {
    let stdout = LineQueue::to(io::stdout(), "stdout")
        .inspect_err(|why| warn!("cannot say on stdout where the server listens: {why}"))
        .ok()?;
    for address in addresses {
        let (service, model) = (options.service.name(), options.model);
        let line = format!("evmux: listening on {address} (service {service}, model {model})\n");
        stdout.push(line.as_bytes());
    }
    if let Some(admin) = admin {
        stdout.push(format!("evmux: admin on http://{}\n", admin.address()).as_bytes());
    }
    Some(stdout)
}

/// The last lines of the log.
fn report(counted: &Snapshot, drain_timeout: Duration) {
    let cut = counted.closed(&CloseReason::DrainTimeout);
    if cut > 0 {
        let after = humantime::format_duration(drain_timeout);
        warn!("still open at the drain timeout of {after}, and cut off: {cut}");
    }
    info!(
        "served {} connections, {} bytes in, {} out, {} receives, {} sends, {} waits",
        counted.opened,
        counted.bytes_received,
        counted.bytes_sent,
        counted.receives,
        counted.sends,
        counted.waits
    );
}
