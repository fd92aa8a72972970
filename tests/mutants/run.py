"""Puts each deliberate bug of list.txt into a copy of the tree, and looks whether the tests see it.

    run.py TREE WORK [NAME-PART...]     writes TREE/docs/mutants.md when all were tried

The copy and the build are kept in WORK, so that each bug costs one incremental build. One that makes
the tests hang is seen, too: they have five minutes.
"""

import json
import os
import pathlib
import re
import shutil
import statistics
import subprocess
import sys
import time

SEEDS = 1000
PATIENCE = 300


def mutants(tree):
    text = (tree / "tests/mutants/list.txt").read_text()
    for part in text.split("\n= ")[1:]:
        lines = part.splitlines()
        said = {}
        for key in ("file", "seen by"):
            said[key] = next(line[len(key) + 1:] for line in lines if line.startswith(key + " "))
        old, new = ("\n".join(line[1:] for line in lines[1:] if line.startswith(mark))
                    for mark in "-+")
        yield lines[0], said["file"], said["seen by"], old, new


def copy(tree, work):
    """The tree as it stands, with the times of its files, so that cargo builds what has changed."""
    for name in ("src", "tests", "examples", "benches", "fuzz"):
        shutil.rmtree(work / name, ignore_errors=True)
        shutil.copytree(tree / name, work / name)
    for name in ("Cargo.toml", "Cargo.lock", "README.md"):
        shutil.copy2(tree / name, work / name)


def build(work, target):
    """The test program; None if the mutant does not compile, which is an error of the list."""
    command = ["cargo", "test", "--no-run", "--no-default-features", "--features", "sim",
               "--message-format=json", "--quiet", *target]
    environment = dict(os.environ, CARGO_TARGET_DIR=str(work / "build"),
                       CARGO_PROFILE_DEV_OPT_LEVEL="0", CARGO_PROFILE_DEV_DEBUG="0",
                       RUSTFLAGS="-Awarnings")
    done = subprocess.run(command, cwd=work, env=environment, stdout=subprocess.PIPE,
                          stderr=subprocess.PIPE, text=True)
    if done.returncode != 0:
        print(done.stdout[-3000:], done.stderr[-3000:], file=sys.stderr)
        return None
    built = [json.loads(line) for line in done.stdout.splitlines() if line.startswith("{")]
    return [it["executable"] for it in built if it.get("executable")][-1]


def seen(work, by):
    """How the tests fail: (seed, text); None if they pass."""
    kind, *rest = by.split()
    if kind == "simulation":
        target, filters = ["--test", "simulation"], []
    elif kind == "test":
        target, filters = ["--test", rest[0]], rest[1:]
    else:
        target, filters = ["--lib"], rest
    program = build(work, target)
    if program is None:
        raise SystemExit("it does not compile")
    environment = dict(os.environ, EVMUX_SIM_SEEDS=str(SEEDS), RUST_BACKTRACE="0",
                       PROPTEST_FAILURE_PERSISTENCE="off")
    try:
        done = subprocess.run([program, *filters], cwd=work, env=environment, text=True,
                              stdout=subprocess.PIPE, stderr=subprocess.STDOUT, timeout=PATIENCE)
    except subprocess.TimeoutExpired:
        return None, "the tests hang"
    if done.returncode == 0:
        return None
    found = [(int(seed), what) for seed, what in re.findall(r"^seed (\d+): (.*)", done.stdout, re.M)]
    if found:
        return min(found)
    failed = re.findall(r"^test (\S+).* \.\.\. FAILED", done.stdout, re.M)
    return None, f"`{failed[0]}`" if failed else "the program of the tests ends"


def page(rows):
    by_seed = [seed + 1 for _, _, by, seed, _ in rows if by == "simulation" and seed is not None]
    lines = [
        "# Mutants: the bugs that the tests were shown", "",
        "Each line is a bug that was put into the engine on purpose, and who saw it. Written by",
        "`make mutants` from [the list](../tests/mutants/list.txt); `make test` checks that each still",
        "fits the code. The simulation runs each of its tests for at most "
        f"{SEEDS} seeds; the number is that of",
        "the seeds that it took the first of them. What it said is that of the seed.", "",
        f"{len(rows)} bugs, all seen. Of those that are the simulation's, the median was seen at seed "
        f"{statistics.median(by_seed):.0f}, the last at {max(by_seed)}.", "",
        "| bug | file | seen by | seeds | what they said |", "|---|---|---|---|---|",
    ]
    for name, file, by, seed, what in rows:
        what = what.replace("|", "/")
        what = what if len(what) <= 110 else what[:107] + "…"
        count = "" if seed is None else seed + 1
        lines.append(f"| {name} | `{file}` | {by} | {count} | {what} |")
    return "\n".join(lines) + "\n"


def others(path):
    """What the page says of the bugs of `make cargo-mutants`, which is written by hand."""
    heading = "\n## Mutants made by a program\n"
    _, found, behind = path.read_text().partition(heading)
    return found + behind


def main():
    tree, work = (pathlib.Path(path).resolve() for path in sys.argv[1:3])
    wanted = sys.argv[3:]
    work.mkdir(parents=True, exist_ok=True)
    copy(tree, work)
    rows, survivors = [], []
    for name, file, by, old, new in mutants(tree):
        if wanted and not any(part in name for part in wanted):
            continue
        path = work / file
        text = path.read_text()
        if text.count(old) != 1:
            raise SystemExit(f"{name}: its text stands in {file} {text.count(old)} times")
        path.write_text(text.replace(old, new))
        began = time.monotonic()
        result = seen(work, by)
        path.write_text(text)
        took = time.monotonic() - began
        if result is None:
            survivors.append(name)
            print(f"SURVIVED  {name} ({by}), {took:.0f} s", flush=True)
            continue
        seed, what = result
        rows.append((name, file, by, seed, what))
        at = "" if seed is None else f" at seed {seed}"
        print(f"seen{at}: {name}: {what[:120]}, {took:.0f} s", flush=True)
    if survivors:
        raise SystemExit(f"{len(survivors)} were not seen: {'; '.join(survivors)}")
    if not wanted:
        path = tree / "docs/mutants.md"
        path.write_text(page(rows) + others(path))


main()
