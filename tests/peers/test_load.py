"""`evmux load` against servers that are not ours: what it says must fit what they did.

Here asyncio's, which needs nothing but python3; those of Debian are in test_load_programs.py.
"""

import asyncio
import json
import os
import subprocess
import tempfile
import threading
import unittest

from evmux import PATIENCE


def load(target, *options):
    """Status, result and summary of a short run."""
    command = [os.environ["EVMUX"], "load", target, "--json", "-", "--connections", "5"]
    command += ["--warmup", "0s", "--timeout", f"{PATIENCE}s", *options]
    ended = subprocess.run(command, capture_output=True, text=True, timeout=4 * PATIENCE)
    result = json.loads(ended.stdout) if ended.stdout else None
    return ended.returncode, result, ended.stderr


class Echo(asyncio.Protocol):
    def __init__(self, counts):
        self.counts = counts

    def connection_made(self, transport):
        self.transport = transport
        self.counts["open"].add(transport)

    def connection_lost(self, _):
        self.counts["open"].discard(self.transport)

    def data_received(self, data):
        self.counts["bytes"] += len(data)
        self.transport.write(data)

    def datagram_received(self, data, peer):
        self.counts["bytes"] += len(data)
        self.transport.sendto(data, peer)


class Asyncio:
    """asyncio's echo server over TCP, UDP and a Unix socket, in a thread of its own."""

    def __enter__(self):
        self.counts = {"open": set(), "bytes": 0}
        self.folder = tempfile.TemporaryDirectory()
        self.loop = asyncio.new_event_loop()
        self.targets = self.loop.run_until_complete(self.listen())
        self.thread = threading.Thread(target=self.loop.run_forever)
        self.thread.start()
        return self

    async def listen(self):
        path = os.path.join(self.folder.name, "echo")
        make = lambda: Echo(self.counts)
        tcp = await self.loop.create_server(make, "127.0.0.1", 0)
        unix = await self.loop.create_unix_server(make, path)
        self.servers = [tcp, unix]
        udp, _ = await self.loop.create_datagram_endpoint(make, ("127.0.0.1", 0))
        port = tcp.sockets[0].getsockname()[1]
        datagrams = udp.get_extra_info("sockname")[1]
        return [f"tcp:127.0.0.1:{port}", f"unix:{path}", f"udp:127.0.0.1:{datagrams}"]

    def __exit__(self, *_):
        self.loop.call_soon_threadsafe(self.loop.stop)
        self.thread.join()
        self.loop.run_until_complete(self.close())
        self.loop.close()
        self.folder.cleanup()

    async def close(self):
        for closing in [*self.servers, *self.counts["open"]]:
            closing.close()
        # Each transport tells its protocol in a turn of the loop after that.
        while self.counts["open"]:
            await asyncio.sleep(0)


class LoadAgainstAsyncio(unittest.TestCase):
    def test_what_it_counts_is_what_the_server_has_seen(self):
        for options in [[], ["--rate", "1000"], ["--pipeline", "4"]]:
            with Asyncio() as server:
                for target in server.targets:
                    with self.subTest(target=target, options=options):
                        before = server.counts["bytes"]
                        status, result, summary = load(target, "--requests", "300", *options)
                        self.assertEqual(status, 0, summary)
                        self.assertEqual(result["counts"]["answered"], 300)
                        self.assertEqual(server.counts["bytes"] - before, 300 * 64)

    def test_a_server_that_does_something_else_is_wrong(self):
        with Asyncio() as server:
            status, result, summary = load(
                server.targets[0], "--duration", "100ms", "--verify", "upper"
            )
            self.assertEqual(status, 1, summary)
            self.assertGreater(result["errors"]["wrong"], 0)
