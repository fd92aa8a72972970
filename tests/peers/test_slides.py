"""The servers of the slides, asked by clients written as the slides write theirs.

docs/slides.md says which test stands for which system. Needs nothing but python3.
"""

import errno
import json
import os
import socket
import struct
import tempfile
import threading
import time
import unicodedata
import unittest
import zlib
from unittest import mock

from evmux import MODELS, PATIENCE, Server, UnderEachModel, eventually, receive_all

MESSAGE = b"a sentence in lower case"

# More than the buffers of both kernels together.
LARGE = 8 << 20


# ── how the slides send and receive ──────────────────────────────────────────────────────────────


def receive_exactly(connection, length):
    """As their `recvall`: a fixed number of bytes, or an error that says how many are missing."""
    blocks = []
    while length:
        block = connection.recv(length)
        if not block:
            raise EOFError(f"closed with {length} bytes left")
        length -= len(block)
        blocks.append(block)
    return b"".join(blocks)


HEADER = struct.Struct("!I")


def put_block(connection, message):
    connection.sendall(HEADER.pack(len(message)))
    connection.sendall(message)


def get_block(connection):
    (length,) = HEADER.unpack(receive_exactly(connection, HEADER.size))
    return receive_exactly(connection, length)


def send_in_a_loop(connection, message):
    """As their loop round `send`; returns how often only a part was taken."""
    sent, parts = 0, 0
    while sent < len(message):
        count = connection.send(message[sent:])
        sent += count
        parts += sent < len(message)
    return parts


def reset(connection):
    """Closes as a client that crashed: with a reset."""
    connection.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, struct.pack("ii", 1, 0))
    connection.close()


# ── the first servers ────────────────────────────────────────────────────────────────────────────


class FirstServers(UnderEachModel):
    def test_a_client_that_sends_once_and_reads_once_needs_no_end(self):
        def claim(server):
            for message in [MESSAGE, b"x", b"y" * 2048]:
                with server.connect() as connection:
                    connection.send(message)
                    self.assertEqual(receive_exactly(connection, len(message)), message.upper())
                    # The server closes after its one answer; the client has said no end.
                    self.assertEqual(connection.recv(1), b"")

        self.under_each_model("upper", claim, "--once")

    def test_whoever_connects_to_the_minimal_server_is_thanked(self):
        def claim(server):
            with server.connect() as connection:
                self.assertEqual(connection.recv(1024), b"Thank you for connecting")
                self.assertEqual(connection.recv(1024), b"")

        self.under_each_model("hello", claim, "--greeting", "Thank you for connecting")

    def test_whoever_connects_is_greeted_by_address_on_a_line(self):
        def claim(server):
            # As in a session of telnet, which shows what comes and may have typed something.
            with server.connect() as connection, connection.makefile("r") as lines:
                connection.sendall(b"anybody there?\r\n")
                self.assertEqual(lines.read(), "Hello 127.0.0.1\n")

        self.under_each_model("hello", claim)

    def test_the_time_is_that_of_ctime_in_the_zone_of_the_server(self):
        def claim(server):
            before, after = None, time.ctime()
            # Until no second has passed while the server was asked.
            while before != after:
                before = time.ctime()
                with server.connect() as connection:
                    answer = receive_all(connection).decode()
                after = time.ctime()
            self.assertEqual(answer, f"{after}\n")

        # Half an hour off, so that it is not the zone of the machine.
        with mock.patch.dict(os.environ, TZ="<+0530>-5:30"):
            time.tzset()
            self.under_each_model("time", claim)
        time.tzset()

    def test_any_byte_comes_back_from_echo_in_rounds(self):
        everything = bytes(range(256)) * 8

        def claim(server):
            with server.connect() as connection:
                for _ in range(10):
                    connection.sendall(everything)
                    self.assertEqual(receive_exactly(connection, len(everything)), everything)
                connection.shutdown(socket.SHUT_WR)
                self.assertEqual(connection.recv(1), b"")

        self.under_each_model("echo", claim)


# ── sending and receiving ────────────────────────────────────────────────────────────────────────


class Sending(UnderEachModel):
    def test_eight_megabytes_sent_in_a_loop_of_partial_sends_come_back_whole(self):
        message = MESSAGE * (LARGE // len(MESSAGE))

        def claim(server):
            with server.connect() as connection:
                # Less than the message, so that no send can take all of it.
                connection.setsockopt(socket.SOL_SOCKET, socket.SO_SNDBUF, 1 << 16)
                answers = bytearray()
                reader = threading.Thread(
                    target=lambda: answers.extend(receive_exactly(connection, len(message)))
                )
                reader.start()
                parts = send_in_a_loop(connection, message)
                reader.join()
                # Python's send waits for some room, not for all of it, when it has a time limit.
                self.assertGreater(parts, 0)
                self.assertEqual(answers, message.upper())

        self.under_each_model("upper", claim)


# ── frames ───────────────────────────────────────────────────────────────────────────────────────


class Sixteen(UnderEachModel):
    def test_sixteen_octets_are_answered_with_sixteen(self):
        def claim(server):
            with server.connect() as connection:
                connection.sendall(b"Hi there, server")
                self.assertEqual(receive_exactly(connection, 16), b"Farewell, client")
                self.assertEqual(connection.recv(1), b"")

        self.under_each_model("sixteen", claim)

    def test_octets_beyond_the_sixteenth_do_not_reset_the_answer(self):
        def claim(server):
            with server.connect() as connection:
                sender = threading.Thread(target=connection.sendall, args=(b"x" * 1_000_000,))
                sender.start()
                self.assertEqual(receive_all(connection), b"Farewell, client")
                sender.join()

        self.under_each_model("sixteen", claim)

    def test_too_few_octets_get_no_answer_and_a_warning_and_the_server_lives(self):
        for model in MODELS:
            with self.subTest(model=model), tempfile.TemporaryFile("w+") as log:
                # Nothing is said of logging: this is what an operator sees who changes nothing.
                with Server("sixteen", model, stderr=log, RUST_LOG="") as server:
                    for message in [b"too few", b""]:
                        with server.connect() as connection:
                            connection.sendall(message)
                            connection.shutdown(socket.SHUT_WR)
                            with self.assertRaisesRegex(EOFError, "16 bytes left"):
                                receive_exactly(connection, 16)
                    with server.connect() as connection:
                        connection.sendall(b"Hi there, server")
                        self.assertEqual(receive_exactly(connection, 16), b"Farewell, client")
                log.seek(0)
                warnings = [line for line in log if "WARN" in line]
                self.assertRegex(warnings[0], r"refused 127\.0\.0\.1:\d+: .* 7 of 16 bytes\n")


class Blocks(UnderEachModel):
    def test_the_length_of_a_block_is_big_endian(self):
        def claim(server):
            with server.connect() as connection:
                put_block(connection, b"x" * 1234)
                self.assertEqual(receive_exactly(connection, 4), b"\x00\x00\x04\xd2")
                self.assertEqual(receive_exactly(connection, 1234), b"X" * 1234)

        self.under_each_model("blocks", claim)

    def test_blocks_come_back_however_they_are_packed(self):
        messages = [text.encode() for text in ["", "straße", "ŉ" * 1000, "x" * 70_000, ""]]

        def claim(server):
            with server.connect() as connection:
                for message in messages:
                    put_block(connection, message)
                    self.assertEqual(get_block(connection).decode(), message.decode().upper())
                # All of them in one segment, and the last header in pieces.
                packed = b"".join(HEADER.pack(len(message)) + message for message in messages)
                connection.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, True)
                connection.sendall(packed[:-4])
                for byte in packed[-4:]:
                    connection.send(bytes([byte]))
                    # So that the server reads them one at a time.
                    time.sleep(0.005)
                for message in messages:
                    self.assertEqual(get_block(connection).decode(), message.decode().upper())

        self.under_each_model("blocks", claim)

    def test_a_block_that_is_cut_short_gets_no_answer(self):
        def claim(server):
            with server.connect() as connection:
                put_block(connection, b"whole")
                connection.sendall(HEADER.pack(100) + b"only the beginning")
                connection.shutdown(socket.SHUT_WR)
                self.assertEqual(get_block(connection), b"WHOLE")
                with self.assertRaises(EOFError):
                    get_block(connection)

        self.under_each_model("blocks", claim)


class Lines(UnderEachModel):
    def test_a_delimiter_ends_a_message_and_what_stands_before_it_is_kept(self):
        def claim(server):
            with server.connect() as connection, connection.makefile("rwb") as lines:
                for line in [b"one\n", b"\n", b"two\r\n", "straße\n".encode()]:
                    lines.write(line)
                    lines.flush()
                    self.assertEqual(lines.readline().decode(), line.decode().upper())

        self.under_each_model("lines", claim)

    def test_a_line_past_the_limit_is_refused_with_its_delimiter_and_without(self):
        def claim(server):
            for end in [b"\n", b""]:
                with server.connect() as connection:
                    connection.sendall(b"good\n" + b"x" * 101 + end)
                    self.assertEqual(receive_all(connection), b"GOOD\n")

        self.under_each_model("lines", claim, "--max-frame", "100")


# ── strings and bytes ────────────────────────────────────────────────────────────────────────────


class Strings(UnderEachModel):
    def test_each_code_point_is_upper_cased_as_python_does_unless_unicode_has_moved_on(self):
        code_points = [chr(code) for code in range(0x110000) if not 0xD800 <= code < 0xE000]
        code_points.remove("\n")
        with Server("upper", "epoll") as server, server.connect() as connection:
            text = "\n".join(code_points).encode()
            sender = threading.Thread(target=finish_after, args=(connection, text))
            sender.start()
            answers = receive_all(connection).decode().split("\n")
            sender.join()
        self.assertEqual(len(answers), len(code_points))
        others = [(c, ours) for c, ours in zip(code_points, answers) if ours != c.upper()]
        # A letter, or its capital, that is younger than the Unicode of this Python. One of a
        # younger Python is unknown to the server, and stays as it is.
        for code_point, ours in others:
            is_younger = any(unicodedata.category(c) == "Cn" for c in code_point + ours)
            self.assertTrue(is_younger or ours == code_point, f"{code_point!r} became {ours!r}")
        self.assertLess(len(others), 200)

    def test_bytes_that_are_no_text_come_back_unchanged(self):
        # Half a surrogate pair, an overlong slash, past the last code point, half a letter.
        invalid = [b"\xed\xa0\x80", b"\xc0\xaf", b"\xe0\x80\xaf", b"\xf4\x90\x80\x80", b"\xc3"]

        def claim(server):
            for sent in invalid:
                with server.connect() as connection:
                    finish_after(connection, b"a" + sent)
                    self.assertEqual(receive_all(connection), b"A" + sent)

        self.under_each_model("upper", claim)


def finish_after(connection, data):
    connection.sendall(data)
    connection.shutdown(socket.SHUT_WR)


# ── datagrams ────────────────────────────────────────────────────────────────────────────────────


class Datagrams(unittest.TestCase):
    def under_each_model(self, service, claim):
        for model in MODELS:
            with self.subTest(model=model), Server(service, model, listen="udp:127.0.0.1:0") as server:
                with socket.socket(socket.AF_INET, socket.SOCK_DGRAM) as client:
                    client.settimeout(PATIENCE)
                    claim(client, (server.host, server.port))

    def test_a_datagram_of_any_size_is_answered_by_itself(self):
        def claim(client, server):
            for message in [MESSAGE, b"", b"x", b"y" * 65507, b"half \xc3", b"\xa9 half"]:
                client.sendto(message, server)
                answer, sender = client.recvfrom(65536)
                self.assertEqual((answer, sender), (message.upper(), server))

        self.under_each_model("upper", claim)

    def test_an_answer_that_does_not_fit_into_a_datagram_does_not_end_the_server(self):
        def claim(client, server):
            client.sendto("ŉ".encode() * 32_753, server)
            client.sendto("straße".encode(), server)
            self.assertEqual(client.recvfrom(65536)[0], b"STRASSE")

        self.under_each_model("upper", claim)


# ── binding ──────────────────────────────────────────────────────────────────────────────────────


class Binding(unittest.TestCase):
    def test_an_ipv6_address_is_bound_and_printed_in_brackets(self):
        with Server("hello", "epoll", listen="[::1]:0") as server:
            with socket.socket(socket.AF_INET6, socket.SOCK_STREAM) as connection:
                connection.settimeout(PATIENCE)
                connection.connect((server.host, server.port))
                self.assertEqual(receive_all(connection), b"Hello ::1\n")

    def test_one_address_only_is_bound(self):
        with Server("echo", "epoll") as server:
            with self.assertRaises(ConnectionRefusedError):
                socket.create_connection(("127.0.0.2", server.port), timeout=PATIENCE)

    def test_a_hundred_clients_wait_in_the_backlog_and_are_served_in_turn(self):
        for model in ["sequential", "pool"]:
            with self.subTest(model=model), Server("upper", model) as server:
                busy = [server.connect() for _ in range(1 if model == "sequential" else 4)]
                for connection in busy:
                    connection.sendall(b"x")
                    self.assertEqual(connection.recv(1), b"X")
                waiting = [server.connect() for _ in range(100)]
                for connection in waiting:
                    finish_after(connection, MESSAGE)
                for connection in busy:
                    connection.close()
                for connection in waiting:
                    with connection:
                        self.assertEqual(receive_all(connection), MESSAGE.upper())

    def test_a_server_listens_again_on_the_port_of_one_whose_clients_were_just_there(self):
        with Server("hello", "epoll") as server:
            port = server.port
            with server.connect() as connection:
                # The server closes first, so that its side stays in TIME_WAIT.
                receive_all(connection)
        with Server("hello", "epoll", listen=f"127.0.0.1:{port}") as server:
            with server.connect() as connection:
                self.assertEqual(receive_all(connection), b"Hello 127.0.0.1\n")

    def test_the_kernel_shows_a_listener_under_the_printed_port(self):
        with Server("echo", "epoll") as server:
            # What netstat reads: the local address in hexadecimal, and the state, 0A for LISTEN.
            with open("/proc/net/tcp") as table:
                rows = [row.split() for row in table]
            local = [row[1] for row in rows if row[3] == "0A"]
            self.assertIn(f"0100007F:{server.port:04X}", local)


# ── formats ──────────────────────────────────────────────────────────────────────────────────────


class Json(UnderEachModel):
    VALUE = ["aéçèà", 1234, [2, 3, 4, 5, 6], {"straße": "straße"}]

    def test_json_passes_through_echo(self):
        def claim(server):
            with server.connect() as connection:
                finish_after(connection, json.dumps(self.VALUE).encode())
                self.assertEqual(json.loads(receive_all(connection)), self.VALUE)

        self.under_each_model("echo", claim)

    def test_a_value_comes_back_with_its_strings_in_upper_case_and_its_names_kept(self):
        expected = ["AÉÇÈÀ", 1234, [2, 3, 4, 5, 6], {"straße": "STRASSE"}]

        def claim(server):
            with server.connect() as connection, connection.makefile("rw", newline="\n") as lines:
                for as_ascii in [True, False]:
                    print(json.dumps(self.VALUE, ensure_ascii=as_ascii), file=lines, flush=True)
                    self.assertEqual(json.loads(lines.readline()), expected)

        self.under_each_model("json", claim)

    def test_numbers_and_names_come_back_as_they_were_written(self):
        text = '{"b": 1.0, "a": 1e400, "b": -0, "c": 12345678901234567890, "d": [-0.0, 1E5]}'

        def parts(text):
            # Python's own reader hands the text of each number to a function.
            number = {"parse_int": str, "parse_float": str}
            return json.loads(text, object_pairs_hook=list, **number)

        def claim(server):
            with server.connect() as connection:
                finish_after(connection, text.encode())
                self.assertEqual(parts(receive_all(connection)), parts(text))

        self.under_each_model("json", claim)

    def test_what_python_cannot_read_is_an_error_and_the_next_value_is_answered(self):
        def claim(server):
            with server.connect() as connection, connection.makefile("rwb") as lines:
                for wrong in [b"not json", b"[1, 2", b"{'a': 1}", b"", b'"\xff"', b"[" * 20_000]:
                    with self.assertRaises((ValueError, RecursionError)):
                        json.loads(wrong)
                    lines.write(wrong + b'\n["next"]\n')
                    lines.flush()
                    self.assertEqual(list(json.loads(lines.readline())), ["error"])
                    self.assertEqual(json.loads(lines.readline()), ["NEXT"])

        self.under_each_model("json", claim)


class Zlib(UnderEachModel):
    TEXT = b"a text of some length, with which compression shows how much it saves on the way. " * 9

    def test_compressed_bytes_pass_through_echo(self):
        def claim(server):
            with server.connect() as connection:
                finish_after(connection, zlib.compress(self.TEXT))
                self.assertEqual(zlib.decompress(receive_all(connection)), self.TEXT)

        self.under_each_model("echo", claim)

    def test_what_was_compressed_is_what_python_decompresses(self):
        def claim(server):
            for text in [self.TEXT, b"", bytes(range(256)) * 3000]:
                with server.connect() as connection:
                    finish_after(connection, text)
                    compressed = receive_all(connection)
                self.assertEqual(zlib.decompress(compressed), text)
                decompressor = zlib.decompressobj()
                self.assertEqual(decompressor.decompress(compressed), text)
                self.assertTrue(decompressor.eof)
                self.assertEqual(decompressor.unused_data, b"")
            self.assertLess(len(compressed), len(text) // 10)

        self.under_each_model("zlib", claim)

    def test_input_past_the_limit_is_no_whole_stream(self):
        def claim(server):
            with server.connect() as connection:
                finish_after(connection, os.urandom(60_000))
                with self.assertRaisesRegex(zlib.error, "incomplete or truncated"):
                    zlib.decompress(receive_all(connection))

        self.under_each_model("zlib", claim, "--max-frame", "50000")


# ── ways of waiting ──────────────────────────────────────────────────────────────────────────────


class Models(UnderEachModel):
    def test_the_second_client_of_a_sequential_server_waits_and_is_served(self):
        with Server("upper", "sequential") as server:
            first = server.connect()
            first.sendall(b"first")
            self.assertEqual(first.recv(100), b"FIRST")
            with server.connect() as second:
                second.sendall(b"second")
                second.settimeout(0.3)
                with self.assertRaises(TimeoutError):
                    second.recv(100)
                first.close()
                second.settimeout(PATIENCE)
                self.assertEqual(second.recv(100), b"SECOND")

    def test_clients_that_end_or_crash_leave_the_server_to_the_others(self):
        def claim(server):
            for leave in [socket.socket.close, reset] * 10:
                connection = server.connect()
                connection.sendall(MESSAGE)
                self.assertEqual(receive_exactly(connection, 5), MESSAGE[:5].upper())
                leave(connection)
            reset(server.connect())
            with server.connect() as connection:
                finish_after(connection, MESSAGE)
                self.assertEqual(receive_all(connection), MESSAGE.upper())

        self.under_each_model("upper", claim)

    def test_two_hundred_idle_clients_leave_a_thread_for_one_more(self):
        with Server("upper", "threads") as server:
            before = server.at_rest()
            idle = [server.connect() for _ in range(200)]
            eventually(lambda: server.threads() >= before[0] + 200)
            with server.connect() as connection:
                finish_after(connection, MESSAGE)
                self.assertEqual(receive_all(connection), MESSAGE.upper())
            for connection in idle:
                connection.close()
            eventually(lambda: server.now() == before)

    def test_a_thread_of_the_pool_comes_back_after_each_client(self):
        for size in [1, 4]:
            with self.subTest(size=size), Server("upper", "pool", "--threads", str(size)) as server:
                threads, _ = server.at_rest(workers=size)
                for number in range(40):
                    connection = server.connect()
                    connection.sendall(MESSAGE)
                    self.assertEqual(receive_exactly(connection, 5), MESSAGE[:5].upper())
                    if number % 2:
                        connection.close()
                    else:
                        reset(connection)
                self.assertEqual(server.threads(), threads)

    def test_a_server_that_waits_in_accept_ends_when_it_is_asked_to(self):
        def claim(server):
            # Long enough for its threads to be waiting in their deepest sleep.
            time.sleep(1.2)
            server.terminate()
            self.assertEqual(server.wait(), 0)

        self.under_each_model("upper", claim)

    def test_a_slow_reader_alone_waits_for_itself(self):
        for model in ["threads", "pool", "poll", "epoll"]:
            with self.subTest(model=model), Server("upper", model) as server:
                with server.connect() as slow, server.connect() as quick:
                    sender = threading.Thread(target=finish_after, args=(slow, b"x" * LARGE))
                    sender.start()
                    for _ in range(100):
                        quick.sendall(MESSAGE)
                        self.assertEqual(receive_exactly(quick, len(MESSAGE)), MESSAGE.upper())
                    # Not a byte of what was kept for it is lost.
                    self.assertEqual(len(receive_all(slow)), LARGE)
                    sender.join()

    def test_after_a_hundred_and_fifty_clients_no_descriptor_is_left(self):
        def claim(server):
            before = server.at_rest()
            for number in range(150):
                connection = server.connect()
                connection.sendall(MESSAGE)
                self.assertEqual(receive_exactly(connection, 5), MESSAGE[:5].upper())
                if number % 3 == 0:
                    reset(connection)
                else:
                    connection.close()
            eventually(lambda: server.now() == before)

        self.under_each_model("upper", claim)


# ── what the slides themselves do ────────────────────────────────────────────────────────────────


class TheSlides(unittest.TestCase):
    def test_the_threads_of_the_pool_of_the_slides_do_not_come_back(self):
        def serve(listener):
            while True:
                connection, _ = listener.accept()
                while True:
                    # Neither loop is left: after the close, the next call is made on nothing.
                    received = connection.recv(4096)
                    if not received:
                        connection.close()
                    else:
                        connection.sendall(received.upper())

        raised = []
        with mock.patch("threading.excepthook", lambda hook: raised.append(hook.exc_value)):
            with socket.create_server(("127.0.0.1", 0)) as listener:
                pool = [threading.Thread(target=serve, args=(listener,)) for _ in range(4)]
                for thread in pool:
                    thread.start()
                for _ in pool:
                    with socket.create_connection(listener.getsockname(), PATIENCE) as client:
                        client.sendall(MESSAGE)
                        answer = receive_exactly(client, len(MESSAGE))
                        self.assertEqual(answer, MESSAGE.upper())
                for thread in pool:
                    thread.join(PATIENCE)
                    self.assertFalse(thread.is_alive())
        # "Bad file descriptor", from each of them: a fifth client would wait for ever.
        self.assertEqual([error.errno for error in raised], [errno.EBADF] * 4)

    def test_the_exception_that_the_slides_retry_after_is_none(self):
        names = {}
        exec("from socket import *", names)
        with names["socket"](socket.AF_INET, socket.SOCK_DGRAM) as client:
            client.bind(("127.0.0.1", 0))
            client.settimeout(0.01)
            # After this import the name is the class, and its attribute no exception: the first
            # datagram that is lost ends the client instead of being sent again.
            with self.assertRaisesRegex(TypeError, "BaseException"):
                try:
                    client.recvfrom(2048)
                except names["socket"].timeout:
                    self.fail("it was caught")


if __name__ == "__main__":
    unittest.main()
