"""The program under clients of every kind, polite ones and such as mean harm, for as long as you say.

    EVMUX=target/release/evmux soak.py MINUTES [MODEL]

Every answer to a polite client is compared. At the end, when all have gone, the descriptors, threads
and memory of the server are to be what they were after the first seconds, and it ends in order.
"""

import os
import pathlib
import random
import re
import signal
import socket
import struct
import subprocess
import sys
import tempfile
import threading
import time

CLIENTS = 24
WARM_UP = 5
# The C library keeps some of what was freed; a leak of ten bytes a connection is more in a minute.
SLACK_KIB = 4096


class Server:
    def __init__(self, model, folder):
        self.log = open(folder / "log", "w+")
        self.path = folder / "socket"
        command = [os.environ["EVMUX"], "serve", "--service", "lines", "--model", model,
                   "--listen", "127.0.0.1:0", "--listen", f"unix:{self.path}",
                   "--idle-timeout", "2s", "--write-timeout", "2s", "--frame-timeout", "2s",
                   "--send-buffer-limit", "64KiB", "--max-frame", "4KiB"]
        self.process = subprocess.Popen(command, stdout=subprocess.PIPE, stderr=self.log, text=True)
        line = self.process.stdout.readline()
        self.process.stdout.readline()
        self.port = int(re.search(r":(\d+) \(", line).group(1))

    def connect(self, draw):
        if draw.random() < 0.3:
            it = socket.socket(socket.AF_UNIX)
            it.settimeout(30)
            it.connect(str(self.path))
        else:
            it = socket.create_connection(("127.0.0.1", self.port), timeout=30)
        return it

    def held(self):
        """Descriptors, threads, and memory in KiB."""
        proc = pathlib.Path(f"/proc/{self.process.pid}")
        status = (proc / "status").read_text()
        number = lambda name: int(re.search(rf"^{name}:\s+(\d+)", status, re.M).group(1))
        return len(list((proc / "fd").iterdir())), number("Threads"), number("VmRSS")


def lines(draw, most=60):
    return [bytes(draw.choices(b"abc xyz", k=draw.randrange(300))) + b"\n"
            for _ in range(draw.randrange(1, most))]


def rest(it):
    got = b""
    while piece := it.recv(65536):
        got += piece
    return got


# ── those who do their part, and must get every byte ─────────────────────────────────────────────

def in_lock_step(it, draw):
    for line in lines(draw):
        it.sendall(line)
        got = b""
        while not got.endswith(b"\n"):
            piece = it.recv(65536)
            assert piece, "the end in mid-answer"
            got += piece
        assert got == line.upper(), f"{got!r} for {line!r}"


def all_at_once(it, draw):
    said = b"".join(lines(draw, 400))
    sender = threading.Thread(target=lambda: (it.sendall(said), it.shutdown(socket.SHUT_WR)))
    sender.start()
    got = rest(it)
    sender.join()
    assert got == said.upper(), f"{len(got)} of {len(said)} bytes, or others"


def in_pieces(it, draw):
    said = b"".join(lines(draw, 6))
    for at in range(0, len(said), 7):
        it.sendall(said[at:at + 7])
    it.shutdown(socket.SHUT_WR)
    got = rest(it)
    assert got == said.upper(), f"{len(got)} of {len(said)} bytes, or others"


def slow_reader(it, draw):
    said = b"".join(lines(draw, 40))
    it.sendall(said)
    it.shutdown(socket.SHUT_WR)
    got = b""
    while piece := it.recv(512):
        got += piece
        time.sleep(0.002)
    assert got == said.upper(), f"{len(got)} of {len(said)} bytes, or others"


def too_long(it, draw):
    it.sendall(b"good\n" + b"x" * draw.randrange(4097, 20000))
    got = rest(it)
    assert got == b"GOOD\n", f"{got!r}"


# ── those who do not ─────────────────────────────────────────────────────────────────────────────

def resets(it, draw):
    it.sendall(b"".join(lines(draw)))
    if it.family == socket.AF_INET:
        it.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, struct.pack("ii", 1, 0))


def says_nothing(it, draw):
    rest(it)


def never_whole(it, draw):
    for _ in range(20):
        it.sendall(b"x")
        time.sleep(0.3)


def never_reads(it, draw):
    for _ in range(2000):
        it.sendall(b"y" * 4000 + b"\n")


def goes_at_once(it, draw):
    pass


POLITE = [in_lock_step, all_at_once, in_pieces, slow_reader, too_long]
OTHERS = [resets, says_nothing, never_whole, never_reads, goes_at_once, goes_at_once]


class Soak:
    def __init__(self, server):
        self.server, self.wrong, self.counts = server, [], {}
        self.until, self.lock = 0, threading.Lock()

    def client(self, number):
        draw = random.Random(number)
        while time.monotonic() < self.until:
            manner = draw.choice(POLITE if draw.random() < 0.6 else OTHERS)
            try:
                with self.server.connect(draw) as it:
                    manner(it, draw)
            except OSError as error:
                # Who harms is cut off; the others are not.
                if manner in POLITE:
                    self.note_wrong(f"{manner.__name__}: {error}")
            except AssertionError as error:
                self.note_wrong(f"{manner.__name__}: {error}")
            with self.lock:
                self.counts[manner.__name__] = self.counts.get(manner.__name__, 0) + 1

    def note_wrong(self, what):
        with self.lock:
            self.wrong.append(what)

    def run(self, seconds):
        """Lets the clients loose, waits until the server has got over them; what it holds then."""
        self.until = time.monotonic() + seconds
        clients = [threading.Thread(target=self.client, args=(it,)) for it in range(CLIENTS)]
        for client in clients:
            client.start()
        for client in clients:
            client.join()
        # The last of them are lingered with for two seconds, and the pauses of the threads end.
        time.sleep(6)
        return self.server.held()


def main():
    minutes, model = float(sys.argv[1]), (sys.argv[2:] or ["epoll"])[0]
    with tempfile.TemporaryDirectory() as folder:
        server = Server(model, pathlib.Path(folder))
        soak = Soak(server)
        before = soak.run(WARM_UP)
        after = soak.run(minutes * 60)
        server.process.send_signal(signal.SIGTERM)
        status = server.process.wait(30)
        server.log.seek(0)
        last = server.log.read().strip().splitlines()[-1:]
    for manner in POLITE + OTHERS[:-1]:
        print(f"{soak.counts.get(manner.__name__, 0):8} {manner.__name__}")
    for name, was, now in zip(["descriptors", "threads", "memory, KiB"], before, after):
        print(f"{name}: {was} before, {now} after")
    print(*last)
    problems = soak.wrong[:10]
    if after[0] != before[0] or after[1] != before[1]:
        problems.append("descriptors or threads are left")
    if after[2] > before[2] + SLACK_KIB:
        problems.append(f"{after[2] - before[2]} KiB of memory are left")
    if status != 0:
        problems.append(f"the server ended with status {status}")
    for problem in problems:
        print(f"soak: {problem}", file=sys.stderr)
    raise SystemExit(1 if problems else 0)


main()
