"""Programs that everybody has as peers: netcat, curl, the shell, HAProxy.

`make test-peers` runs it, and installs what is missing from Debian.
"""

import contextlib
import random
import socket
import subprocess
import tempfile
import threading
import time
import unittest

from evmux import MODELS, PATIENCE, Server, UnderEachModel, receive_all

LETTERS = b"abcdefghijklmnopqrstuvwxyz \n"


def run(command, stdin=b""):
    return subprocess.run(
        command, input=stdin, stdout=subprocess.PIPE, check=True, timeout=PATIENCE
    ).stdout


class Netcat(UnderEachModel):
    def test_a_file_comes_back_whole(self):
        text = bytes(random.Random(1).choices(LETTERS, k=3_000_000))

        def claim(server):
            # -N: our end of input is a half-close, as with `nc -N host port < file`.
            answer = run(["nc", "-N", "127.0.0.1", str(server.port)], text)
            self.assertEqual(answer, text.upper())

        self.under_each_model("upper", claim)


class Curl(UnderEachModel):
    def test_a_server_that_says_its_line_and_closes_is_read_although_curl_sent_a_request(self):
        def claim(server):
            # The request is never read as such: closing over it must not reset the answer.
            command = ["curl", "--silent", "--show-error", "--http0.9", "--max-time", "20"]
            answer = run([*command, f"http://127.0.0.1:{server.port}/"])
            self.assertEqual(answer, b"Hello 127.0.0.1\n")

        self.under_each_model("hello", claim)


class Shell(UnderEachModel):
    def test_a_dialogue_in_bash_is_answered_line_by_line(self):
        script = """
            exec 3<>"/dev/tcp/127.0.0.1/$1"
            for word in one two three; do echo "$word" >&3; read -r -t 20 answer <&3; echo "$answer"; done
        """

        def claim(server):
            answer = run(["bash", "-c", script, "bash", str(server.port)])
            self.assertEqual(answer, b"ONE\nTWO\nTHREE\n")

        self.under_each_model("lines", claim)


class BehindHaproxy(unittest.TestCase):
    """HAProxy in TCP mode in front of one server of each model, with its health checks on: they
    connect, say nothing and reset, all the time."""

    @classmethod
    def setUpClass(cls):
        cls.stack = contextlib.ExitStack()
        try:
            cls.servers = {m: cls.stack.enter_context(Server("upper", m)) for m in MODELS}
            cls.ports = dict(zip(MODELS, free_ports(len(MODELS))))
            cls.stack.enter_context(haproxy(cls.servers, cls.ports))
        except BaseException:
            cls.stack.close()
            raise

    @classmethod
    def tearDownClass(cls):
        cls.stack.close()

    def connect(self, model):
        return socket.create_connection(("127.0.0.1", self.ports[model]), timeout=PATIENCE)

    def test_each_of_many_clients_gets_its_own_answer(self):
        for model in MODELS:
            with self.subTest(model=model):
                failures = []

                def client(number):
                    try:
                        text = bytes(random.Random(number).choices(LETTERS, k=20_000))
                        with self.connect(model) as connection:
                            connection.sendall(text)
                            connection.shutdown(socket.SHUT_WR)
                            if receive_all(connection) != text.upper():
                                failures.append(f"client {number} got something else")
                    except OSError as error:
                        failures.append(f"client {number}: {error}")

                clients = [threading.Thread(target=client, args=(n,)) for n in range(100)]
                for thread in clients:
                    thread.start()
                for thread in clients:
                    thread.join()
                self.assertEqual(failures, [])

    def test_a_slow_reader_behind_the_proxy_gets_everything(self):
        for model in MODELS:
            with self.subTest(model=model), self.connect(model) as connection:
                text = b"x" * (4 << 20)

                def sender():
                    connection.sendall(text)
                    connection.shutdown(socket.SHUT_WR)

                thread = threading.Thread(target=sender)
                thread.start()
                received = 0
                while part := connection.recv(1 << 17):
                    received += len(part)
                    # A reader that is slower than everybody else on the way.
                    time.sleep(0.002)
                thread.join()
                self.assertEqual(received, len(text))


@contextlib.contextmanager
def haproxy(servers, ports):
    lines = ["global", "  maxconn 2000", "defaults", "  mode tcp", "  timeout connect 20s"]
    lines += ["  timeout client 60s", "  timeout server 60s"]
    for model, server in servers.items():
        lines += [f"listen {model}", f"  bind 127.0.0.1:{ports[model]}"]
        lines += [f"  server {model} 127.0.0.1:{server.port} check inter 100ms fall 1000"]
    with tempfile.NamedTemporaryFile("w", suffix=".cfg") as file:
        file.write("\n".join(lines) + "\n")
        file.flush()
        process = subprocess.Popen(["haproxy", "-q", "-db", "-f", file.name])
        try:
            for port in ports.values():
                wait_for(port, process)
            yield
        finally:
            process.terminate()
            process.wait(timeout=PATIENCE)


def wait_for(port, process):
    for _ in range(PATIENCE * 20):
        if process.poll() is not None:
            raise AssertionError("HAProxy has ended")
        try:
            socket.create_connection(("127.0.0.1", port)).close()
            return
        except ConnectionRefusedError:
            time.sleep(0.05)
    raise AssertionError("HAProxy does not listen")


def free_ports(count):
    """Ports that nobody has now; HAProxy cannot choose its own."""
    sockets = [socket.create_server(("127.0.0.1", 0)) for _ in range(count)]
    ports = [each.getsockname()[1] for each in sockets]
    for each in sockets:
        each.close()
    return ports


if __name__ == "__main__":
    unittest.main()
