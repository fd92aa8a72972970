"""`evmux load` against servers of Debian that echo."""

import socket
import subprocess
import time
import unittest

from evmux import PATIENCE
from test_load import load


class LoadAgainstPrograms(unittest.TestCase):
    def against(self, command, port):
        process = subprocess.Popen(command)
        try:
            deadline = time.monotonic() + PATIENCE
            while True:
                try:
                    socket.create_connection(("127.0.0.1", port), timeout=PATIENCE).close()
                    break
                except ConnectionRefusedError:
                    self.assertLess(time.monotonic(), deadline, "it does not listen")
                    # It cannot say when it does.
                    time.sleep(0.02)
            status, result, summary = load(f"127.0.0.1:{port}", "--requests", "1000")
            self.assertEqual(status, 0, summary)
            self.assertEqual(result["counts"]["answered"], 1000)
        finally:
            process.kill()
            process.wait()

    def test_socat_echoes(self):
        port = free_port()
        listen = f"TCP-LISTEN:{port},bind=127.0.0.1,reuseaddr,fork"
        self.against(["socat", listen, "EXEC:cat"], port)

    def test_ncat_echoes(self):
        port = free_port()
        command = ["ncat", "--listen", "--keep-open", "--exec", "/bin/cat", "127.0.0.1", str(port)]
        self.against(command, port)


def free_port():
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        return probe.getsockname()[1]
