#!/usr/bin/env python3
"""Draws what `evmux serve --trace FILE` wrote, as SVG on stdout.

    timeline.py [OPTIONS] FILE... >picture.svg

From top to bottom: the threads and what they did, the connections and their stages, the counters
as curves. Several files stand one below the other, to one scale. Where there are many tracks, only
those asked for have rows of their own; each other one is a line, so that none is left out.

A viewer such as Perfetto shows more, but not on a page, and not to who has only that.
"""

import argparse
import json
import sys
from collections import defaultdict

from drawing import MARKS, ROW, SLICES, STAGES, Mark, Picture, Slice, clean, nested, size, took

# More tracks than these are lines.
FEW = 8


class Track:
    """A thread and what it did, or a connection and its stages."""

    def __init__(self, name, peer=""):
        self.name, self.peer = name, peer
        self.slices, self.marks, self.connections = [], [], set()
        # Of a connection: when its runs or calls that moved bytes were over.
        self.moved, self.received, self.sent = [], 0, 0


class Trace:
    """A file. Its times are microseconds."""

    def __init__(self, path):
        with open(path, encoding="utf-8") as file:
            document = json.load(file)
        self.server = clean(document["otherData"]["server"])
        self.threads, self.connections, self.counters = {}, {}, defaultdict(list)
        self.opened, self.closed = [], []
        stages = {}
        for event in document["traceEvents"]:
            self.take(event, stages)

    def take(self, event, stages):
        kind, name, at = event["ph"], clean(event["name"]), float(event["ts"])
        args = event.get("args", {})
        number = args.get("connection")
        if kind == "M" and name == "thread_name":
            self.threads[event["tid"]] = Track(clean(args["name"]))
        elif kind == "X":
            thread, end = self.threads[event["tid"]], at + float(event["dur"])
            thread.slices.append(Slice(name, at, end, args))
            if connection := self.connections.get(number):
                thread.connections.add(number)
                connection.received += args["received"]
                connection.sent += args["sent"]
                if args["received"] or args["sent"]:
                    connection.moved.append(end)
        elif kind == "i":
            self.threads[event["tid"]].marks.append(Mark(name, at, number))
        elif kind == "C":
            self.counters[name].append((at, next(iter(args.values()))))
        elif kind in ("b", "n", "e"):
            self.live(kind, name, at, int(event["id"], 16), args, stages)

    def live(self, kind, name, at, number, args, stages):
        """A connection begins, changes its stage or ends. Its life encloses its stages."""
        if number not in self.connections:
            self.connections[number] = Track(name, clean(args.get("peer", "")))
            self.opened.append(at)
            return
        track = self.connections[number]
        if kind == "n":
            track.marks.append(Mark(name, at, number))
        elif kind == "b":
            stages[number] = (name, at)
        elif number in stages:
            stage, begin = stages.pop(number)
            track.slices.append(Slice(stage, begin, at, {}))
        else:
            self.closed.append(at)
            if "reason" in args:
                track.marks.append(Mark("closed", at, number))

    def moments(self):
        """When each thing on a thread began."""
        for thread in self.threads.values():
            yield from thread.marks
            for slice in thread.slices:
                yield Mark(slice.name, slice.begin, slice.args.get("connection"))

    def zero(self, options):
        """The moment that is 0 in the picture."""
        if options.at is None:
            return min(self.opened or [moment.at for moment in self.moments()] or [0])
        times = sorted(
            moment.at
            for moment in self.moments()
            if moment.name == options.at and options.of in (None, moment.connection)
        )
        index = options.nth - (options.nth > 0)
        if not -len(times) <= index < len(times):
            raise ValueError(f"it has {len(times)} of {options.at!r}")
        return times[index]

    def end(self):
        """When nobody was connected any more."""
        return max(self.closed or [moment.at for moment in self.moments()] or [0])

    def busiest(self, count):
        """The numbers of those connections that moved most."""

        def moved(number):
            return -self.connections[number].received - self.connections[number].sent

        return sorted(sorted(self.connections, key=moved)[:count])


def panel(picture, trace, options):
    """All of a trace."""
    picture.begin_panel(trace.server, trace.zero(options))
    shown = options.connections
    if shown is None:
        few = len(trace.connections) <= FEW
        shown = trace.busiest(FEW if few else options.busiest)
    rows, lines = [], []
    for track in trace.threads.values():
        # One that has no connection accepts those of others.
        is_asked_for = track.connections & set(shown) or not track.connections
        is_row = track.slices and (is_asked_for or len(trace.threads) <= FEW)
        (rows if is_row else lines).append(track)
    for track in rows:
        # The marks of a connection that is shown stand there.
        thread(picture, track, [mark for mark in track.marks if mark.connection not in shown])
    picture.lines(lines, SLICES, "threads")
    for number in shown:
        if number not in trace.connections:
            raise ValueError(f"it has no connection {number}")
        connection(picture, trace.connections[number])
    others = [track for number, track in trace.connections.items() if number not in shown]
    picture.lines(others, STAGES, "connections")
    for name, samples in trace.counters.items():
        if options.curves is None or name in options.curves:
            picture.curve(name, samples)
    picture.end_panel()


def thread(picture, track, marks):
    """Its slices, what encloses above what is enclosed."""
    picture.begin_track(track.name, [f"thread {track.name}"])
    for depth, level in enumerate(nested(track.slices)):
        # Deep down there are moments, such as the first run within an accept.
        is_thin = depth > 1 and not any(picture.is_wide(slice) for slice in level)
        picture.row(level, SLICES, words, ROW // 3 if is_thin else ROW)
    picture.marks(marks, MARKS)
    picture.end_track()


def connection(picture, track):
    whose = f"{track.name} from {track.peer}" if track.peer else track.name
    moved = f"received {size(track.received)}, sent {size(track.sent)}"
    picture.begin_track(track.name, [f"{whose}: {moved}", whose, track.name])
    picture.row(track.slices, STAGES, words)
    picture.moved(track.moved)
    picture.marks(track.marks, MARKS)
    picture.end_track()


def words(slice):
    """What a bar may say, the longest first."""
    if (number := slice.args.get("connection")) is not None:
        ways = [way for way in ("received", "sent") if slice.args[way]]
        moved = ", ".join(f"{way} {size(slice.args[way])}" for way in ways) or "nothing moves"
        short = f"{slice.name} {number}"
        return [
            f"{slice.name}, connection {number}: {moved}, {took(slice)}",
            f"{short}: {moved}, {took(slice)}",
            f"{short}: {moved}",
            short,
            str(number),
        ]
    if (clients := slice.args.get("clients")) is not None:
        return [f"{slice.name}: {clients} client{'s' if clients != 1 else ''}", slice.name]
    return [f"{slice.name}, {took(slice)}", slice.name]


def arguments():
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("files", nargs="+", metavar="FILE")
    parser.add_argument(
        "--at",
        metavar="NAME",
        help="what is at 0: a run, a partial send, …; else the first connection's opening",
    )
    parser.add_argument("--of", metavar="N", type=int, help="one of this connection")
    parser.add_argument(
        "--nth", metavar="N", type=int, default=1, help="the Nth one, from the end if negative"
    )
    parser.add_argument("--before", metavar="MS", type=float, help="what is shown before 0")
    parser.add_argument(
        "--after",
        metavar="MS",
        type=float,
        help="what is shown after it; else all until the last connection is closed",
    )
    parser.add_argument(
        "--connections",
        metavar="N,…",
        type=lambda text: [int(number) for number in text.split(",") if number],
        help=f"who has a row; else all, when there are {FEW} at most",
    )
    parser.add_argument(
        "--busiest",
        metavar="N",
        type=int,
        default=0,
        help="when there are more, those that moved most have one",
    )
    parser.add_argument(
        "--curves",
        metavar="NAME,…",
        type=lambda text: text.split(","),
        help="which counters are drawn; else all",
    )
    return parser.parse_args()


def fail(path, why):
    # A missing name says nothing by itself.
    kind = "" if isinstance(why, (OSError, ValueError)) else f"{type(why).__name__}: "
    sys.exit(f"timeline.py: cannot draw {path}: {kind}{why}")


def main():
    options = arguments()
    traces, ends = [], []
    for path in options.files:
        try:
            traces.append(Trace(path))
            ends.append(traces[-1].end() - traces[-1].zero(options))
        except (OSError, ValueError, LookupError, TypeError, AttributeError) as why:
            fail(path, why)
    after = 1.02 * max(ends) if options.after is None else 1000 * options.after
    before = 0.02 * after if options.before is None else 1000 * options.before
    if before + after <= 0:
        sys.exit("timeline.py: there is no time between what is before and what is after")
    picture = Picture("; ".join(trace.server for trace in traces), before, after)
    for path, trace in zip(options.files, traces):
        try:
            panel(picture, trace, options)
        except (ValueError, LookupError, TypeError, AttributeError) as why:
            fail(path, why)
    print(picture.finish())


if __name__ == "__main__":
    main()
