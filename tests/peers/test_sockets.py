"""Python's own sockets as peers, and Python's own str.upper() as the oracle.

Needs nothing but python3; `make test` runs it.
"""

import socket
import struct
import threading
import time
import unittest

from evmux import PATIENCE, Server, UnderEachModel, receive_all

# Letters whose upper case is longer, shorter, elsewhere, or the same.
MIXED = "straße, ŉ ﬁ ΐ, ქართული, ǆ, 漢字, 🦀 and plain text\n"

# More than the buffers of both kernels together: neither side can just send and then read.
LARGE = 8 << 20


class Sockets(UnderEachModel):
    def test_the_answer_is_what_python_says_is_upper_case(self):
        text = MIXED * 1000

        def claim(server):
            with server.connect() as connection:
                threading.Thread(target=finish_after, args=(connection, text.encode())).start()
                self.assertEqual(receive_all(connection).decode(), text.upper())

        self.under_each_model("upper", claim)

    def test_a_letter_that_arrives_byte_by_byte_is_one_letter(self):
        def claim(server):
            with server.connect() as connection:
                connection.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, True)
                for byte in "ßé🦀".encode():
                    connection.send(bytes([byte]))
                    # So that the server reads them one at a time.
                    time.sleep(0.01)
                connection.shutdown(socket.SHUT_WR)
                self.assertEqual(receive_all(connection).decode(), "SSÉ🦀")

        self.under_each_model("upper", claim)

    def test_a_client_that_sends_and_half_closes_before_it_reads_slowly_gets_everything(self):
        def claim(server):
            with server.connect() as connection:
                sender = threading.Thread(target=finish_after, args=(connection, b"x" * LARGE))
                sender.start()
                # Until every buffer on the way is full.
                time.sleep(0.2)
                received = 0
                while part := connection.recv(1 << 18):
                    self.assertEqual(part.strip(b"X"), b"")
                    received += len(part)
                sender.join()
                self.assertEqual(received, LARGE)

        self.under_each_model("upper", claim)

    def test_a_client_in_a_dialogue_is_answered_line_by_line(self):
        def claim(server):
            with server.connect() as connection, connection.makefile("rw", newline="") as lines:
                for number in range(100):
                    lines.write(f"line {number}\r\n")
                    lines.flush()
                    self.assertEqual(lines.readline(), f"LINE {number}\r\n")

        self.under_each_model("lines", claim)

    def test_a_block_is_answered_by_a_block_with_its_own_length(self):
        def claim(server):
            with server.connect() as connection, connection.makefile("rb") as answers:
                for text in ["", "straße", "x" * 100_000]:
                    payload = text.encode()
                    connection.sendall(struct.pack("!I", len(payload)) + payload)
                    (length,) = struct.unpack("!I", answers.read(4))
                    self.assertEqual(answers.read(length).decode(), text.upper())

        self.under_each_model("blocks", claim)

    def test_earlier_answers_reach_a_client_whose_last_block_is_too_long(self):
        blocks = [b"x" * 10_000] * 30

        def claim(server):
            with server.connect() as connection:
                good = b"".join(struct.pack("!I", len(block)) + block for block in blocks)
                bad = struct.pack("!I", 2 << 20) + b"y" * 100_000
                sender = threading.Thread(target=send, args=(connection, good + bad))
                sender.start()
                answers = receive_all(connection)
                sender.join()
                self.assertEqual(answers, good.upper())

        self.under_each_model("blocks", claim)

    def test_a_drained_server_answers_what_had_arrived_and_ends_well(self):
        def claim(server):
            with server.connect() as connection:
                # An answer first: the connection is accepted.
                connection.sendall(b"first\n")
                self.assertEqual(connection.recv(100), b"FIRST\n")
                connection.sendall(b"second\n")
                server.terminate()
                self.assertEqual(receive_all(connection), b"SECOND\n")
            self.assertEqual(server.wait(), 0)

        self.under_each_model("lines", claim)

    def test_a_thousand_clients_at_a_time_are_served_by_one_thread(self):
        for model in ["poll", "epoll"]:
            with self.subTest(model=model), Server("echo", model) as server:
                connections = [server.connect() for _ in range(1000)]
                try:
                    for number, connection in enumerate(connections):
                        connection.sendall(b"%d\n" % number)
                    for number, connection in enumerate(connections):
                        self.assertEqual(connection.recv(100), b"%d\n" % number)
                    with open(f"/proc/{server.process.pid}/status") as status:
                        threads = [line for line in status if line.startswith("Threads:")]
                    # The reactor, and those of the program around it: signals and the log.
                    self.assertLessEqual(int(threads[0].split()[1]), 4)
                finally:
                    for connection in connections:
                        connection.close()

    def test_the_fifth_client_of_a_pool_of_four_waits_and_is_served(self):
        with Server("echo", "pool") as server:
            busy = [server.connect() for _ in range(4)]
            for connection in busy:
                connection.sendall(b"x")
                self.assertEqual(connection.recv(1), b"x")
            with server.connect() as fifth:
                fifth.sendall(b"y")
                fifth.settimeout(0.3)
                with self.assertRaises(TimeoutError):
                    fifth.recv(1)
                busy.pop().close()
                fifth.settimeout(PATIENCE)
                self.assertEqual(fifth.recv(1), b"y")
            for connection in busy:
                connection.close()


def finish_after(connection, data):
    connection.sendall(data)
    connection.shutdown(socket.SHUT_WR)


def send(connection, data):
    connection.sendall(data)


if __name__ == "__main__":
    unittest.main()
