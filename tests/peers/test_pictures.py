"""The pictures of docs/study in Chromium, at the width of a screen and of a phone.

`make test-peers` runs it. With EVMUX_SCREENSHOTS=DIR a page of all of them is kept there.
"""

import os
import pathlib
import tempfile
import unittest

from browser import browser
from test_timeline import STUDY

# The texts that reach beyond the picture, or lie upon each other.
LOST = """
    const edge = document.documentElement.getBoundingClientRect();
    const texts = [...document.querySelectorAll("text")]
        .map((text) => [text.textContent, text.getBoundingClientRect()])
        .filter(([, box]) => box.width > 0);
    const beyond = texts.filter(([, box]) => box.left < edge.left || box.right > edge.right
        || box.top < edge.top - 1 || box.bottom > edge.bottom + 1);
    const covered = texts.flatMap(([text, a], index) => texts.slice(index + 1)
        .filter(([, b]) => a.left < b.right && b.left < a.right
            && a.top + a.height / 4 < b.bottom - b.height / 4
            && b.top + b.height / 4 < a.bottom - a.height / 4)
        .map(([other]) => [text, other]));
    return [texts.length, beyond.map(([text]) => text), covered];
"""

# By itself a picture is as wide as it says; on a page it is no wider than that.
FIT = """
    document.documentElement.removeAttribute("height");
    document.documentElement.setAttribute("width", "100%");
"""


class Pictures(unittest.TestCase):
    def test_at_each_width_and_in_each_scheme_every_text_can_be_read(self):
        with browser() as window:
            for picture in sorted(STUDY.glob("*.svg")):
                for width in [1000, 390]:
                    with self.subTest(picture=picture.name, width=width):
                        window.show(width, "light")
                        window.open(picture.as_uri())
                        if width < 600:
                            window.run(FIT)
                        count, beyond, covered = window.run(LOST)
                        self.assertGreater(count, 3)
                        self.assertEqual((beyond, covered), ([], []))
            self.assertEqual(window.console(), [])
            self.look(window)

    def look(self, window):
        """All of them on a page, as a browser shows them there, which runs no script of theirs."""
        names = sorted(path for kind in ("svg", "png") for path in STUDY.glob(f"*.{kind}"))
        images = "".join(f"<p><img src='{path.as_uri()}' alt='{path.name}'></p>" for path in names)
        style = "<style>:root { color-scheme: light dark } img { max-width: 100% }</style>"
        with tempfile.TemporaryDirectory() as folder:
            page = pathlib.Path(folder, "page.html")
            phone = "<meta name=viewport content='width=device-width'>"
            page.write_text(f"<!DOCTYPE html><meta charset=utf-8>{phone}{style}{images}")
            for width in [1000, 390]:
                for scheme in ["light", "dark"]:
                    window.show(width, scheme)
                    window.open(page.as_uri())
                    broken = "return [...document.images].filter((it) => !it.naturalWidth).length"
                    self.assertEqual(window.run(broken), 0)
                    wide = "return document.documentElement.scrollWidth - innerWidth"
                    self.assertLessEqual(window.run(wide), 0)
                    if pictures := os.environ.get("EVMUX_SCREENSHOTS"):
                        window.screenshot(f"{pictures}/study-{width}-{scheme}.png")


if __name__ == "__main__":
    unittest.main()
