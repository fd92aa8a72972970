"""Those who look at servers for a living: Prometheus, and an operator with a browser.

`make test-peers` runs it, and installs what is missing from Debian. With EVMUX_SCREENSHOTS=DIR the
pictures of the page are kept there.
"""

import contextlib
import json
import os
import socket
import subprocess
import tempfile
import threading
import time
import unittest
import urllib.parse

from browser import LEFT, TAB, browser
from evmux import MODELS, PATIENCE, Server, eventually
from test_admin import ADMIN, get


class Prometheus(unittest.TestCase):
    def test_promtool_has_nothing_to_say_about_the_metrics(self):
        for model in MODELS:
            with self.subTest(model=model), Server("upper", model, *ADMIN) as server:
                _, text = get(f"{server.admin()}/metrics")
                checked = subprocess.run(
                    ["promtool", "check", "metrics"],
                    input=text,
                    capture_output=True,
                    text=True,
                    timeout=PATIENCE,
                )
                said = (checked.returncode, checked.stdout, checked.stderr)
                self.assertEqual(said, (0, "", ""))

    def test_prometheus_scrapes_what_the_clients_did(self):
        with Server("upper", "epoll", *ADMIN) as server, prometheus(server.admin()) as query:
            for _ in range(3):
                with server.connect() as connection:
                    connection.sendall(b"word")
                    connection.recv(4)
            eventually(lambda: query("evmux_connections_opened_total") == [3.0])
            self.assertEqual(query("evmux_received_bytes_total"), [12.0])
            self.assertEqual(query('evmux_build_info{service="upper",model="epoll"}'), [1.0])
            self.assertEqual(query("up"), [1.0])
            longest = query("histogram_quantile(1, evmux_turn_seconds_bucket)")
            self.assertEqual(len(longest), 1)
            self.assertGreater(longest[0], 0)


@contextlib.contextmanager
def prometheus(target):
    """Prometheus itself, which scrapes `target`; yields what asks it for a value."""
    with socket.create_server(("127.0.0.1", 0)) as free:
        own = f"127.0.0.1:{free.getsockname()[1]}"
    with tempfile.TemporaryDirectory() as folder:
        config = {
            "global": {"scrape_interval": "1s"},
            "scrape_configs": [
                {
                    "job_name": "evmux",
                    "static_configs": [{"targets": [urllib.parse.urlsplit(target).netloc]}],
                }
            ],
        }
        with open(f"{folder}/prometheus.yml", "w") as file:
            # JSON is YAML.
            json.dump(config, file)
        command = ["prometheus", f"--config.file={folder}/prometheus.yml"]
        command += [f"--storage.tsdb.path={folder}/data", f"--web.listen-address={own}"]
        process = subprocess.Popen([*command, "--log.level=error"])

        def query(text):
            """The values of its samples; none while it is not there."""
            try:
                answer = get(f"http://{own}/api/v1/query?query={urllib.parse.quote(text)}")[1]
            except OSError:
                return []
            return [float(sample["value"][1]) for sample in json.loads(answer)["data"]["result"]]

        try:
            yield query
        finally:
            process.terminate()
            process.wait(timeout=PATIENCE)


class LivePage(unittest.TestCase):
    """The page in Chromium, beside clients."""

    @classmethod
    def setUpClass(cls):
        cls.stack = contextlib.ExitStack()
        try:
            cls.browser = cls.stack.enter_context(browser())
            cls.server = cls.stack.enter_context(Server("echo", "epoll", *ADMIN))
            cls.url = cls.server.admin()
        except BaseException:
            cls.stack.close()
            raise

    @classmethod
    def tearDownClass(cls):
        cls.stack.close()

    def setUp(self):
        self.browser.show(1280, "light")
        self.browser.console()
        self.browser.requests()

    def assert_quiet(self):
        """That the page complained of nothing, and asked nobody else."""
        self.assertEqual(self.browser.console(), [])
        asked = self.browser.requests()
        self.assertTrue(asked)
        for url in asked:
            self.assertTrue(url.startswith(f"{self.url}/"), url)

    def chart(self, title):
        """The text of the chart of this title, and what it has drawn."""
        return self.browser.run(
            """
            const chart = [...document.querySelectorAll(".chart")]
                .find((chart) => chart.querySelector("h2").textContent === arguments[0]);
            return [chart.querySelector(".keys").innerText,
                    chart.querySelector("path").getAttribute("d") ?? ""];
            """,
            title,
        )

    def test_under_load_the_numbers_move_and_a_slow_reader_is_seen_and_it_looks_well(self):
        self.browser.open(f"{self.url}/")
        with load(self.server), slow_reader(self.server) as name:
            for title in ["Open connections", "Bytes a second", "Calls a second", "Turn of a loop"]:
                eventually(lambda: "L" in self.chart(title)[1])
                first = self.chart(title)[1]
                eventually(lambda: self.chart(title)[1] != first)
            eventually(lambda: "iB" in self.chart("Bytes a second")[0])
            eventually(lambda: self.browser.text("#connections td") == name)
            row = self.browser.run(
                "return [...document.querySelectorAll('#connections tr:first-child td')]"
                ".map((cell) => cell.innerText)"
            )
            self.assertEqual(row[1], "paused")
            self.assertRegex(row[6], r" [KMG]iB$")
            self.assertRegex(row[7], r" [KMG]iB$")
            self.assertEqual(self.browser.text("#state"), "serving")
            self.look("load")
        self.assert_quiet()

    def look(self, what):
        """That it can be read and fits, at both widths and in both schemes."""
        for width in [1280, 390]:
            for scheme in ["light", "dark"]:
                self.browser.show(width, scheme)
                wide = self.browser.run("return document.documentElement.scrollWidth - innerWidth")
                self.assertLessEqual(wide, 0, f"{width} {scheme}")
                self.assertEqual(self.browser.run(FAINT), [], f"{width} {scheme}")
                if folder := os.environ.get("EVMUX_SCREENSHOTS"):
                    self.browser.screenshot(f"{folder}/{what}-{width}-{scheme}.png")

    def test_everything_is_reached_by_the_keyboard(self):
        self.browser.open(f"{self.url}/")
        eventually(lambda: self.browser.text("#state") == "serving")
        reached = []
        expected = ["span", "cursor", "hold", "connections-title", "threads-title"]
        expected += ["/metrics", "/healthz", "/readyz", "/data.json"]
        for _ in expected:
            self.browser.press(TAB)
            reached.append(
                self.browser.run(
                    "const it = document.activeElement; return it.id"
                    " || it.getAttribute('aria-labelledby') || it.getAttribute('href')"
                )
            )
            if reached[-1] == "cursor":
                self.browser.press(LEFT)
                self.assertEqual(self.browser.text("#moment"), "1 s ago")
            outline = "return getComputedStyle(document.activeElement).outlineStyle"
            self.assertEqual(self.browser.run(outline), "solid", reached)
        self.assertEqual(reached, expected)
        self.assert_quiet()

    def test_a_loop_that_is_stuck_is_said_to_be(self):
        with Server("busy", "epoll", "--busy", "1h", *ADMIN) as server:
            self.browser.open(f"{server.admin()}/")
            with server.connect() as connection:
                connection.sendall(b"a line\n")
                eventually(lambda: "a serving loop left its wait" in self.browser.text("#state"))
                self.assertEqual(self.browser.run("return state.className"), "alarm")
                note = self.browser.text("#connections-note")
                self.assertEqual(note, "The loop that has them does not answer.")
            server.kill()

    def test_a_server_that_goes_away_is_said_to_and_one_that_comes_back_is_shown(self):
        with Server("echo", "epoll", *ADMIN) as server:
            url = server.admin()
            self.browser.open(f"{url}/")
            eventually(lambda: self.browser.text("#state") == "serving")
        eventually(lambda: self.browser.text("#state").startswith("no answer since "))
        again = urllib.parse.urlsplit(url).netloc
        with Server("upper", "poll", "--admin", again):
            eventually(lambda: self.browser.text("#state") == "serving")
            self.assertIn("service upper, model poll", self.browser.text("h1"))


@contextlib.contextmanager
def load(server):
    """Clients that ask all the time."""
    over = threading.Event()

    def client():
        while not over.is_set():
            with server.connect() as connection:
                for _ in range(50):
                    connection.sendall(b"x" * 4096)
                    connection.recv(4096)
                    over.wait(0.005)

    clients = [threading.Thread(target=client) for _ in range(4)]
    for thread in clients:
        thread.start()
    try:
        yield
    finally:
        over.set()
        for thread in clients:
            thread.join()


@contextlib.contextmanager
def slow_reader(server):
    """One who sends until nothing more fits, and reads nothing; its name."""
    with server.connect() as connection:
        connection.settimeout(2)
        with contextlib.suppress(TimeoutError):
            while True:
                connection.sendall(b"x" * (1 << 16))
        yield "{}:{}".format(*connection.getsockname())


# The texts whose contrast with what is behind them is below 4.5, as WCAG 2 computes it.
FAINT = """
    const light = (color) => {
        const [r, g, b] = color.match(/[0-9.]+/g).slice(0, 3).map((part) => part / 255)
            .map((part) => part <= 0.04045 ? part / 12.92 : ((part + 0.055) / 1.055) ** 2.4);
        return 0.2126 * r + 0.7152 * g + 0.0722 * b;
    };
    const ground = (element) => {
        for (; element; element = element.parentElement) {
            const color = getComputedStyle(element).backgroundColor;
            if (color !== "rgba(0, 0, 0, 0)") return color;
        }
        return "rgb(255, 255, 255)";
    };
    return [...document.querySelectorAll("body *")]
        .filter((element) => element.offsetParent && [...element.childNodes]
            .some((node) => node.nodeType === 3 && node.textContent.trim()))
        .map((element) => {
            const pair = [light(getComputedStyle(element).color), light(ground(element))];
            const [less, more] = pair.sort((a, b) => a - b);
            return [element.outerHTML.slice(0, 80), (more + 0.05) / (less + 0.05)];
        })
        .filter(([, contrast]) => contrast < 4.5);
"""


if __name__ == "__main__":
    unittest.main()
