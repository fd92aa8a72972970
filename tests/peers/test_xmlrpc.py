"""XML-RPC with Python's own client, and beside Python's own server: what both can be asked is asked
of both, and must be answered the same, byte for byte where it is bytes."""

import contextlib
import datetime
import functools
import gzip
import http.client
import math
import operator
import random
import threading
import time
import unittest
import urllib.error
import urllib.request
from xmlrpc.client import Binary, DateTime, Fault, MultiCall, ServerProxy, Transport, dumps, loads
from xmlrpc.server import SimpleXMLRPCRequestHandler, SimpleXMLRPCServer

from evmux import PATIENCE, Server, UnderEachModel, receive_all


class Slides:
    """The functions as the slides have them."""

    @staticmethod
    def add(x, y):
        return x + y

    @staticmethod
    def subtract(x, y):
        return x - y

    @staticmethod
    def multiply(x, y):
        return x * y

    @staticmethod
    def divide(x, y):
        return x // y

    @staticmethod
    def addtogether(*things):
        return functools.reduce(operator.add, things)

    @staticmethod
    def quadratic(a, b, c):
        b24ac = math.sqrt(b * b - 4.0 * a * c)
        return list(set([(-b - b24ac) / 2.0 * a, (-b + b24ac) / 2.0 * a]))

    @staticmethod
    def upper(text):
        return text.upper()


class Kept(SimpleXMLRPCRequestHandler):
    protocol_version = "HTTP/1.1"


class PythonServer:
    """SimpleXMLRPCServer on a thread."""

    def __enter__(self):
        self.server = SimpleXMLRPCServer(
            ("127.0.0.1", 0), requestHandler=Kept, logRequests=False, allow_none=True
        )
        self.port = self.server.server_address[1]
        for name in ["add", "subtract", "multiply", "divide", "addtogether", "quadratic", "upper"]:
            function = getattr(Slides, name)
            # The fault of a wrong count of arguments has it.
            function.__qualname__ = name
            self.server.register_function(function, name)
        self.server.register_introspection_functions()
        self.server.register_multicall_functions()
        self.thread = threading.Thread(target=self.server.serve_forever)
        self.thread.start()
        return self

    def __exit__(self, *_):
        self.server.shutdown()
        self.thread.join()
        self.server.server_close()


def proxy(server, **options):
    return ServerProxy(f"http://127.0.0.1:{server.port}", allow_none=True, **options)


def outcome(function, *arguments):
    """The value or the fault, so that 3 and 3.0 differ, and 0.0 and -0.0."""
    try:
        return repr(function(*arguments))
    except Fault as fault:
        return fault.faultCode, fault.faultString


def post(server, body, headers=(), path="/RPC2"):
    connection = http.client.HTTPConnection("127.0.0.1", server.port, timeout=PATIENCE)
    try:
        connection.request("POST", path, body, {"Content-Type": "text/xml", **dict(headers)})
        response = connection.getresponse()
        return response.status, dict(response.getheaders()), response.read()
    finally:
        connection.close()


def call_document(parameter):
    return (
        "<?xml version='1.0'?>\n<methodCall><methodName>addtogether</methodName><params>"
        f"<param>{parameter}</param></params></methodCall>"
    ).encode()


ODD = [True, 7, -7, 2**31 - 1, 0.0, -0.0, 1.5, -2.5, "", "ab", [], [1], {}, {"a": 1}]

CALLS = [
    *[(name, one, other) for name in ["add", "subtract", "divide"] for one in ODD for other in ODD],
    *[("multiply", one, other) for one in ODD[:8] for other in ODD[:8]],
    *[("multiply", one, other) for one in ODD[8:] for other in ODD[4:]],
    *[(name, *range(count)) for name in ["add", "quadratic", "upper"] for count in [0, 1, 2, 4]],
    *[("upper", value) for value in [None, *ODD, "straße ŉ ﬁ ΐ", DateTime("x"), Binary(b"")]],
    *[("add", value, value) for value in [None, DateTime("20160118T13:41:45"), Binary(b"ab")]],
    ("addtogether",),
    ("addtogether", "x", "y", "z"),
    ("addtogether", 1, 2, 3, 4, 5),
    ("addtogether", [1], ["a"], [[]]),
    ("addtogether", 2**31 - 1, 2**31 - 1, -(2**31)),
    ("addtogether", 0.1, 0.2, 1),
    ("addtogether", 1, "a", 2),
    ("quadratic", 2, -4, 0),
    ("quadratic", 1, 2, 1),
    ("quadratic", 1, 0, 0),
    ("quadratic", 1, 2, 3),
    ("quadratic", 0, 1, 1),
    *[("quadratic", *[bad if at == n else 1 for n in range(3)])
      for at in range(3) for bad in ["a", None, [1]]],
    ("nope",),
    ("nope", 1),
    ("system.listmethods",),
    ("system.methodSignature", "add"),
    ("system.methodHelp", "nope"),
    ("system.multicall", []),
    ("system.multicall", [1]),
    ("system.multicall", 5),
    ("system.multicall", [{"methodName": "add"}]),
    ("system.multicall", [{"params": []}]),
    (
        "system.multicall",
        [
            {"methodName": "add", "params": [7, 3]},
            {"methodName": "divide", "params": [7, 0]},
            {"methodName": "nope", "params": []},
            {"methodName": "upper", "params": ["a"]},
            {"methodName": "system.multicall", "params": [[]]},
            {
                "methodName": "system.multicall",
                "params": [[{"methodName": "divide", "params": [1, 0]}]],
            },
            {"methodName": "add", "params": []},
        ],
    ),
]

DOCUMENTS = [
    *[
        call_document(value)
        for value in [
            "<value/>",
            "<value> no type </value>",
            "<value>\n<string> a\r\nb </string>\n</value>",
            "<value>&lt;&#65;&#x42;<![CDATA[<c>&amp;]]><!-- none -->d</value>",
            "<value><int> -12 </int></value>",
            "<value><i4>+5</i4></value>",
            "<value><i8>7</i8></value>",
            "<value><int>x</int></value>",
            "<value><int></int></value>",
            "<value><double>3</double></value>",
            "<value><double>-0.0</double></value>",
            "<value><double>5e-324</double></value>",
            "<value><double>1e16</double></value>",
            "<value><double>123456789012345.678</double></value>",
            "<value><double>0.00001</double></value>",
            "<value><double>1e400</double></value>",
            "<value><double>nan</double></value>",
            "<value><double>it's</double></value>",
            "<value><boolean>1</boolean></value>",
            "<value><boolean>2</boolean></value>",
            "<value><nil/></value>",
            "<value><base64>YW\nJj\r\nZA==</base64></value>",
            "<value><base64>Y*W!I=</base64></value>",
            "<value><base64>YWI</base64></value>",
            "<value><base64></base64></value>",
            "<value><dateTime.iso8601>20160118T13:41:45</dateTime.iso8601></value>",
            "<value><dateTime.iso8601> 2016-01-18T13:41:45 </dateTime.iso8601></value>",
            "<value><array><data></data></array></value>",
            "<value><array><data><value>a</value><value><array><data><value><int>1</int></value>"
            "</data></array></value></data></array></value>",
            "<value><struct></struct></value>",
            "<value><struct><member><name>b</name><value>1</value></member><member><name>a</name>"
            "<value>2</value></member><member><name>b</name><value>3</value></member></struct>"
            "</value>",
            "<value>a&#0;b</value>",
            "<value>a\x01b</value>",
            "<value>&foo;</value>",
            "<value>]]></value>",
        ]
    ],
    call_document("<value><base64>%s</base64></value>" % ("QUJD" * 100)),
    b"",
    b"hello",
    b"<methodCall><methodName>add</methodName></methodCall>",
    b"<methodCall><methodName>add</methodName><params/></methodCall>",
    b"<methodCall><methodName> add </methodName></methodCall>",
    b"\xef\xbb\xbf<methodCall><methodName>add</methodName></methodCall>",
    b"<methodCall><methodName>add</methodName></methodCall>x",
    b"<methodCall><methodName>add</methodCall>",
    "<?xml version='1.0' encoding='ISO-8859-1'?><methodCall><methodName>é</methodName>"
    "</methodCall>".encode("latin-1"),
]


class BesidePython(UnderEachModel):
    @classmethod
    def setUpClass(cls):
        cls.python = PythonServer()
        cls.python.__enter__()
        cls.addClassCleanup(cls.python.__exit__)

    def test_both_servers_answer_each_call_the_same(self):
        with proxy(self.python) as other:
            expected = [outcome(getattr(other, name), *rest) for name, *rest in CALLS]

        def claim(server):
            with proxy(server) as own:
                for (name, *arguments), other in zip(CALLS, expected):
                    with self.subTest(call=(name, arguments)):
                        answer = outcome(getattr(own, name), *arguments)
                        if is_past_32_bits(other):
                            continue
                        self.assertEqual(without_address(answer), without_address(other))

        self.under_each_model("xmlrpc", claim)

    def test_both_servers_answer_each_document_with_the_same_bytes(self):
        documents = [*DOCUMENTS, *[dumps(tuple(rest), name, allow_none=True).encode("utf-8")
                                   for name, *rest in CALLS if name and marshals(rest)]]
        expected = [post(self.python, document) for document in documents]

        def claim(server):
            for document, (status, headers, body) in zip(documents, expected):
                with self.subTest(document=document):
                    own_status, own_headers, own_body = post(server, document)
                    if is_past_32_bits(body.decode()):
                        continue
                    self.assertEqual(own_body, body)
                    self.assertEqual(own_status, status)
                    for name in ["Content-type", "Content-length"]:
                        self.assertEqual(own_headers[name.title()], headers[name])

        self.under_each_model("xmlrpc", claim)

    def test_both_servers_pack_a_long_answer_for_who_takes_it(self):
        for letters in [1200, 1300, 100_000]:
            document = dumps(("x" * letters,), "addtogether").encode()
            for value in ["gzip", "deflate, GZIP;q=0.5", "gzip;q=0", "identity", ""]:
                headers = {"Accept-Encoding": value}
                with Server("xmlrpc", "epoll") as server:
                    own = post(server, document, headers)
                other = post(self.python, document, headers)
                packed = [r[1].get("Content-Encoding") == "gzip" for r in (own, other)]
                with self.subTest(letters=letters, value=value):
                    if "GZIP" not in value:
                        self.assertEqual(*packed)
                    bodies = [
                        gzip.decompress(body) if "Content-Encoding" in headers else body
                        for _, headers, body in (own, other)
                    ]
                    self.assertEqual(*bodies)

    def test_numbers_are_computed_as_python_does(self):
        draw = random.Random(4)
        whole = [0, 1, -1, 2, -2, 3, 7, 2**31 - 1, -(2**31)]
        broken = [0.0, -0.0, 0.5, -0.5, 1e-300, 1e300, 5e-324, 1e16, 3.0, -7.0, math.inf, math.nan]

        def number():
            kind = draw.randrange(4)
            if kind == 0:
                return draw.choice(whole)
            if kind == 1:
                return draw.randint(-(2**31), 2**31 - 1)
            if kind == 2:
                return draw.choice(broken)
            return draw.uniform(-100, 100)

        names = ["add", "subtract", "multiply", "divide"]
        calls = [(draw.choice(names), number(), number()) for _ in range(4000)]
        with Server("xmlrpc", "epoll") as server, proxy(server) as own:
            for start in range(0, len(calls), 1000):
                batch = MultiCall(own)
                some = calls[start : start + 1000]
                for name, one, other in some:
                    getattr(batch, name)(one, other)
                results = batch()
                for at, (name, one, other) in enumerate(some):
                    try:
                        expected = repr(getattr(Slides, name)(one, other))
                    except Exception as why:
                        expected = (1, f"{type(why)}:{why}")
                    self.assertEqual(outcome(results.__getitem__, at), expected, some[at])


def marshals(arguments):
    try:
        dumps(tuple(arguments), "f", allow_none=True)
    except (OverflowError, TypeError):
        return False
    return True


def is_past_32_bits(answer):
    """What Python refuses to send, and we send as i8: a test of its own looks at that."""
    return "int exceeds XML-RPC limits" in str(answer)


def without_address(shown):
    """DateTime and Binary show where they are."""
    return shown.split(" at 0x")[0] if isinstance(shown, str) else shown


REQUEST_OF_LETTERS = b"""<?xml version='1.0'?>
<methodCall>
<methodName>addtogether</methodName>
<params>
<param>
<value><string>x</string></value>
</param>
<param>
<value><string>y</string></value>
</param>
<param>
<value><string>z</string></value>
</param>
</params>
</methodCall>
"""

ANSWER_OF_LETTERS = b"""<?xml version='1.0'?>
<methodResponse>
<params>
<param>
<value><string>xyz</string></value>
</param>
</params>
</methodResponse>
"""

REQUEST_OF_NUMBERS = (
    b"<?xml version='1.0'?>\n<methodCall>\n<methodName>addtogether</methodName>\n<params>\n"
    + b"".join(b"<param>\n<value><int>%d</int></value>\n</param>\n" % n for n in range(1, 6))
    + b"</params>\n</methodCall>\n"
)

ANSWER_OF_NUMBERS = ANSWER_OF_LETTERS.replace(b"<string>xyz</string>", b"<int>15</int>")


def head(length, version="1.1", more=""):
    return (
        f"POST /RPC2 HTTP/{version}\r\nHost: 127.0.0.1:7001\r\nAccept-Encoding: gzip\r\n"
        f"Content-Type: text/xml\r\nUser-Agent: Python-xmlrpc/3.4\r\n{more}"
        f"Content-Length: {length}\r\n\r\n"
    ).encode()


def response(connection):
    """One response, as far as its length says."""
    file = connection.makefile("rb")
    status = file.readline()
    length, headers = 0, {}
    while (line := file.readline()) != b"\r\n":
        name, value = line.decode().split(":", 1)
        headers[name.lower()] = value.strip()
    length = int(headers["content-length"])
    return int(status.split()[1]), headers, file.read(length)


class Captured(UnderEachModel):
    def test_the_captured_exchanges_have_the_same_bodies(self):
        self.assertEqual([len(REQUEST_OF_LETTERS), len(REQUEST_OF_NUMBERS)], [258, 330])
        self.assertEqual([len(ANSWER_OF_LETTERS), len(ANSWER_OF_NUMBERS)], [129, 122])

        def claim(server):
            with server.connect() as connection:
                for request, answer in [
                    (REQUEST_OF_LETTERS, ANSWER_OF_LETTERS),
                    (REQUEST_OF_NUMBERS, ANSWER_OF_NUMBERS),
                ]:
                    connection.sendall(head(len(request)) + request)
                    status, headers, body = response(connection)
                    self.assertEqual((status, body), (200, answer))
                    self.assertEqual(headers["content-type"], "text/xml")

        self.under_each_model("xmlrpc", claim)

    def test_the_exchange_as_a_slide_prints_it_has_the_wrong_root_and_is_a_fault(self):
        request = REQUEST_OF_LETTERS.replace(b"methodCall>", b"methodName>")

        def claim(server):
            status, _, body = post(server, request)
            self.assertEqual(status, 200)
            with self.assertRaises(Fault) as caught:
                loads(body)
            self.assertEqual(caught.exception.faultCode, 1)

        self.under_each_model("xmlrpc", claim)

    def test_a_head_in_single_bytes_is_answered(self):
        def claim(server):
            with server.connect() as connection:
                for byte in head(258) + REQUEST_OF_LETTERS:
                    connection.send(bytes([byte]))
                self.assertEqual(response(connection)[2], ANSWER_OF_LETTERS)

        self.under_each_model("xmlrpc", claim)

    def test_pipelined_requests_are_answered_in_order(self):
        def claim(server):
            with server.connect() as connection:
                one = head(258) + REQUEST_OF_LETTERS
                other = head(330) + REQUEST_OF_NUMBERS
                connection.sendall((one + other) * 20)
                connection.shutdown(1)
                answers = receive_all(connection)
                self.assertEqual(answers.count(ANSWER_OF_LETTERS + b"HTTP/1.1 200 OK"), 20)
                self.assertEqual(answers.count(ANSWER_OF_NUMBERS), 20)

        self.under_each_model("xmlrpc", claim)

    def test_http_1_0_is_answered_and_closed(self):
        def claim(server):
            with server.connect() as connection:
                request = head(258, "1.0").replace(b"\r\n", b"\n") + REQUEST_OF_LETTERS
                connection.sendall(request)
                answer = receive_all(connection)
                self.assertTrue(answer.startswith(b"HTTP/1.1 200 OK\r\n"), answer)
                self.assertIn(b"\r\nConnection: close\r\n", answer)
                self.assertTrue(answer.endswith(b"\r\n\r\n" + ANSWER_OF_LETTERS), answer)

        self.under_each_model("xmlrpc", claim)

    def test_who_expects_to_be_told_to_go_on_is_told(self):
        def claim(server):
            with server.connect() as connection:
                connection.sendall(head(258, more="Expect: 100-continue\r\n"))
                self.assertEqual(connection.recv(100), b"HTTP/1.1 100 Continue\r\n\r\n")
                connection.sendall(REQUEST_OF_LETTERS)
                self.assertEqual(response(connection)[2], ANSWER_OF_LETTERS)

        self.under_each_model("xmlrpc", claim)

    def test_a_body_in_chunks_is_read(self):
        def claim(server):
            with server.connect() as connection:
                connection.sendall(b"POST / HTTP/1.1\r\nTransfer-Encoding: chunked\r\n\r\n")
                for at in range(0, 258, 7):
                    piece = REQUEST_OF_LETTERS[at : at + 7]
                    connection.sendall(b"%x;a=b\r\n%s\r\n" % (len(piece), piece))
                connection.sendall(b"0\r\nTrailer: a\r\n\r\n")
                self.assertEqual(response(connection)[2], ANSWER_OF_LETTERS)

        self.under_each_model("xmlrpc", claim)

    def test_a_begun_request_is_answered_by_a_server_that_goes_away(self):
        def claim(server):
            with server.connect() as connection:
                connection.sendall(head(258, more="Expect: 100-continue\r\n"))
                self.assertEqual(connection.recv(100), b"HTTP/1.1 100 Continue\r\n\r\n")
                server.terminate()
                single = server.model in ("epoll", "poll")
                if single:
                    # One thread closes the listener and tells the connections.
                    await_refusal(server)
                connection.sendall(REQUEST_OF_LETTERS)
                answer = receive_all(connection)
                self.assertTrue(answer.endswith(b"\r\n\r\n" + ANSWER_OF_LETTERS), answer)
                if single:
                    self.assertIn(b"\r\nConnection: close\r\n", answer)
            self.assertEqual(server.wait(), 0)

        self.under_each_model("xmlrpc", claim)


def await_refusal(server):
    with contextlib.suppress(ConnectionRefusedError):
        while True:
            server.connect().close()
            # There is no event that says so.
            time.sleep(0.01)


class Client(UnderEachModel):
    def test_the_slides_client_prints_what_the_slides_do(self):
        def claim(server):
            with proxy(server) as client:
                self.assertEqual(client.addtogether("x", "y", "z"), "xyz")
                self.assertEqual(client.addtogether(1, 2, 3, 4, 5), 15)
                self.assertEqual(client.quadratic(2, -4, 0), [0.0, 8.0])
                self.assertEqual(client.quadratic(1, 2, 1), [-1.0])
                self.assertEqual(client.roots(2, -4, 0), [0.0, 2.0])
                batch = MultiCall(client)
                for name in ["add", "subtract", "multiply", "divide"]:
                    getattr(batch, name)(7, 3)
                self.assertEqual(tuple(batch()), (10, 4, 21, 2))

        self.under_each_model("xmlrpc", claim)

    def test_native_data_is_exact(self):
        value = {
            "z": [1, -(2**31), 2**31 - 1, True, False, None],
            "a": [0.1, -0.0, 5e-324, 1.7976931348623157e308, 3.0, math.inf],
            "text": " <&>\"'\n\t é 😀 ]]> ",
            "time": datetime.datetime(2016, 1, 18, 13, 41, 45),
            "bytes": [bytes(range(256)), b"", b"x" * 100_000],
            "": {"nested": [[], {}, [[[{"deep": ""}]]]]},
        }

        def claim(server):
            with proxy(server, use_builtin_types=True) as client:
                self.assertEqual(repr(client.addtogether(value)), repr(value))
            with proxy(server) as client:
                wrapped = [DateTime("2016-01-18T13:41:45"), Binary(b"\0")]
                self.assertEqual(client.addtogether(wrapped), wrapped)

        self.under_each_model("xmlrpc", claim)

    def test_a_number_past_32_bits_is_i8_and_one_past_64_a_fault(self):
        def claim(server):
            with proxy(server) as client:
                self.assertEqual(client.add(2**31 - 1, 1), 2**31)
                self.assertEqual(client.multiply(-(2**31), 2**31 - 1), -(2**31) * (2**31 - 1))
                factors = MultiCall(client)
                factors.multiply(-(2**31), -(2**31))
                self.assertEqual(list(factors()), [2**62])
            for value, answer in [(2**63 - 1, 2**63 - 1), (-(2**63), -(2**63)), (2**63, None)]:
                body = post(server, call_document(f"<value><i8>{value}</i8></value>"))[2]
                if answer is None:
                    with self.assertRaisesRegex(Fault, "int exceeds XML-RPC limits"):
                        loads(body)
                else:
                    self.assertEqual(loads(body)[0][0], answer)
            pair = f"<value><i8>{-(2**63)}</i8></value></param><param><value><int>-1</int></value>"
            document = call_document(pair).replace(b"addtogether", b"divide")
            with self.assertRaisesRegex(Fault, "int exceeds XML-RPC limits"):
                loads(post(server, document)[2])

        self.under_each_model("xmlrpc", claim)

    def test_the_names_are_sorted_and_have_help(self):
        def claim(server):
            with proxy(server) as client:
                names = client.system.listMethods()
                self.assertEqual(names, sorted(names))
                system = {"listMethods", "methodHelp", "methodSignature", "multicall"}
                self.assertLessEqual({f"system.{name}" for name in system}, set(names))
                for name in names:
                    self.assertTrue(client.system.methodHelp(name), name)

        self.under_each_model("xmlrpc", claim)

    def test_a_connection_is_kept_after_a_fault(self):
        class Counting(Transport):
            connections = 0

            def make_connection(self, host):
                if self._connection[1] is None:
                    self.connections += 1
                return super().make_connection(host)

        def claim(server):
            transport = Counting()
            with proxy(server, transport=transport) as client:
                for _ in range(5):
                    with self.assertRaises(Fault):
                        client.divide(1, 0)
                    self.assertEqual(client.add(1, 2), 3)
            self.assertEqual(transport.connections, 1)

        self.under_each_model("xmlrpc", claim)

    def test_bodies_are_packed_both_ways(self):
        class Packing(Transport):
            encode_threshold = 100

        def claim(server):
            with proxy(server, transport=Packing()) as client:
                text = "".join(random.Random(5).choices("abcdefgh <&>\n", k=500_000))
                self.assertEqual(client.addtogether(text), text)
                self.assertEqual(client.add(1, 2), 3)
            packed = gzip.compress(REQUEST_OF_LETTERS[:100]) + gzip.compress(REQUEST_OF_LETTERS[100:])
            answer = post(server, packed, {"Content-Encoding": "gzip"})
            self.assertEqual(answer[2], ANSWER_OF_LETTERS)
            for body, encoding, status in [
                (REQUEST_OF_LETTERS, "gzip", 400),
                (packed[:-1], "gzip", 400),
                (packed, "br", 501),
                (REQUEST_OF_LETTERS, "Identity", 200),
            ]:
                answer = post(server, body, {"Content-Encoding": encoding})
                self.assertEqual(answer[0], status, (encoding, answer))

        self.under_each_model("xmlrpc", claim)

    def test_other_paths_and_other_methods_are_told_so(self):
        def claim(server):
            url = f"http://127.0.0.1:{server.port}"
            with ServerProxy(f"{url}/") as client:
                self.assertEqual(client.add(1, 2), 3)
            for path, data, status in [
                ("/other", REQUEST_OF_LETTERS, 404),
                ("/", None, 501),
                ("/RPC2", None, 501),
                ("/other", None, 501),
            ]:
                with self.assertRaises(urllib.error.HTTPError) as caught:
                    urllib.request.urlopen(url + path, data, timeout=PATIENCE)
                with caught.exception as error:
                    self.assertEqual(error.code, status, path)
            with server.connect() as connection:
                connection.sendall(b"POST / HTTP/1.1\r\nHost: a\r\n\r\n")
                self.assertEqual(response(connection)[0], 411)

        self.under_each_model("xmlrpc", claim)


if __name__ == "__main__":
    unittest.main()
