"""The server as the peers of these tests find it: a process that says where it listens."""

import contextlib
import os
import re
import signal
import socket
import subprocess
import time
import unittest

MODELS = ["sequential", "threads", "pool", "poll", "epoll"]

# Long enough for a busy machine; who waits so long has failed.
PATIENCE = 30

READY = re.compile(
    r"evmux: listening on (?:tcp|udp) (\S+):(\d+) \(service (\w+), model (\w+)\)\n"
)


class Server:
    """`evmux serve` on a port that the kernel chooses. Leaving the block drains it."""

    def __init__(self, service, model, *options, listen="127.0.0.1:0", stderr=None, **variables):
        self.service, self.model, self.terminated = service, model, False
        self.killed = False
        command = [os.environ["EVMUX"], "serve", "--service", service, "--model", model]
        command += ["--listen", listen, *options]
        # That a client is refused is not news here; a variable that is set says more.
        environment = {"RUST_LOG": "error", **os.environ, **variables}
        self.process = subprocess.Popen(
            command, stdout=subprocess.PIPE, stderr=stderr, text=True, env=environment
        )
        line = self.process.stdout.readline()
        ready = READY.fullmatch(line)
        if ready is None or ready.group(3, 4) != (service, model):
            self.process.kill()
            self.process.wait()
            self.process.stdout.close()
            raise AssertionError(f"not the line that says where it listens: {line!r}")
        self.host, self.port = ready.group(1).strip("[]"), int(ready.group(2))

    def connect(self):
        return socket.create_connection((self.host, self.port), timeout=PATIENCE)

    def admin(self):
        """Where the admin page is, of a server that was started with one; asked once."""
        line = self.process.stdout.readline()
        ready = re.fullmatch(r"evmux: admin on (http://\S+)\n", line)
        if ready is None:
            raise AssertionError(f"not the line that says where the admin page is: {line!r}")
        return ready.group(1)

    def terminate(self):
        if self.process.poll() is None and not self.terminated:
            # A second signal would end it at once.
            self.terminated = True
            self.process.send_signal(signal.SIGTERM)

    def kill(self):
        """Ends one that would not end for long, and is content."""
        self.killed = True
        self.process.kill()

    def wait(self):
        return self.process.wait(timeout=PATIENCE)

    def descriptors(self):
        """How many the process has open."""
        return len(os.listdir(f"/proc/{self.process.pid}/fd"))

    def threads(self):
        return len(os.listdir(f"/proc/{self.process.pid}/task"))

    def at_rest(self, workers=4):
        """Its threads and descriptors when nobody is connected, learnt from those who are: as many
        as a pool has workers, since all of these are there once each has answered."""
        count = workers if self.model == "pool" else 1
        with contextlib.ExitStack() as connections:
            for _ in range(count):
                connection = connections.enter_context(self.connect())
                connection.sendall(b"x")
                connection.recv(1)
            return self.threads() - (self.model == "threads"), self.descriptors() - count

    def now(self):
        return self.threads(), self.descriptors()

    def __enter__(self):
        return self

    def __exit__(self, failure, *_):
        self.terminate()
        try:
            status = self.wait()
        except subprocess.TimeoutExpired:
            self.process.kill()
            self.process.wait()
            raise
        finally:
            self.process.stdout.close()
        if failure is None and status != 0 and not self.killed:
            raise AssertionError(f"the server ended with status {status}")


class UnderEachModel(unittest.TestCase):
    """A test whose claim holds under every way of waiting."""

    def under_each_model(self, service, claim, *options):
        # Servers take up to a second to end; so the next begins while the last is ending.
        with contextlib.ExitStack() as servers:
            for model in MODELS:
                with self.subTest(model=model):
                    server = servers.enter_context(Server(service, model, *options))
                    claim(server)
                    server.terminate()


def eventually(condition):
    """Waits until it holds: the server may be behind its client for a moment."""
    deadline = time.monotonic() + PATIENCE
    while not condition():
        if time.monotonic() > deadline:
            raise AssertionError("it never came about")
        # Nothing tells when another process has closed a descriptor.
        time.sleep(0.01)


def receive_all(connection):
    """Everything until the peer's end; a reset is an error."""
    received = bytearray()
    while part := connection.recv(1 << 16):
        received += part
    return bytes(received)
