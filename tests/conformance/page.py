"""Makes docs/conformance.md of what `cargo test --test conformance` printed, on standard input.

A cell that has neither a test nor a reason is an error, and so is a test that failed or one that has
no cell: the page cannot promise what was not tried.
"""

import re
import sys

MODELS = ["sequential", "threads", "pool", "poll", "epoll"]
KINDS = {
    "stream": "a stream: what comes in goes out",
    "framed": "frames, each answered when it is whole",
    "closing": "the server closes behind its answer",
}
SITUATIONS = ["fragmented", "half_close", "slow_reader", "reset", "over_long", "idle", "drain",
              "exhaustion"]
SERVICES = ["upper", "echo", "discard", "hello", "time", "sixteen", "blocks", "lines", "json", "zlib",
            "busy", "xmlrpc"]
TALKS = ["whole", "byte_by_byte", "half_close", "over_long"]

REASONS = [
    # What the cell must fit, and why it cannot be.
    (r"stream::\w+::\w+::over_long", "a", "A stream has no frame that could be too long."),
    (r"\w+::sequential::\w+::exhaustion", "b",
     "It holds one connection at a time: descriptors cannot run out."),
    (r"\w+::\w+::unix::exhaustion", "c",
     "Descriptors run out for a process, whatever its sockets are: it is tried over TCP."),
    (r"(upper|echo|discard)::\w+::over_long", "a", None),
    (r"(hello|time)::\w+::over_long", "d", "It does not listen: nothing can be too long for it."),
]


def reason(cell):
    return next((mark for pattern, mark, _ in REASONS if re.fullmatch(pattern, cell)), None)


def main():
    results = dict(re.findall(r"^test (\S+) \.\.\. (ok|FAILED|ignored)", sys.stdin.read(), re.M))
    results.pop("support::child::is_here", None)
    failed = [name for name, result in results.items() if result != "ok"]
    if failed or not results:
        raise SystemExit(f"no page: {len(failed)} of {len(results)} failed: {failed}")
    left, tried, excused = set(results), 0, 0

    def shown(cell, test, source):
        nonlocal tried, excused
        if test in results:
            left.discard(test)
            tried += 1
            return f"[yes](../tests/conformance/{source})"
        mark = reason(cell)
        if mark is None:
            raise SystemExit(f"{cell} has neither a test nor a reason")
        excused += 1
        return mark

    body = []
    for kind, what in KINDS.items():
        body += ["", f"## {what[0].upper()}{what[1:]}", "",
                 "| model, transport | " + " | ".join(name.replace("_", " ") for name in SITUATIONS) + " |",
                 "|---" * (len(SITUATIONS) + 1) + "|"]
        for model in MODELS:
            for transport in ["tcp", "unix"]:
                row = [shown(cell, cell, "situations.rs") for cell in
                       (f"{kind}::{model}::{transport}::{name}" for name in SITUATIONS)]
                body.append(f"| `{model}`, {transport} | " + " | ".join(row) + " |")
    body += ["", "## Services", "",
             "| service, model | " + " | ".join(name.replace("_", " ") for name in TALKS) + " |",
             "|---" * (len(TALKS) + 1) + "|"]
    for service in SERVICES:
        for model in ["threads", "epoll"]:
            row = [shown(f"{service}::{model}::{name}",
                         f"services::service::{service}::{model}::{name}", "services.rs")
                   for name in TALKS]
            body.append(f"| `{service}`, `{model}` | " + " | ".join(row) + " |")
    if left:
        raise SystemExit(f"these tests have no cell: {sorted(left)}")
    head = [
        "# Conformance", "",
        "Each kind of handler under each model over each transport in each situation, and each service in",
        "four of them. Written by `make conformance` from the names and results of",
        "[its tests](../tests/conformance/main.rs), of which `make test` runs all: "
        f"{tried} cells were tried and",
        f"hold, {excused} cannot be, for the reasons below. What a claim means in depth is tried in",
        "[tests/sockets](../tests/sockets/main.rs); UDP has no connections, and tests of its own there.", "",
        "- *fragmented*: what the client says comes byte by byte.",
        "- *half close*: it finishes behind its last byte, and reads 300 kB of answers to the end.",
        "- *slow reader*: it reads 400 kB in small pieces, with pauses, past a small send limit.",
        "- *reset*: one client resets in mid-request, and another one is served.",
        "- *over long*: what came before a frame that is too long is answered, and then comes the end.",
        "- *idle*: a client that says nothing is closed in order.",
        "- *drain*: what had begun is answered, and the server ends.",
        "- *exhaustion*: 70 clients where there are 48 descriptors; afterwards clients are served again.",
        "",
        "Where a letter stands, the cell cannot be:", "",
    ]
    head += [f"- *{mark}*: {text}" for _, mark, text in REASONS if text]
    print("\n".join(head + body))


main()
