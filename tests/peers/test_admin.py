"""The admin pages as any HTTP client of Python's reads them."""

import json
import unittest
import urllib.error
import urllib.request

from evmux import PATIENCE, Server, UnderEachModel, eventually, receive_all

ADMIN = ("--admin", "127.0.0.1:0")


def get(url):
    with urllib.request.urlopen(url, timeout=PATIENCE) as response:
        return response.headers, response.read().decode()


def metrics(url):
    """Each sample by its name, its labels included."""
    _, text = get(f"{url}/metrics")
    lines = [line for line in text.splitlines() if not line.startswith("#")]
    return {name: float(value) for name, value in (line.rsplit(" ", 1) for line in lines)}


class AdminPages(UnderEachModel):
    def test_the_counters_are_those_of_the_clients(self):
        def claim(server):
            url = server.admin()
            for word in [b"one", b"two", b"three"]:
                with server.connect() as connection:
                    connection.sendall(word)
                    connection.shutdown(1)
                    self.assertEqual(receive_all(connection), word.upper())
            closed = 'evmux_connections_closed_total{reason="finished"}'
            eventually(lambda: metrics(url)[closed] == 3)
            now = metrics(url)
            self.assertEqual(now["evmux_received_bytes_total"], 11)
            self.assertEqual(now["evmux_sent_bytes_total"], 11)
            self.assertEqual(now["evmux_connections_open"], 0)
            for path in ["/healthz", "/readyz"]:
                self.assertEqual(get(url + path)[1], "ok\n")
            _, data = get(f"{url}/data.json")
            self.assertEqual(json.loads(data)["counted"]["opened"], 3)

        self.under_each_model("upper", claim, *ADMIN)

    def test_a_histogram_grows_with_its_bounds_up_to_its_count(self):
        with Server("upper", "epoll", *ADMIN) as server:
            url = server.admin()
            with server.connect() as connection:
                for _ in range(20):
                    connection.sendall(b"x")
                    connection.recv(1)
            now = metrics(url)
            for name in ["evmux_turn_seconds", "evmux_loop_lag_seconds", "evmux_wait_events"]:
                counts = [value for key, value in now.items() if key.startswith(f"{name}_bucket")]
                self.assertEqual(counts, sorted(counts))
                self.assertEqual(counts[-1], now[f"{name}_count"])
            self.assertGreater(now["evmux_turn_seconds_count"], 0)

    def test_the_page_brings_everything_from_here_and_says_what_it_is_without_javascript(self):
        with Server("upper", "epoll", *ADMIN) as server:
            url = server.admin()
            headers, page = get(f"{url}/")
            self.assertEqual(headers.get_content_type(), "text/html")
            self.assertIn("default-src 'none'", headers["Content-Security-Policy"])
            self.assertNotIn("http:", page)
            self.assertNotIn("https:", page)
            self.assertIn('<a href="/metrics">', page.split("<noscript>")[1].split("</noscript>")[0])
            for path, kind in [
                ("/page.css", "text/css"),
                ("/page.js", "text/javascript"),
                ("/icon.svg", "image/svg+xml"),
            ]:
                self.assertIn(path, page)
                self.assertEqual(get(url + path)[0].get_content_type(), kind)

    def test_what_is_not_there_is_a_404(self):
        with Server("upper", "epoll", *ADMIN) as server:
            with self.assertRaises(urllib.error.HTTPError) as failure:
                get(f"{server.admin()}/nothing")
            self.assertEqual(failure.exception.code, 404)
            failure.exception.close()


if __name__ == "__main__":
    unittest.main()
