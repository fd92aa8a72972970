"""Python's own servers as peers of `evmux client`: its sockets, http.server and xmlrpc.server.

Needs nothing but python3; `make test` runs it.
"""

import contextlib
import functools
import http.server
import operator
import os
import pathlib
import socket
import socketserver
import struct
import subprocess
import tempfile
import threading
import time
import unittest
import xmlrpc.client
import xmlrpc.server

from evmux import PATIENCE

# More than the buffers of both kernels together: neither side can just send and then read.
LARGE = 8 << 20


def client(*words, stdin=b""):
    """`evmux client` to its end."""
    environment = {name: value for name, value in os.environ.items() if name[:6] != "EVMUX_"}
    command = [os.environ["EVMUX"], "client", *words]
    return subprocess.run(
        command, input=stdin, capture_output=True, timeout=PATIENCE, env=environment
    )


class Clients(unittest.TestCase):
    def assertPrints(self, expected, ended):
        self.assertEqual((ended.returncode, ended.stderr), (0, b""))
        self.assertEqual(ended.stdout, expected)

    def assertFails(self, expected, ended):
        self.assertEqual(ended.returncode, 1)
        self.assertRegex(ended.stderr.decode(), r"\Aevmux: [^\n]*\n\Z")
        self.assertIn(expected, ended.stderr.decode())


def receive_exactly(connection, length):
    """As the slides have it."""
    data = b""
    while len(data) < length:
        more = connection.recv(length - len(data))
        if not more:
            raise EOFError(f"was expecting {length} bytes but only received {len(data)}")
        data += more
    return data


@contextlib.contextmanager
def tcp(serve):
    """A server that hands each connection to `serve`; its address as HOST:PORT."""
    failures = []

    class Handler(socketserver.BaseRequestHandler):
        def handle(self):
            self.request.settimeout(PATIENCE)
            try:
                serve(self.request)
            except Exception as failure:
                failures.append(failure)

    with socketserver.ThreadingTCPServer(("127.0.0.1", 0), Handler) as server:
        with running(server) as address:
            yield address
    if failures:
        raise failures[0]


@contextlib.contextmanager
def running(server):
    thread = threading.Thread(target=server.serve_forever, kwargs={"poll_interval": 0.01})
    thread.start()
    try:
        yield "{}:{}".format(*server.server_address)
    finally:
        server.shutdown()
        thread.join()


class Streams(Clients):
    def test_the_first_server_of_the_slides_answers_a_message(self):
        def upper_once(connection):
            connection.send(connection.recv(2048).decode().upper().encode())

        with tcp(upper_once) as address:
            ended = client("tcp", address, "lowercase sentence, straße")
            self.assertPrints("LOWERCASE SENTENCE, STRASSE".encode(), ended)

    def test_a_client_with_nothing_to_send_is_thanked(self):
        with tcp(lambda connection: connection.sendall(b"Thank you for connecting")) as address:
            self.assertPrints(b"Thank you for connecting", client("tcp", address))

    def test_eight_megabytes_go_through_a_blocking_echo(self):
        def echo(connection):
            while data := connection.recv(4096):
                connection.sendall(data)

        with tcp(echo) as address:
            data = os.urandom(LARGE)
            self.assertPrints(data, client("tcp", address, stdin=data))

    def test_blocks_are_those_of_struct(self):
        def serve(connection):
            for _ in range(3):
                (length,) = struct.unpack("!I", receive_exactly(connection, 4))
                answer = receive_exactly(connection, length).decode().upper().encode()
                connection.sendall(struct.pack("!I", len(answer)))
                connection.sendall(answer)

        with tcp(serve) as address:
            ended = client("blocks", address, "first", "", "x" * 100_000)
            self.assertPrints(b"FIRST\n\n" + b"X" * 100_000 + b"\n", ended)

    def test_sixteen_bytes_are_said_farewell(self):
        def serve(connection):
            self.assertEqual(receive_exactly(connection, 16), b"Hi there, server")
            connection.sendall(b"Farewell, client")

        with tcp(serve) as address:
            self.assertPrints(b"Farewell, client\n", client("sixteen", address))

    def test_a_farewell_that_is_too_short_is_none(self):
        def serve(connection):
            receive_exactly(connection, 16)
            connection.sendall(b"Farewell")

        with tcp(serve) as address:
            expected = "was expecting 16 bytes but only received 8"
            self.assertFails(expected, client("sixteen", address))


class Datagrams(Clients):
    def test_three_dropped_datagrams_are_sent_again_with_the_same_bytes(self):
        with socket.socket(socket.AF_INET, socket.SOCK_DGRAM) as server:
            server.bind(("127.0.0.1", 0))
            server.settimeout(PATIENCE)
            came = []

            def serve():
                while len(came) < 4:
                    data, address = server.recvfrom(2048)
                    came.append((data, address, time.monotonic()))
                server.sendto(data.upper(), address)

            thread = threading.Thread(target=serve)
            thread.start()
            began = time.monotonic()
            ended = client("udp", "127.0.0.1:%d" % server.getsockname()[1], "the same")
            thread.join()
            self.assertPrints(b"THE SAME\n", ended)
            # Later is possible on a busy machine, sooner is not.
            for (data, address, at), due in zip(came, [0, 0.1, 0.3, 0.7]):
                self.assertEqual((data, address), (b"the same", came[0][1]))
                self.assertGreaterEqual(at - began, due)

    def test_a_broadcast_is_answered_from_another_address(self):
        with socket.socket(socket.AF_INET, socket.SOCK_DGRAM) as server:
            server.bind(("", 0))
            server.settimeout(PATIENCE)
            target = "127.255.255.255:%d" % server.getsockname()[1]
            self.assertFails("--broadcast", client("udp", target, "hello"))

            def serve():
                data, address = server.recvfrom(2048)
                server.sendto(data.upper(), address)

            thread = threading.Thread(target=serve)
            thread.start()
            ended = client("udp", target, "hello", "--broadcast")
            thread.join()
            self.assertPrints(b"HELLO\n", ended)


class Quiet(http.server.SimpleHTTPRequestHandler):
    def log_message(self, *_):
        pass


class Pages(Clients):
    def test_pages_of_http_server_are_printed_and_written(self):
        with tempfile.TemporaryDirectory() as folder:
            page = os.urandom(1 << 20)
            pathlib.Path(folder, "page").write_bytes(page)
            pathlib.Path(folder, "sub").mkdir()
            pathlib.Path(folder, "sub", "index.html").write_bytes(b"<p>index</p>")
            handler = functools.partial(Quiet, directory=folder)
            with http.server.ThreadingHTTPServer(("127.0.0.1", 0), handler) as server:
                with running(server) as address:
                    self.assertPrints(page, client("http", f"http://{address}/page"))
                    copy = pathlib.Path(folder, "copy")
                    ended = client("http", f"http://{address}/page", "-o", str(copy))
                    self.assertPrints(b"", ended)
                    self.assertEqual(copy.read_bytes(), page)
                    # A redirect to /sub/.
                    self.assertPrints(b"<p>index</p>", client("http", f"http://{address}/sub"))
                    ended = client("http", f"http://{address}/missing")
                    self.assertFails("the server says 404 Not Found", ended)


def addtogether(*things):
    return functools.reduce(operator.add, things)


def quadratic(a, b, c):
    root = (b * b - 4.0 * a * c) ** 0.5
    return list(set([(-b - root) / 2.0 * a, (-b + root) / 2.0 * a]))


class Calls(Clients):
    @classmethod
    def setUpClass(cls):
        class Handler(xmlrpc.server.SimpleXMLRPCRequestHandler):
            # Answers longer than this are gzipped; the usual 1,400 would do, too.
            encode_threshold = 500

        cls.server = xmlrpc.server.SimpleXMLRPCServer(
            ("127.0.0.1", 0), Handler, logRequests=False, allow_none=True
        )
        cls.server.register_introspection_functions()
        cls.server.register_function(addtogether)
        cls.server.register_function(quadratic)
        cls.server.register_function(lambda value: value, "same")
        cls.server.register_function(lambda value: repr(value), "repr")
        cls.server.register_function(lambda: xmlrpc.client.DateTime("20160118T13:41:45"), "now")
        cls.server.register_function(lambda: b"\0\xff", "bytes")
        cls.running = running(cls.server)
        cls.url = "http://" + cls.running.__enter__()

    @classmethod
    def tearDownClass(cls):
        cls.running.__exit__(None, None, None)
        cls.server.server_close()

    def call(self, *words):
        return client("xmlrpc", self.url, *words)

    def test_the_calls_of_the_slides_print_what_the_slides_say(self):
        self.assertPrints(b"xyz\n", self.call("addtogether", "x", "y", "z"))
        self.assertPrints(b"15\n", self.call("addtogether", "1", "2", "3", "4", "5"))
        self.assertPrints(b"[0.0, 8.0]\n", self.call("quadratic", "2", "-4", "0"))
        self.assertPrints(b"[-1.0]\n", self.call("quadratic", "1", "2", "1"))

    def test_arguments_have_the_type_that_they_look_like(self):
        for text, expected in [
            ("7", "7"),
            ("-4", "-4"),
            ("5000000000", "5000000000"),
            ("7.0", "7.0"),
            ("true", "True"),
            ("string:7", "'7'"),
            ("string:", "''"),
            ("  two words ", "'  two words '"),
            ("straße <&> \n", "'straße <&> \\n'"),
            ("[1, [2.5, null], {}]", "[1, [2.5, None], {}]"),
            ('{"a": {"b": false}}', "{'a': {'b': False}}"),
        ]:
            with self.subTest(text):
                self.assertPrints((expected + "\n").encode(), self.call("repr", text))

    def test_values_are_printed_as_text_or_json(self):
        for text, expected in [
            ("plain", "plain"),
            ("string:", ""),
            ("2.50", "2.5"),
            ("true", "true"),
            ('["a", null, {"b": [0.1]}]', '["a", null, {"b": [0.1]}]'),
        ]:
            with self.subTest(text):
                self.assertPrints((expected + "\n").encode(), self.call("same", text))
        self.assertPrints(b"20160118T13:41:45\n", self.call("now"))
        self.assertPrints(b"AP8=\n", self.call("bytes"))
        self.assertIn(b'"system.listMethods"', self.call("system.listMethods").stdout)

    def test_an_answer_that_python_gzips_is_read(self):
        self.assertPrints(b"x" * 100_000 + b"\n", self.call("same", "x" * 100_000))

    def test_a_fault_is_its_text_and_status_1(self):
        ended = self.call("addtogether", "x", "1")
        self.assertFails("can only concatenate str", ended)
        self.assertEqual(ended.stdout, b"")
        self.assertFails('method "nothing" is not supported', self.call("nothing"))

    def test_a_path_of_its_own_is_kept(self):
        self.assertPrints(b"3\n", client("xmlrpc", self.url + "/", "addtogether", "1", "2"))
        ended = client("xmlrpc", self.url + "/other", "addtogether", "1", "2")
        self.assertFails("the server says 404 Not Found", ended)


if __name__ == "__main__":
    unittest.main()
