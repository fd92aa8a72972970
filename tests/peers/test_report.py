"""The report of `evmux compare`, in Chromium.

`make test-peers` runs it. With EVMUX_SCREENSHOTS=DIR the pictures are kept there.
"""

import json
import os
import pathlib
import subprocess
import tempfile
import unittest

from browser import browser
from evmux import PATIENCE
from test_monitors import FAINT

# The texts of the charts that reach beyond their picture, or that are smaller than can be read.
LOST = """
    return [...document.querySelectorAll("figure > svg")].flatMap((picture) => {
        const edge = picture.getBoundingClientRect();
        return [...picture.querySelectorAll("text")].map((text) => {
            const box = text.getBoundingClientRect();
            const inside = box.left >= edge.left - 1 && box.right <= edge.right + 1
                && box.top >= edge.top - 1 && box.bottom <= edge.bottom + 1;
            return [text.textContent, inside && Math.min(box.height, box.width) >= 5];
        });
    }).filter(([, fine]) => !fine);
"""

# What a reader of the screen is told of each chart.
TOLD = """
    return [...document.querySelectorAll("figure > svg")].map((picture) =>
        picture.getAttribute("aria-labelledby").split(" ")
            .map((id) => document.getElementById(id)?.textContent ?? ""));
"""


class Report(unittest.TestCase):
    def test_it_can_be_read_at_each_width_and_in_each_scheme_and_asks_nobody(self):
        with tempfile.TemporaryDirectory() as folder, browser() as window:
            command = [os.environ["EVMUX"], "compare", "--models", "sequential,epoll"]
            command += ["--connections", "1,20", "--rounds", "1"]
            # A name as long as a user may choose one.
            script = pathlib.Path(folder, "server.py")
            script.write_text(SERVER)
            name = "a server with a very long name & <angles>"
            command += ["--against", f"{name}=python3 {script} {{port}}"]
            command += ["--duration", "150ms", "--out", folder]
            subprocess.run(command, check=True, capture_output=True, timeout=8 * PATIENCE)
            results = json.loads(pathlib.Path(folder, "results.json").read_text())
            self.assertTrue(results["complete"])

            address = pathlib.Path(folder, "report.html").as_uri()
            for width in [1280, 390]:
                for scheme in ["light", "dark"]:
                    with self.subTest(width=width, scheme=scheme):
                        window.show(width, scheme)
                        window.open(address)
                        wide = "return document.documentElement.scrollWidth - innerWidth"
                        self.assertLessEqual(window.run(wide), 0)
                        self.assertEqual(window.run(FAINT), [])
                        self.assertEqual(window.run(LOST), [])
                        if pictures := os.environ.get("EVMUX_SCREENSHOTS"):
                            window.screenshot(f"{pictures}/report-{width}-{scheme}.png")
            charts = window.run(TOLD)
            self.assertEqual(len(charts), 10)
            for title, description in charts:
                self.assertTrue(title and description)
            # Each point says its figures.
            points = "return document.querySelectorAll('.mark > title').length"
            self.assertGreater(window.run(points), 20)
            self.assertIn(name, window.text("body"))
            self.assertEqual(window.console(), [])
            asked = {url for url in window.requests() if not url.startswith("data:")}
            self.assertEqual(asked, {address})


SERVER = """
import socketserver, sys
class Upper(socketserver.BaseRequestHandler):
    def handle(self):
        while data := self.request.recv(65536):
            self.request.sendall(data.upper())
class Server(socketserver.ThreadingTCPServer):
    allow_reuse_address = daemon_threads = True
Server(("127.0.0.1", int(sys.argv[1])), Upper).serve_forever()
"""


if __name__ == "__main__":
    unittest.main()
