"""The server as the peers of these tests find it: a process that says where it listens."""

import os
import re
import signal
import socket
import subprocess
import unittest

MODELS = ["sequential", "threads", "pool", "poll", "epoll"]

# Long enough for a busy machine; who waits so long has failed.
PATIENCE = 30

READY = re.compile(r"evmux: listening on tcp 127\.0\.0\.1:(\d+) \(service (\w+), model (\w+)\)\n")


class Server:
    """`evmux serve` on a port that the kernel chooses. Leaving the block drains it."""

    def __init__(self, service, model, *options):
        self.service, self.model = service, model
        command = [os.environ["EVMUX"], "serve", "--service", service, "--model", model]
        command += ["--listen", "127.0.0.1:0", *options]
        # What goes well is not news here; a variable that is set says more.
        environment = {"RUST_LOG": "warn", **os.environ}
        self.process = subprocess.Popen(
            command, stdout=subprocess.PIPE, text=True, env=environment
        )
        line = self.process.stdout.readline()
        ready = READY.fullmatch(line)
        if ready is None or ready.group(2, 3) != (service, model):
            self.process.kill()
            self.process.wait()
            self.process.stdout.close()
            raise AssertionError(f"not the line that says where it listens: {line!r}")
        self.port = int(ready.group(1))

    def connect(self):
        return socket.create_connection(("127.0.0.1", self.port), timeout=PATIENCE)

    def terminate(self):
        self.process.send_signal(signal.SIGTERM)

    def wait(self):
        return self.process.wait(timeout=PATIENCE)

    def __enter__(self):
        return self

    def __exit__(self, failure, *_):
        if self.process.poll() is None:
            self.terminate()
        try:
            status = self.wait()
        except subprocess.TimeoutExpired:
            self.process.kill()
            self.process.wait()
            raise
        finally:
            self.process.stdout.close()
        if failure is None and status != 0:
            raise AssertionError(f"the server ended with status {status}")


class UnderEachModel(unittest.TestCase):
    """A test whose claim holds under every way of waiting."""

    def under_each_model(self, service, claim, *options):
        for model in MODELS:
            with self.subTest(model=model), Server(service, model, *options) as server:
                claim(server)


def receive_all(connection):
    """Everything until the peer's end; a reset is an error."""
    received = bytearray()
    while part := connection.recv(1 << 16):
        received += part
    return bytes(received)
